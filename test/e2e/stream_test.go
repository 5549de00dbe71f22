package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// stream is the environment of a worker that uses API v2.
func (w *world) stream(env ...string) []string {
	return append([]string{"METERWORKER_API=v2", "STRIPE_METER_EVENTS_BASE=" + w.http.URL}, env...)
}

// kill -9 in the middle of batches, with connections cut before and after Stripe recorded,
// with failures, and with identifiers published twice: nothing lost, nothing twice.
func TestKillsInTheMiddleOfBatches(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 30 * time.Millisecond, Seed: 7, StreamInTestMode: true})
	w.inject(
		simulator.Fault{Kind: simulator.Cut, Probability: 0.02},
		simulator.Fault{Kind: simulator.Reset, Probability: 0.05, Recorded: true},
		simulator.Fault{Kind: simulator.CutBody, Probability: 0.05, Recorded: true},
	)
	const kills, events = 8, 12000
	env := w.stream("METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s")
	p := traffic(t, events, 50, 3)
	random := rand.New(rand.NewPCG(1, 2))
	worker := w.start(env...)
	w.until("readiness", worker.ready)
	go w.publish(p.events)
	for kill := range kills {
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
	if totals.Duplicates == 0 || totals.ByStatus[0] == 0 || totals.RateLimited > 0 {
		t.Errorf("the faults did not happen, or others did: %+v", totals)
	}
	if totals.Requests > events/4 {
		t.Errorf("%d requests for %d events: they share none", totals.Requests, events)
	}
}

// Over API v2 too, a repeated event is a duplicate by the ledger's word, other content under
// a known identifier goes to a person, and what is no event is buried with its reason.
func TestStreamKeepsIdentifiersApart(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 20 * time.Millisecond, StreamInTestMode: true})
	worker := w.start(w.stream()...)
	w.until("readiness", worker.ready)
	var first, again, other []usage.Event
	for i := range 300 {
		customer, identifier := fmt.Sprintf("cus_%d", i%7), fmt.Sprintf("id-%d", i)
		first = append(first, event(t, "api_calls", customer, identifier, 1))
		if i%10 == 0 {
			other = append(other, event(t, "api_calls", customer, identifier, 2))
		}
		again = append(again, first[i]) // JetStream drops the exact copy; the next one gets past it
	}
	w.publish(append(first, again...))
	w.until("the first copies", func() bool { return w.stripe.Totals().Counted == 300 && w.settled() })
	w.publish(other)
	w.until("the conflicts", func() bool { return w.letterCount() == len(other) && w.settled() })
	w.audit(first)
	if totals := w.stripe.Totals(); totals.ChangedContent != 0 || totals.Duplicates != 0 {
		t.Errorf("sent although the ledger knew it: %+v", totals)
	}
	if n := worker.metric(`meterworker_dead_letters_total{reason="identifier_conflict"}`); n != float64(len(other)) {
		t.Errorf("%v conflicts, want %d", n, len(other))
	}
}

// A key that is refused halts the worker within a few requests, and buries nothing.
func TestStreamHaltsOnARefusedKey(t *testing.T) {
	w := newWorld(t, simulator.Config{Keys: []string{"sk_test_other"}, StreamInTestMode: true})
	worker := w.start(w.stream()...)
	w.publish(traffic(t, 500, 50, 1).events)
	w.until("the halt", func() bool { return worker.metric(`meterworker_breaker_state{state="halted"}`) == 1 })
	if totals := w.stripe.Totals(); totals.Requests > 3 || totals.Counted != 0 {
		t.Errorf("%d requests, %d events counted", totals.Requests, totals.Counted)
	}
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
}

// A drain finishes what is in hand; the next worker delivers the rest.
func TestStreamDrains(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 50 * time.Millisecond, StreamInTestMode: true})
	p := traffic(t, 4000, 50, 2)
	worker := w.start(w.stream("METERWORKER_RATE=1500")...)
	w.until("readiness", worker.ready)
	w.publish(p.events)
	if code := worker.terminate(); code != 0 {
		t.Errorf("exit %d", code)
	}
	left := w.stripe.Totals().Counted
	w.start(w.stream()...)
	w.until("everything to be delivered", func() bool { return w.stripe.Totals().Counted >= 4000 && w.settled() })
	w.audit(p.events)
	if left >= 4000 {
		t.Error("everything was delivered before the drain: nothing was tried")
	}
}
