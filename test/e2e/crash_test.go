package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// kill -9 ten times during 5,000 events, with connections cut before and after
// Stripe recorded: nothing lost, nothing twice.
func TestKillsAndCutConnectionsLoseAndDoubleNothing(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 10 * time.Millisecond, Seed: 7})
	w.inject(
		simulator.Fault{Kind: simulator.Cut, Probability: 0.02},
		simulator.Fault{Kind: simulator.Reset, Probability: 0.02, Recorded: true},
		simulator.Fault{Kind: simulator.CutBody, Probability: 0.02, Recorded: true},
	)
	const kills, events = 10, 5000
	env := []string{"METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s"}
	p := traffic(t, events, 400, 3)
	random := rand.New(rand.NewPCG(1, 2))
	worker := w.start(env...)
	w.until("readiness", worker.ready)
	go w.publish(p.events)
	for kill := range kills {
		// The moment of the kill is a count of what Stripe has counted, at random.
		moment := int64(events*kill/(kills+1) + random.IntN(events/(kills+1)))
		w.until("the next kill", func() bool { return w.stripe.Totals().Counted >= moment })
		worker = worker.killAndRestart()
	}
	w.until("everything to be delivered", func() bool { return w.stripe.Totals().Counted >= events && w.settled() })
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	totals := w.stripe.Totals()
	if totals.Duplicates == 0 || totals.ByStatus[0] == 0 {
		t.Errorf("the faults did not happen: %d duplicates, %d answers cut", totals.Duplicates, totals.ByStatus[0])
	}
}
