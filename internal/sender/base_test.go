package sender

import (
	"strings"
	"testing"
)

func TestValidateBase(t *testing.T) {
	for _, base := range []string{
		"https://api.stripe.com", "https://api.stripe.com/", "https://API.Stripe.com", "https://api.stripe.com:443",
		"https://meter-events.stripe.com", "http://127.0.0.1:12111", "https://127.0.0.1:12111", "http://localhost:80/",
		"http://[::1]:8080", "http://127.1.2.3", "HTTPS://api.stripe.com", "http://[::ffff:127.0.0.1]:1",
	} {
		if err := ValidateBase(base); err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
	for _, base := range []string{
		"", "api.stripe.com", "//api.stripe.com", "https:api.stripe.com", "https://", "https:///x", "file:///", "file:///etc/passwd",
		"http://api.stripe.com", "https://api.stripe.com@evil", "https://api.stripe.com.evil", "https://evil/api.stripe.com",
		"https://evil#api.stripe.com", "https://evil?api.stripe.com", "https://stripe.com", "https://x.api.stripe.com",
		"https://api.stripe.com.", "https://api.stripe.com:8443", "https://api.stripe.com:", "https://api.stripe.com/v1",
		"https://api.stripe.com?", "https://api.stripe.com#", "https://api.stripe.com?a=b", "https://api.stripe.com//",
		"https://user:pass@api.stripe.com", "http://user@127.0.0.1", "http://127.0.0.1.evil", "http://localhost.evil",
		"http://10.0.0.1", "http://0.0.0.0", "http://[::]", "http://[fe80::1%25lo]", "http://[::1%25eth0]", "http://2130706433",
		"ftp://127.0.0.1", "https://api.stripe.com\n", " https://api.stripe.com", "https://api.stripe.com\\@evil", "https://api%2estripe.com",
		"https://аpi.stripe.com", // Cyrillic
	} {
		err := ValidateBase(base)
		if err == nil {
			t.Errorf("%q was accepted", base)
			continue
		}
		if !strings.Contains(err.Error(), baseRemedy) {
			t.Errorf("%q: no remedy in %q", base, err)
		}
	}
}

func TestBaseErrorNamesTheValueButNoSecret(t *testing.T) {
	err := ValidateBase("https://evil.example")
	if !strings.Contains(err.Error(), `"https://evil.example"`) {
		t.Errorf("value is missing: %v", err)
	}
	for _, base := range []string{"https://user:hunter2@api.stripe.com", "https://" + testKey + "@api.stripe.com", testKey, "https://x/" + testKey, "://u:hunter2@x"} {
		err := ValidateBase(base)
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "51abc") {
			t.Errorf("a secret in %q", err)
		}
	}
}

// Names without a dot belong to private networks. What only looks like one is refused.
func TestStandInBase(t *testing.T) {
	tests := []struct {
		base            string
		valid, standsIn bool
	}{
		{"https://simulator", true, true},
		{"https://simulator:12111/", true, true},
		{"https://stripe-2", true, true},
		{"http://simulator:12111", false, true},
		{"https://simulator.", false, false},
		{"https://simulator.default.svc", false, false},
		{"https://-x", false, false},
		{"https://2130706433", false, false},
		{"https://0x7f000001", false, false},
		{"https://SIMULATOR", false, false},
		{"https://" + testKey, false, false},
		{"https://127.0.0.1", true, false},
		{"https://localhost:1", true, false},
		{"https://[::1]", true, false},
		{"https://[fe80::1]", false, false},
		{"https://api.stripe.com", true, false},
		{"", false, false},
	}
	for _, tt := range tests {
		if err := ValidateBase(tt.base); (err == nil) != tt.valid {
			t.Errorf("%q: %v", tt.base, err)
		}
		if StandInBase(tt.base) != tt.standsIn {
			t.Errorf("%q: stand-in is %t", tt.base, !tt.standsIn)
		}
	}
}

// A resolver may say anything of localhost.
func TestLoopbackBaseConnectsToLoopbackOnly(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "10.0.0.1:80": false, "[2001:db8::1]:80": false, "x": false,
	} {
		if got := onlyLoopback("tcp", address, nil) == nil; got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
