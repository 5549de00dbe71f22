package simulator

import (
	"net/http"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	tests := []struct {
		name   string
		listed []string
		revoke string
		key    string
		status int
		code   string
	}{
		{"test key", nil, "", "sk_test_1", 200, ""},
		{"restricted test key", nil, "", "rk_test_1", 200, ""},
		{"live key that is not listed", nil, "", "sk_live_1", 401, "api_key_invalid"},
		{"live key that is listed", []string{"sk_live_1"}, "", "sk_live_1", 200, ""},
		{"test key that is not listed", []string{"sk_live_1"}, "", "sk_test_1", 401, "api_key_invalid"},
		{"publishable key", nil, "", "pk_test_1", 401, "secret_key_required"},
		{"webhook secret", nil, "", "whsec_1", 401, "api_key_invalid"},
		{"bare prefix", nil, "", "sk_test_", 401, "api_key_invalid"},
		{"revoked", nil, "sk_test_1", "sk_test_1", 401, "api_key_expired"},
		{"another is revoked", nil, "sk_test_2", "sk_test_1", 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{Keys: tt.listed})
			if tt.revoke != "" {
				b.RevokeKey(tt.revoke)
			}
			r := b.request(http.MethodGet, "/v1/account", "", "")
			r.Header.Set("Authorization", "Bearer "+tt.key)
			got := b.do(r)
			b.want(got, tt.status, tt.code)
			if len(tt.key) > len("sk_test_") && strings.Contains(got.body, tt.key) {
				t.Errorf("the answer holds the key: %s", got.body)
			}
		})
	}
}

func TestKeyRotation(t *testing.T) {
	b := newBench(t, Config{Keys: []string{testKey}})
	b.want(b.send("id-1"), 200, "")
	b.SetKeys("sk_test_new")
	b.want(b.send("id-2"), 401, "api_key_invalid")
	b.SetKeys(testKey, "sk_test_new")
	b.want(b.send("id-2"), 200, "")
	b.RevokeKey(testKey)
	b.want(b.send("id-3"), 401, "api_key_expired")
	b.SetKeys(testKey)
	b.want(b.send("id-3"), 200, "")
}

func TestAccountSaysItsMode(t *testing.T) {
	b := newBench(t, Config{Keys: []string{testKey, liveKey}})
	for _, path := range []string{"/v1/account", "/v1/balance"} {
		for key, live := range map[string]bool{testKey: false, liveKey: true} {
			r := b.request(http.MethodGet, path, "", "")
			r.Header.Set("Authorization", "Bearer "+key)
			if got := b.do(r).object(t)["livemode"]; got != live {
				t.Errorf("%s: livemode %v, want %v", path, got, live)
			}
		}
	}
}
