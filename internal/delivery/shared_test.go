package delivery

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestSharedAnswerCountsOnce: a failing request is one failure, however many events were
// in it; then it is known whom it concerned.
func TestSharedAnswerCountsOnce(t *testing.T) {
	b, now := newBreaker(), time.Now()
	request := func(answer Answer) (found finding) {
		now = now.Add(10 * time.Millisecond)
		for i := range 100 {
			if f := b.note(now, Turn{Lane: fmt.Sprint("lane", i), Sequence: uint64(i)}, answer); f != healthy {
				found = f
			}
			answer.Shared = true
		}
		return found
	}
	for i := range tripResults - 1 {
		check(t, fmt.Sprintf("finding after %d requests", i+1), request(bad), healthy)
	}
	check(t, "few", b.few(), false)
	check(t, "finding after the last", request(bad), failing)
	request(good)
	check(t, "lanes that have failed and not recovered", len(b.lanes), 0)
}

// TestOneIdentifierInWorkOnce: without lanes, too, the same identifier is never sent
// twice; the second finds the first in the ledger.
func TestOneIdentifierInWorkOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open = true
		for _, identifier := range []string{"a", "b"} {
			w.stripe.script[identifier] = []reply{{Answer: okAnswer, counts: true, working: func(ctx context.Context) { _ = passOr(ctx, time.Second) }}}
		}
		now := time.Now()
		w.outbox.publish(subject("cus_2"), datedBody("proof of the key", "cus_2", 7, now), nil)
		first := w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, now), nil)
		w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, now), nil)
		w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 8, now), nil)
		w.outbox.publish(subject("cus_1"), datedBody("b", "cus_1", 7, now), nil)
		once(t, w, first)
		check(t, "requests for a", len(w.stripe.made("a")), 1) // whoever of the three came first
		check(t, "delivered", w.settledAs(Delivered), 3)
		check(t, "duplicates and conflicts", w.settledAs(Duplicated)+w.settledAs(Buried), 2)
	})
}

// TestAloneAfterAFailure: an event that Stripe has failed on is sent alone from then on; one
// that got no answer is not.
func TestAloneAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var alone []bool
		w.stripe.rule = func(a Attempt) *reply {
			alone = append(alone, a.Alone)
			if a.Stop == nil {
				t.Error("nothing ends the wait for company")
			}
			return nil
		}
		w.stripe.script["a"] = []reply{silent, limited, failed}
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		check(t, "attempts", len(alone), 4)
		check(t, "alone", slices.Index(alone, true), 3)
	})
}

// TestSharedRefusalCountsItsEvents: the rate is in events, and so is what was refused of it.
func TestSharedRefusalCountsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		shared := limited
		shared.Shared = true
		w.stripe.script["a"] = []reply{limited, shared, shared}
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		check(t, "refusals told", len(w.permits.throttled), 3)
		check(t, "delivered", w.settledAs(Delivered), 1)
	})
}

// TestPanicKeepsTheIdentifierInWork: until the burial after a panic is recorded, the same
// identifier with other content is not sent: Stripe would drop it in silence.
func TestPanicKeepsTheIdentifierInWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open, w.cfg.Shared = true, true
		w.logger = w.logger.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
			if e.Message == "panic" {
				pass(3 * time.Second) // whoever reads the log is slow
			}
			return nil
		}))
		armed := false
		w.cfg.Random = func() float64 {
			if armed {
				armed = false
				panic("no luck")
			}
			return 0.1
		}
		w.stripe.script["a"] = []reply{{Answer: okAnswer, counts: true, working: func(ctx context.Context) { _ = passOr(ctx, time.Second); armed = true }}}
		now := time.Now()
		w.outbox.publish(subject("cus_2"), datedBody("proof of the key", "cus_2", 7, now), nil)
		first := w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, now), nil)
		w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 8, now), nil)
		once(t, w, first)
		check(t, "requests for a", len(w.stripe.made("a")), 1)
		check(t, "buried", w.settledAs(Buried), 2)
	})
}
