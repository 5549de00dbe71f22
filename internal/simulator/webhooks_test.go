package simulator

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// hook is an endpoint that refuses the first deliveries.
type hook struct {
	*httptest.Server

	mu      sync.Mutex
	refuse  int
	taken   map[string]int // by the report's id
	headers []http.Header
	bodies  []string
	came    chan struct{}
}

func newHook(t *testing.T, refuse int) *hook {
	t.Helper()
	h := &hook{refuse: refuse, taken: map[string]int{}, came: make(chan struct{}, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuse > 0 {
			h.refuse--
			w.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusFound}[h.refuse%2])
			return
		}
		var thin ErrorReport
		if json.Unmarshal(body, &thin) != nil {
			t.Errorf("body %s", body)
		}
		h.taken[thin.ID]++
		h.headers, h.bodies = append(h.headers, r.Header), append(h.bodies, string(body))
		h.came <- struct{}{}
	}))
	t.Cleanup(h.Close)
	return h
}

// TestNotify: each report arrives, twice, signed with each secret, and again until it is taken;
// nothing of the report itself is in it.
func TestNotify(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: RejectedLater})
	b.want(b.send("id-1"), 200, "")
	b.want(b.send("id-2", "event_name", "other"), 200, "")
	b.clock.move(reportWindow)
	h := newHook(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	var notifying sync.WaitGroup
	notifying.Go(func() { b.Notify(ctx, Endpoint{URL: h.URL, Secrets: []string{"whsec_a", "whsec_b"}}) })
	for range 4 {
		select {
		case <-h.came:
		case <-time.After(time.Minute):
			t.Fatal("no delivery")
		}
	}
	cancel()
	notifying.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range b.ErrorReports() {
		if h.taken[r.ID] != 2 {
			t.Errorf("report %s was taken %d times, want twice", r.ID, h.taken[r.ID])
		}
	}
	for i, header := range h.headers {
		stamp, rest, _ := strings.Cut(header.Get("Stripe-Signature"), ",v1=")
		for _, secret := range []string{"whsec_a", "whsec_b"} {
			mac := hmac.New(sha256.New, []byte(secret))
			_, _ = io.WriteString(mac, strings.TrimPrefix(stamp, "t=")+"."+h.bodies[i])
			if !strings.Contains(rest, hex.EncodeToString(mac.Sum(nil))) {
				t.Errorf("%s is not signed with %s", header.Get("Stripe-Signature"), secret)
			}
		}
		if strings.Contains(h.bodies[i], "id-") || strings.Contains(h.bodies[i], "error") && !strings.Contains(h.bodies[i], typeErrorReport) {
			t.Errorf("more than a notification: %s", h.bodies[i])
		}
	}
}

// After three days Stripe gives up.
func TestNotifyGivesUp(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: RejectedLater})
	b.want(b.send("id-1"), 200, "")
	b.clock.move(reportWindow + webhookPeriod + time.Second)
	h := newHook(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := notifier{simulator: b.Simulator, to: Endpoint{URL: h.URL, Secrets: []string{"whsec_a"}}, client: h.Client()}
	n.deliver(ctx, b.ErrorReports()[0])
	if len(h.taken) != 0 || h.refuse != 0 {
		t.Errorf("taken %v", h.taken)
	}
}

// The other form of a report names the request and its Idempotency-Key.
func TestReportRequests(t *testing.T) {
	b := newBench(t, Config{ReportRequests: true, ReportWindow: time.Minute})
	b.inject(Fault{Kind: RejectedLater})
	sent := b.send("id-1")
	b.want(sent, 200, "")
	b.clock.move(time.Minute - 1)
	if n := len(b.ErrorReports()); n != 0 {
		t.Errorf("%d reports before the window's end", n)
	}
	b.clock.move(1)
	reason, _ := json.Marshal(b.coreReason(b.ErrorReports()[0].ID))
	if !strings.Contains(string(reason), `"idempotency_key":"`) || !strings.Contains(string(reason), `"id":"req_`) || strings.Contains(string(reason), "identifier") {
		t.Errorf("reason %s", reason)
	}
}
