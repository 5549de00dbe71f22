package e2e

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// Stripe's clock jumps by a day: it has forgotten every identifier. What it may have
// counted before is not sent again, but becomes ambiguous; everything new is delivered,
// and what was delivered is still known.
func TestStripesClockIsAnother(t *testing.T) {
	var ahead atomic.Int64
	w := newWorld(t, simulator.Config{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	env := []string{"METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s"}
	worker := w.start(env...)
	w.until("readiness", worker.ready)
	known := batch(t, "known", 50, time.Now())
	w.publish(known)
	w.until("the first to be acked", w.settled)

	w.inject(simulator.Fault{Kind: simulator.Cut, Recorded: true, Customer: "cus_doubtful"})
	doubtful := event(t, "api_calls", "cus_doubtful", "doubtful", 1)
	w.publish(append(batch(t, "more", 1, time.Now()), doubtful))
	w.until("an attempt of unknown outcome", func() bool { return w.stripe.Totals().ByStatus[0] >= 1 })
	worker.kill()
	w.stripe.ClearFaults()
	ahead.Store(int64(25 * time.Hour))
	worker = w.startAt(worker.admin, env)
	news := batch(t, "new", 50, time.Now())
	w.publish(news)
	w.until("everything to be acked", w.settled)
	letters := w.letters()
	if len(letters) != 1 || letters[0].Headers().Get("Meterworker-Reason") != "ambiguous" || letters[0].Headers().Get("Meterworker-Identifier") != "doubtful" {
		t.Errorf("%d dead letters, want the doubtful one as ambiguous", len(letters))
	}
	w.publish(known[:20]) // the outbox has forgotten nothing
	w.until("everything to be acked", w.settled)
	w.audit(append(append(append(known, news...), doubtful), batch(t, "more", 1, time.Now())...))
	if _, body := worker.get("/readyz"); !worker.ready() || !strings.Contains(body, "behind Stripe's") {
		t.Errorf("not ready, or no word on the clock: %s", body)
	}
}
