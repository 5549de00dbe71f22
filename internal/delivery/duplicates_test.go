package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestDuplicateAnswer: it is our delivery only after an earlier attempt of ours.
func TestDuplicateAnswer(t *testing.T) {
	dup := reply{Answer: duplicateAnswer}
	for name, c := range map[string]struct {
		script []reply
		accept bool
		dead   int
		detail string
	}{
		"at the first attempt":             {[]reply{dup}, false, 1, duplicateAnswer.Detail},
		"after a 429 only":                 {[]reply{limited, unsent, contended, dup}, false, 1, duplicateAnswer.Detail},
		"after silence":                    {[]reply{silent, dup}, false, 0, ""},
		"after a 500":                      {[]reply{failed, dup}, false, 0, ""},
		"after silence and then a 429":     {[]reply{silent, limited, dup}, false, 0, ""},
		"at the first attempt, accepted":   {[]reply{dup}, true, 0, ""},
		"after something outside contract": {[]reply{strange, dup}, false, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.cfg.AcceptForeign = c.accept
				w.stripe.script["a"] = c.script
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				letters := w.letters.all()
				need(t, "dead letters", len(letters), c.dead)
				if len(letters) == 1 {
					check(t, "reason", letters[0].Reason, deadletter.IdentifierConflict)
					check(t, "outcome", letters[0].Outcome, deadletter.Refused)
					check(t, "detail", letters[0].Detail, c.detail)
				}
			})
		})
	}
}

// TestPublishedTwice: one delivery and one duplicate, without a second request.
func TestPublishedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, time.Now()), nil)
		second := w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, time.Now()), nil)
		once(t, w, first)
		check(t, "requests", len(w.stripe.made("")), 1)
		need(t, "dead letters", len(w.letters.all()), 0)
		check(t, "delivered", w.settledAs(Delivered), 1)
		check(t, "duplicates", w.settledAs(Duplicated), 1)
		check(t, "units delivered", w.units("delivered"), 7)
		check(t, "units of duplicates", w.units("duplicate"), 7)
		elapse(10 * 24 * time.Hour) // Stripe has forgotten it by then; the ledger has not
		w.outbox.again(first)
		w.outbox.again(second)
		w.outbox.publish(subject("cus_1"), datedBody("a", "cus_1", 7, time.Now().Add(-10*24*time.Hour)), nil)
		once(t, w, first)
		check(t, "requests", len(w.stripe.made("")), 1)
		check(t, "counted", len(w.stripe.counted["a"]), 1)
	})
}

// TestOtherContent: one billed, the other one to a person.
func TestOtherContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		w.outbox.publish(subject("cus_1"), body("a", 8), nil)
		once(t, w, m)
		made := w.stripe.made("")
		check(t, "requests", len(made), 1)
		check(t, "value", made[0].value, "7")
		letters := w.letters.all()
		need(t, "dead letters", len(letters), 1)
		check(t, "reason", letters[0].Reason, deadletter.IdentifierConflict)
		check(t, "outcome", letters[0].Outcome, deadletter.Refused)
		check(t, "detail", letters[0].Detail, "the identifier was delivered with other content as sequence 1")
	})
}

// TestOtherContentWaitsForTheFirst: while the first one is undecided the other one
// is handed back, and nothing of it is sent.
func TestOtherContentWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.crash = crash{at: 2, performed: true} // the first one's request
		first := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		<-l.served
		l.drain()
		other := w.outbox.publish(subject("cus_1"), body("a", 8), nil) // comes before the first one's redelivery
		l = w.start()
		elapse(20 * time.Second)
		check(t, "requests for the other", len(w.stripe.made("")), 1)
		if len(other.naks) < 5 || other.naks[0] != otherFirst {
			t.Errorf("handed back with %v", other.naks)
		}
		if !w.outbox.settled(time.Hour) {
			t.Error("not settled")
		}
		l.drain()
		check(t, "first is settled", first.acked, true)
		for _, r := range w.stripe.made("") {
			check(t, "value", r.value, "7")
		}
		need(t, "dead letters", len(w.letters.all()), 1)
		check(t, "reason", w.letters.all()[0].Reason, deadletter.IdentifierConflict)
	})
}

// TestOtherContentAfterABuriedUnknown: the first one may have been counted and is
// buried; the other one's duplicate answer is then no delivery of its own, even
// where foreign duplicates are accepted.
func TestOtherContentAfterABuriedUnknown(t *testing.T) {
	for _, accept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.AcceptForeign = accept
			w.stripe.script["a"] = []reply{counted(failed), failed, failed}
			once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
			once(t, w, w.outbox.publish(subject("cus_1"), body("a", 8), nil))
			letters := w.letters.all()
			need(t, "dead letters", len(letters), 2)
			check(t, "first", letters[0].Reason, deadletter.ServerError)
			check(t, "other", letters[1].Reason, deadletter.IdentifierConflict)
			check(t, "the other was not counted", letters[1].Outcome, deadletter.Refused)
		})
	}
}

// TestOtherContentPastTheWindow: Stripe may have the first one and will have
// forgotten it, so the other one may not be sent either.
func TestOtherContentPastTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["a"] = []reply{failed, failed, failed}
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		elapse(window)
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 8), nil))
		check(t, "requests", len(w.stripe.made("")), 3)
		check(t, "reason", w.letters.all()[1].Reason, deadletter.Ambiguous)
	})
}
