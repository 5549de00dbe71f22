package usage_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/usage"
)

func TestTokens(t *testing.T) {
	for decoded, token := range map[string]string{
		"api_calls": "api_calls", "A-Z_09": "A-Z_09", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", "=": "=3D", " ": "=20",
		"é": "=C3=A9", "\x00": "=00", "\xff": "=FF", "../": "=2E=2E=2F", "=2E": "=3D2E",
	} {
		if got := usage.EncodeToken(decoded); got != token {
			t.Errorf("EncodeToken(%q) = %q, want %q", decoded, got, token)
		}
		if got, err := usage.DecodeToken(token); err != nil || got != decoded {
			t.Errorf("DecodeToken(%q) = %q, %v, want %q", token, got, err, decoded)
		}
	}
	for _, token := range []string{"=", "=2", "a=", "a=2", "=2e", "=2G", "=G2", "=41", "=5F", "=2D", "=30", "==", "a.b", "*", "é", " ", "=2E.", "%2E"} {
		if got, err := usage.DecodeToken(token); err == nil {
			t.Errorf("DecodeToken(%q) = %q, want an error: it is not canonical", token, got)
		}
	}
}

func TestSubjects(t *testing.T) {
	if got := usage.EventsSubject("api.calls", "cus 1"); got != "usage.events.api=2Ecalls.cus=201" {
		t.Errorf("EventsSubject: %q", got)
	}
	if got := usage.ReplaySubject("api.calls", "cus 1"); got != "usage.replay.api=2Ecalls.cus=201" {
		t.Errorf("ReplaySubject: %q", got)
	}
}

var tokenShape = regexp.MustCompile(`^([A-Za-z0-9_-]|=[0-9A-F]{2})*$`)

// checkToken holds for every string: the encoding comes back, and is one token.
func checkToken(t interface{ Errorf(string, ...any) }, s string) {
	token := usage.EncodeToken(s)
	if !tokenShape.MatchString(token) {
		t.Errorf("EncodeToken(%q) = %q, want one token of a subject", s, token)
	}
	if back, err := usage.DecodeToken(token); err != nil || back != s {
		t.Errorf("DecodeToken(EncodeToken(%q)) = %q, %v", s, back, err)
	}
	if decoded, err := usage.DecodeToken(s); err == nil && usage.EncodeToken(decoded) != s {
		t.Errorf("DecodeToken(%q) = %q, whose encoding is %q: two subjects for one customer", s, decoded, usage.EncodeToken(decoded))
	}
}

func TestTokenProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkToken(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
		checkToken(t, rapid.StringMatching(`([A-Za-z0-9_=.-]|=[0-9A-Fa-f]{2}){0,20}`).Draw(t, "token"))
	})
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "api_calls", "a.b", "=2E", "=2e", "=41", "=", "é", strings.Repeat("=FF", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkToken(t, s) })
}
