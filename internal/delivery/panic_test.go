package delivery

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestPanicOfTheSender: the message is buried, with the doubt that a request may
// have left; others, of its own lane too, are not harmed.
func TestPanicOfTheSender(t *testing.T) {
	for _, where := range []string{"before", "after"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.script["a"] = []reply{{panics: where}}
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				w.outbox.publish(subject("cus_1"), body("b", 7), nil)
				w.crowd(5)
				once(t, w, m)
				letters := w.letters.all()
				need(t, "dead letters", len(letters), 1)
				check(t, "reason", letters[0].Reason, deadletter.Panic)
				check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
				check(t, "detail", letters[0].Detail, "panic: sender")
				check(t, "attempts", letters[0].Attempts, 1)
				delete(w.stripe.counted, "a")
				check(t, "others counted", len(w.stripe.counted), 6)
				check(t, "in flight", w.sample("in_flight"), 0)
				w.outbox.again(m)
				once(t, w, m)
				check(t, "dead letters after a redelivery", len(w.letters.all()), 1)
			})
		})
	}
}

// TestPanicAfterAnAcceptance: the delivery cannot be recorded; whoever reads the
// letter must learn that Stripe may have counted it.
func TestPanicAfterAnAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := 0
		w.cfg.Random = func() float64 {
			if n++; n == 1 {
				panic("no luck")
			}
			return 0
		}
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		letters := w.letters.all()
		need(t, "dead letters", len(letters), 1)
		check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
		check(t, "counted", len(w.stripe.counted["a"]), 1)
	})
}

// TestPanicBetweenRecordAndAck: the message has its end in the journal and must not
// stay in hand, nor be buried as something else.
func TestPanicBetweenRecordAndAck(t *testing.T) {
	t.Run("delivered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
			histogram := w.metrics.DeliverySeconds
			w.metrics.DeliverySeconds = nil // panics between record and ack
			once(t, w, m)
			w.metrics.DeliverySeconds = histogram
			check(t, "effects", strings.Join(w.effects(), ", "), "intent, send, record delivered, ack")
			check(t, "delivered", w.settledAs(Delivered), 1)
		})
	})
	t.Run("dead", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.stripe.script["a"] = []reply{refusedForGood}
			m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
			w.metrics.DeadLetters = nil
			once(t, w, m)
			check(t, "effects", strings.Join(w.effects(), ", "), "intent, send, record dying, publish, record dead, ack")
			need(t, "letters", len(w.letters.all()), 1)
		})
	})
	t.Run("dying", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.stripe.script["a"] = []reply{refusedForGood}
			w.letters.panics = true
			once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
			letters := w.letters.all()
			need(t, "letters", len(letters), 1)
			check(t, "reason", letters[0].Reason, deadletter.Rejected)
		})
	})
}

// TestPanicAfterSettlement does nothing more; a message that panics even while it is
// buried is let go of, and the process lives.
func TestPanicAfterSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		w.outbox.settled(time.Hour)
		l.drain()
		in := &inHand{stored: m, l: l, left: true}
		d := &delivery{w: l.worker, journal: traced{l.journal, l}, places: newPlaces(func() int { return 1 }), message: in, left: true}
		before := len(w.effects())
		d.panicked(context.Background(), "late")
		check(t, "effects", len(w.effects()), before)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.metrics.Lookups = nil // the step panics, and so does the burial
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		elapse(10 * time.Second)
		l.drain()
		check(t, "dropped", m.drops, 1)
		check(t, "handed out", w.outbox.received, 1)
		check(t, "released", w.settledAs(Released), 1)
	})
}

func TestDescribe(t *testing.T) {
	check(t, "error", describe(context.Canceled), "context canceled")
	check(t, "text", describe("text"), "text")
	check(t, "anything", describe(struct{ Secret string }{"sk_live_1"}), "struct { Secret string }")
}
