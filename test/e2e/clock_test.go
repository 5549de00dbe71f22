package e2e

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// stripeAhead is a Stripe whose clock is ahead of ours.
func stripeAhead(by *atomic.Int64) simulator.Config {
	return simulator.Config{Now: func() time.Time { return time.Now().Add(time.Duration(by.Load())) }}
}

// Stripe's clock and ours differ by hours from the start, as after a clock that was set
// while the worker was down: it halts at the first answer.
func TestStripesClockIsAnother(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(5 * time.Hour))
	w := newWorld(t, stripeAhead(&ahead))
	worker := w.start()
	w.until("readiness", worker.ready)
	w.publish(batch(t, "event", 50, time.Now()))
	w.until("the halt", func() bool { return worker.halted("behind Stripe's", "set this machine's clock") })
	if n := w.stripe.Totals().Requests; n != 1 {
		t.Errorf("%d requests before the halt, want 1", n)
	}
}

// Five minutes are told of; when they become hours under way, the worker halts, and loses
// nothing.
func TestStripesClockDrifts(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(5 * time.Minute))
	w := newWorld(t, stripeAhead(&ahead))
	worker := w.start()
	w.until("readiness", worker.ready)
	events := batch(t, "event", 200, time.Now())
	w.publish(events[:50])
	w.until("the first to be acked", w.settled)
	w.audit(events[:50])
	if _, body := worker.get("/readyz"); !worker.ready() || !strings.Contains(body, "behind Stripe's") {
		t.Errorf("not ready, or no word on the clock: %s", body)
	}
	ahead.Store(int64(5 * time.Hour))
	w.publish(events[50:])
	w.until("the halt", func() bool { return worker.halted("behind Stripe's", "set this machine's clock") })
	ahead.Store(int64(5*time.Hour + time.Minute))
	worker = worker.killAndRestart()
	w.until("the halt at the first answer of the next life", func() bool { return worker.halted("behind Stripe's") })
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
}
