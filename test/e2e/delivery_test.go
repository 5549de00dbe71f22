package e2e

import (
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// The main job: 5,000 events for 400 customers on 3 meters at 20 ms. The pace is
// held against a strict bucket in virtual time (package ratelimit) and by the
// benchmark; here the machine's noise is in the arrivals.
func TestEverythingIsDeliveredOnceUnderTheLimits(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 20 * time.Millisecond, Rate: -1})
	worker := w.start()
	w.until("readiness", worker.ready)
	p := traffic(t, 5000, 400, 3)
	w.publish(p.events)
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	totals := w.stripe.Totals()
	if totals.Requests != 5000 || totals.Contended != 0 || totals.Violations != 0 {
		t.Errorf("requests %d, contended %d, violations %d; want 5000, 0, 0", totals.Requests, totals.Contended, totals.Violations)
	}
	if totals.PeakPerSecond > 1200 {
		t.Errorf("%d requests arrived in one second of a rate of 1000", totals.PeakPerSecond)
	}
	if totals.Versions["2024-10-28.acacia"] != 5000 {
		t.Errorf("Stripe-Version: %v", totals.Versions)
	}
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	if code := worker.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}
