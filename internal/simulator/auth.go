package simulator

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
)

var secretKey = regexp.MustCompile(`^[sr]k_(test|live)_[A-Za-z0-9_]+$`)

// keyring holds the accepted keys. No text made here holds a key.
type keyring struct {
	mu      sync.Mutex
	listed  map[string]bool // empty: every well-formed test key
	revoked map[string]bool
}

func (k *keyring) set(keys []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listed = make(map[string]bool, len(keys))
	if k.revoked == nil {
		k.revoked = make(map[string]bool)
	}
	for _, key := range keys {
		k.listed[key] = true
		delete(k.revoked, key)
	}
}

func (k *keyring) revoke(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked[key] = true
}

// refusal is nil for an accepted key.
func (k *keyring) refusal(key string) *apiError {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case key == "":
		return &apiError{Code: "api_key_missing", Message: "You did not provide an API key. Use the Authorization header with Bearer auth."}
	case k.revoked[key]:
		return &apiError{Code: "api_key_expired", Message: "Expired API Key provided: " + redact(key)}
	case strings.HasPrefix(key, "pk_"):
		return &apiError{Code: "secret_key_required", Message: "This API call cannot be made with a publishable API key."}
	case !secretKey.MatchString(key), len(k.listed) > 0 && !k.listed[key], len(k.listed) == 0 && isLive(key):
		return &apiError{Code: "api_key_invalid", Message: "Invalid API Key provided: " + redact(key)}
	}
	return nil
}

func isLive(key string) bool {
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

func redact(key string) string {
	if m := secretKey.FindStringSubmatch(key); m != nil {
		return key[:len("sk_")] + m[1] + "_****"
	}
	return "****"
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

func (s *Simulator) authenticate(c *call) *answer {
	key := bearer(c.request)
	if e := s.keys.refusal(key); e != nil {
		refusal := refuse(http.StatusUnauthorized, *e).with("Www-Authenticate", `Bearer realm="Stripe"`)
		return &refusal
	}
	c.live = isLive(key)
	return nil
}
