package sender

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// maxKey bounds a key in bytes: Stripe's have about 110, and the request's
// headers stay small with it.
const maxKey = 255

// Key is a valid secret or restricted API key. Every way of printing it shows
// its kind and mode only. The zero Key is none.
type Key struct {
	secret *string // a pointer: fmt does not follow it where the Key is a field
}

const keyRemedy = "needed is a secret key (sk_test_…, sk_live_…) or a restricted key (rk_test_…, rk_live_…)"

var keyPrefixes = []string{"sk_test_", "sk_live_", "rk_test_", "rk_live_"}

// otherKinds are what is found in a key's place by mistake, by their first letters.
var otherKinds = []struct{ prefix, what string }{
	{"\ufeff", "this starts with a byte order mark: save the file without one"},
	{"pk_", "this is a publishable key, which cannot send usage"},
	{"whsec_", "this is a webhook signing secret"},
	{"sk_org_", "this is an organization key"},
	{"rk_org_", "this is an organization key"},
	{"ek_", "this is an ephemeral key"},
	{"acct_", "this is an account id"},
	{"\"", "this is in quotes: remove them"},
	{"'", "this is in quotes: remove them"},
	{"Bearer", "this is a whole header: leave the key only"},
	{"/", "this is a path: give it as STRIPE_API_KEY_FILE"},
}

// ParseKey reads a key. One newline at the end, as files have it, is not part of
// it. The error says what s is instead, and never repeats it.
func ParseKey(s string) (Key, error) {
	s = strings.TrimSuffix(s, "\n")
	s = strings.TrimSuffix(s, "\r")
	if problem := keyProblem(s); problem != nil {
		return Key{}, fmt.Errorf("Stripe API key: %w; %s", problem, keyRemedy)
	}
	return Key{&s}, nil
}

// parsedKey is ParseKey of the last good key: the same for each attempt until it is
// rotated.
type parsedKey struct{ last atomic.Pointer[parsed] }

type parsed struct {
	text string
	key  Key
}

func (p *parsedKey) of(s string) (Key, error) {
	if last := p.last.Load(); last != nil && last.text == s {
		return last.key, nil
	}
	key, err := ParseKey(s)
	if err == nil {
		p.last.Store(&parsed{s, key})
	}
	return key, err
}

func keyProblem(s string) error {
	if s == "" {
		return errors.New("this is empty")
	}
	for _, other := range otherKinds {
		if strings.HasPrefix(s, other.prefix) {
			return errors.New(other.what)
		}
	}
	for _, c := range []byte(s) {
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			return errors.New("this has white space or a line break in it")
		case c < ' ' || c > '~':
			return errors.New("this has characters in it that no key has")
		}
	}
	if len(s) > maxKey {
		return fmt.Errorf("this has %d characters, a key has at most %d", len(s), maxKey)
	}
	if prefix := keyPrefix(s); prefix == "" || prefix == s {
		return errors.New("this is not a key for Stripe's API")
	}
	return nil
}

func keyPrefix(s string) string {
	for _, prefix := range keyPrefixes {
		if strings.HasPrefix(s, prefix) {
			return prefix
		}
	}
	return ""
}

// Reveal returns the secret, for the Authorization header alone; "" for the zero Key.
func (k Key) Reveal() string {
	if k.secret == nil {
		return ""
	}
	return *k.secret
}

// Live reports whether the key is of live mode.
func (k Key) Live() bool { return strings.HasSuffix(keyPrefix(k.Reveal()), "_live_") }

// Equal reports whether both are the same key.
func (k Key) Equal(other Key) bool { return k.Reveal() == other.Reveal() }

// String is the key's kind and mode, as in "sk_test_…".
func (k Key) String() string { return keyPrefix(k.Reveal()) + "…" }

// GoString is String: %#v shows no more.
func (k Key) GoString() string { return k.String() }

// Format is String for every verb, also those that would print the fields.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for JSON and YAML.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

func modeName(live bool) string {
	if live {
		return "live"
	}
	return "test"
}
