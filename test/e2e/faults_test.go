package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

func (w *world) inject(faults ...simulator.Fault) {
	w.t.Helper()
	if err := w.stripe.Inject(faults...); err != nil {
		w.t.Fatal(err)
	}
}

// A customer for whom Stripe always fails: three requests an event, then the dead
// letters; nobody else is harmed.
func TestServerErrorsAreTriedThreeTimes(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	w.inject(simulator.Fault{Kind: simulator.Error500, Customer: "cus_bad"})
	worker := w.start()
	w.until("readiness", worker.ready)
	var bad []usage.Event
	for _, id := range []string{"bad-1", "bad-2", "bad-3"} {
		bad = append(bad, event(t, "api_calls", "cus_bad", id, 1))
	}
	p := traffic(t, 300, 30, 3)
	w.publish(append(bad, p.events...))
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if n := w.stripe.Totals().ByStatus[http.StatusInternalServerError]; n != 9 {
		t.Errorf("%d requests were answered 500, want 3 for each of 3 events", n)
	}
	letters := w.letters()
	if len(letters) != 3 {
		t.Fatalf("%d dead letters, want 3", len(letters))
	}
	for _, letter := range letters {
		h := letter.Headers()
		if h.Get("Meterworker-Reason") != "server_error" || h.Get("Meterworker-Attempts") != "3" ||
			h.Get("Meterworker-Status") != "500" || h.Get("Meterworker-Outcome") != "unknown" || h.Get("Meterworker-Request-Id") == "" {
			t.Errorf("headers of a dead letter: %v", h)
		}
	}
}

// Throttling and contention delay; they never bury.
func TestThrottlingBuriesNothing(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	w.inject(
		simulator.Fault{Kind: simulator.RateLimited, Probability: 0.4, Times: 300},
		simulator.Fault{Kind: simulator.LockTimeout, Probability: 0.3, Times: 150},
		simulator.Fault{Kind: simulator.KeyInUse, Probability: 0.3, Times: 150},
	)
	worker := w.start()
	w.until("readiness", worker.ready)
	p := traffic(t, 600, 60, 3)
	w.publish(p.events)
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	if totals := w.stripe.Totals(); totals.RateLimited < 100 || totals.Contended < 100 {
		t.Errorf("the faults did not happen: %d rate limited, %d contended", totals.RateLimited, totals.Contended)
	}
}

// A refused key halts the worker within three requests and buries nothing; a new
// key in the file lets it go on.
func TestARefusedKeyHaltsUntilTheFileChanges(t *testing.T) {
	w := newWorld(t, simulator.Config{Keys: []string{"sk_test_good"}})
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk_test_revoked\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := w.start("STRIPE_API_KEY=", "STRIPE_API_KEY_FILE="+file)
	w.until("readiness", worker.ready)
	p := traffic(t, 400, 100, 3)
	w.publish(p.events)
	w.until("the halt", func() bool {
		status, body := worker.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "halted")
	})
	if status, _ := worker.get("/livez"); status != http.StatusOK {
		t.Errorf("/livez is %d while halted, want 200", status)
	}
	if n := w.stripe.Totals().Requests; n > 3 {
		t.Errorf("%d requests with a refused key, want at most 3", n)
	}
	refused := w.stripe.Totals().Requests
	if err := os.WriteFile(file, []byte("sk_test_good\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	if n := w.stripe.Totals().ByStatus[http.StatusUnauthorized]; n != refused {
		t.Errorf("%d requests were answered 401, %d of them after the halt", n, n-refused)
	}
	if log := worker.log.String(); strings.Contains(log, "sk_test_revoked") || strings.Contains(log, "sk_test_good") {
		t.Error("the log holds a key")
	}
}

// A key that is revoked in the middle: what is in flight fails, nothing is begun
// after it, nothing is lost.
func TestAKeyIsRotatedUnderLoad(t *testing.T) {
	w := newWorld(t, simulator.Config{Keys: []string{"sk_test_old"}, Latency: 20 * time.Millisecond})
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk_test_old"), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := w.start("STRIPE_API_KEY=", "STRIPE_API_KEY_FILE="+file)
	w.until("readiness", worker.ready)
	p := traffic(t, 2000, 400, 3)
	w.publish(p.events[:1000])
	w.until("half of it", func() bool { return w.stripe.Totals().Counted >= 500 })
	w.stripe.SetKeys("sk_test_new")
	if err := os.WriteFile(file, []byte("sk_test_new"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.publish(p.events[1000:])
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
}
