package sender

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestParseKey(t *testing.T) {
	for s, live := range map[string]bool{
		testKey: false, testKey + "\n": false, testKey + "\r\n": false, "rk_test_1": false,
		"sk_live_51abc": true, "rk_live_51abc\n": true, "sk_live_" + strings.Repeat("x", maxKey-8): true,
		"sk_test_live_": false,
	} {
		key, err := ParseKey(s)
		if err != nil || key.Live() != live || key.Reveal() != strings.TrimRight(s, "\r\n") {
			t.Errorf("%q: live %v, %v", s, key.Live(), err)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	const secret = "51abcDEF"
	for s, want := range map[string]string{
		"":                                      "empty",
		"\n":                                    "empty",
		"pk_test_" + secret:                     "publishable key",
		"whsec_" + secret:                       "webhook signing secret",
		"sk_org_live_" + secret:                 "organization key",
		"ek_test_" + secret:                     "ephemeral key",
		"acct_" + secret:                        "account id",
		"\ufeffsk_test_" + secret:               "byte order mark",
		"\"sk_test_" + secret + "\"":            "quotes",
		"Bearer sk_test_" + secret:              "header",
		"/run/secrets/" + secret:                "STRIPE_API_KEY_FILE",
		"sk_test_" + secret + "\n\n":            "line break",
		"sk_test_" + secret + "\nX: y":          "line break",
		" sk_test_" + secret:                    "white space",
		"sk_test_" + secret + " ":               "white space",
		"sk_test_" + secret + "\t":              "white space",
		"sk_test_" + secret + "\x00":            "no key has",
		"sk_test_" + secret + "\ufeff":          "no key has",
		"sk_test_" + secret + "é":               "no key has",
		"sk_test_" + secret + "\u00a0":          "no key has",
		"sk_test_":                              "not a key",
		"sk_" + secret:                          "not a key",
		"SK_TEST_" + secret:                     "not a key",
		"xsk_test_" + secret:                    "not a key",
		secret:                                  "not a key",
		"sk_live_" + strings.Repeat(secret, 32): "at most 255",
	} {
		key, err := ParseKey(s)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "needed is") {
			t.Errorf("%q: %v, want %q", s, err, want)
			continue
		}
		if strings.Contains(err.Error(), secret) || key.Reveal() != "" {
			t.Errorf("%q shows in %v", s, err)
		}
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	key, err := ParseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Public  Key
		private Key
		Pointer *Key
	}
	h := holder{key, key, &key}
	var logged bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(&logged), zap.DebugLevel))
	logger.Info("", zap.Any("a", key), zap.Stringer("s", key), zap.Reflect("r", h), zap.Any("h", h))
	slog.New(slog.NewTextHandler(&logged, nil)).Info("", "key", key, "h", h)
	texts := []string{logged.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		texts = append(texts, fmt.Sprintf(verb, key), fmt.Sprintf(verb, &key), fmt.Sprintf(verb, h), fmt.Sprintf(verb, []Key{key}))
	}
	encoded, err := json.Marshal(map[string]any{"k": key, "h": h})
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(encoded))
	for _, text := range texts {
		if strings.Contains(text, "51abc") || strings.Contains(text, "6789") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "51abc")) {
			t.Errorf("the key shows in %s", text)
		}
	}
	if key.String() != "sk_test_…" || !strings.Contains(string(encoded), "sk_test_…") || h.private.GoString() != "sk_test_…" {
		t.Errorf("kind and mode are missing: %v %s", key, encoded)
	}
}
