package sender

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRead: one request with key and version, answered as it is; a redirect is an answer too, and the key
// goes nowhere else.
func TestRead(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer sk_test_abc" || r.Header.Get("Stripe-Version") != DefaultVersion {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/rate":
			w.Header().Set("Stripe-Rate-Limited-Reason", "global-rate")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
		case "/endless":
			piece := []byte(strings.Repeat("x", 1<<20))
			for range 2 + maxReading>>20 {
				_, _ = w.Write(piece)
			}
		default:
			_, _ = w.Write([]byte(`{"id":"evt_1"}`))
		}
	}))
	defer server.Close()
	key := "sk_test_abc"
	v, err := New(Config{BaseURL: server.URL, Key: func() string { return key }, Live: func() bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for path, want := range map[string]Reading{
		"/v2/core/events/evt_1": {Status: 200, Body: []byte(`{"id":"evt_1"}`)}, "/moved": {Status: 302},
		"/rate": {Status: 429, Throttled: true, RetryAfter: 7 * time.Second}, "/busy": {Status: 429},
	} {
		got, err := v.Read(t.Context(), path)
		if err != nil || got.Status != want.Status || got.Throttled != want.Throttled || got.RetryAfter != want.RetryAfter ||
			want.Body != nil && string(got.Body) != string(want.Body) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	for _, path := range []string{"/cut", "/endless"} {
		if got, err := v.Read(t.Context(), path); err == nil {
			t.Errorf("%s: %d bytes", path, len(got.Body))
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the key went elsewhere %d times", n)
	}
	for _, wrong := range []string{"sk_live_abc", ""} {
		key = wrong
		if _, err := v.Read(t.Context(), "/"); err == nil || strings.Contains(err.Error(), "live_abc") {
			t.Errorf("key %q: %v", wrong, err)
		}
	}
}
