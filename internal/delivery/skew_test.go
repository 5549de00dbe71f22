package delivery

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

func TestSkewAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := journal.Now(time.Now())
		pass(time.Hour)
		var none, ahead Skew
		ahead.Set(5*time.Hour, time.Now())
		pass(time.Minute)
		young := journal.Now(time.Now())
		pass(time.Minute)
		now := time.Now()
		check(t, "no skew", none.age(old, now), time.Hour+2*time.Minute)
		check(t, "from before", ahead.age(old, now), 6*time.Hour+2*time.Minute)
		check(t, "from after", ahead.age(young, now), time.Minute)
		check(t, "the zero moment", ahead.age(journal.Moment{}, now) >= none.age(journal.Moment{}, now), true)
		ahead.Set(math.MaxInt64, now)
		check(t, "without overflow", ahead.age(old, now) >= time.Hour, true)
		ahead.Set(-5*time.Hour, now)
		check(t, "Stripe is behind", ahead.age(old, now), time.Hour+2*time.Minute)
		ahead.Set(0, time.Time{})
		check(t, "mended", ahead.age(old, now), time.Hour+2*time.Minute)
	})
}

// TestStripeHasForgotten: by Stripe's clock the attempt of an earlier life is a day old,
// whatever ours says. It is not repeated; what is new is delivered, and repeated.
func TestStripeHasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["doubtful"] = []reply{counted(silent), counted(silent), counted(silent)}
		w.outbox.publish(subject("cus_1"), body("doubtful", 7), nil)
		l := w.start()
		elapse(100 * time.Millisecond)
		l.drain()
		need(t, "counted", len(w.stripe.counted["doubtful"]), 1)
		before := len(w.stripe.made("doubtful"))

		w.stripe.script["doubtful"] = nil
		w.stripe.script["new"] = []reply{failed}
		w.skew.Set(25*time.Hour, time.Now())
		w.outbox.publish(subject("cus_2"), datedBody("new", "cus_2", 1, time.Now()), nil)
		l = w.start()
		if !w.outbox.settled(time.Hour) {
			t.Fatal("not settled")
		}
		l.drain()
		check(t, "requests for it since", len(w.stripe.made("doubtful"))-before, 0)
		letters := w.letters.all()
		need(t, "letters", len(letters), 1)
		check(t, "reason", letters[0].Reason, deadletter.Ambiguous)
		check(t, "requests for the new one", len(w.stripe.made("new")), 2)
	})
}
