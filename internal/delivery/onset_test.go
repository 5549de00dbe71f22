package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestOutageBeyondTheSafeWindow: what a failing Stripe has seen can become ambiguous, so
// hardly any message more is shown to it than those under way at the onset.
func TestOutageBeyondTheSafeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.start()
		w.load("before", 50, 50, 100*time.Millisecond)
		w.answer(&failed)
		w.load("during", 200, 50, 100*time.Millisecond)
		onset := w.seen("during")
		elapse(30 * time.Hour)
		if more := w.seen("during") - onset; more > 14 {
			t.Errorf("%d messages more were shown to Stripe while it was down", more)
		}
		w.answer(nil)
		if !w.outbox.settled(2 * time.Minute) {
			t.Error("not settled")
		}
		l.drain()
		dead := map[deadletter.Reason]int{}
		for _, letter := range w.letters.all() {
			dead[letter.Reason]++
		}
		if dead[deadletter.ServerError] > buryAtMost || dead[deadletter.Ambiguous] > onset+14 || len(w.letters.all()) != dead[deadletter.ServerError]+dead[deadletter.Ambiguous] {
			t.Errorf("dead letters %v, %d messages under way at the onset", dead, onset)
		}
		if delivered := w.settledAs(Delivered); delivered+len(w.letters.all()) != 250 {
			t.Errorf("%d delivered, %d dead of 250", delivered, len(w.letters.all()))
		}
	})
}

// seen is how many messages of the prefix Stripe has had a request for.
func (w *world) seen(prefix string) int {
	identifiers := map[string]bool{}
	for _, r := range w.stripe.made("") {
		if strings.HasPrefix(r.identifier, prefix) {
			identifiers[r.identifier] = true
		}
	}
	return len(identifiers)
}

// TestThreeCustomersFail: when their trouble was taken for an outage, others still get
// their turn: the first in as long again as it has lasted, the next ones soon.
func TestThreeCustomersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.rule = func(a Attempt) *reply {
			if a.Event.Customer() != "cus_9" {
				return &failed
			}
			return nil
		}
		l := w.start()
		w.load("bad", 300, 3, 10*time.Millisecond)
		elapse(time.Hour)
		state, _ := l.gate.Status()
		check(t, "outage", state == StateOpen || state == StateHalfOpen, true)
		for i, within := range []time.Duration{70 * time.Minute, 2 * time.Minute, 2 * time.Minute, 2 * time.Minute} {
			m := w.outbox.publish(subject("cus_9"), datedBody(fmt.Sprintf("other-%d", i), "cus_9", 1, time.Now()), nil)
			elapse(within)
			check(t, fmt.Sprintf("event %d of another customer within %v", i, within), m.acked, true)
		}
		l.drain()
	})
}

// TestTheOnsetBuriesNothing: at a good rate the first moments of an outage cost no event
// its place in the outbox, however fast its three attempts are over.
func TestTheOnsetBuriesNothing(t *testing.T) {
	no := failed
	no.ShouldRetry = RetryNo
	for name, c := range map[string]struct {
		down reply
		most int
	}{
		"500": {failed, 0}, "HTML": {strange, 0}, "500, do not retry": {no, buryAtMost},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.places = 500
					w.cfg.Random = rand.New(rand.NewPCG(seed, 0)).Float64
					latency := func(context.Context) { pass(80 * time.Millisecond) }
					began := time.Now()
					w.stripe.rule = func(Attempt) *reply {
						r := reply{Answer: okAnswer, counts: true}
						if time.Since(began) > 3*time.Second {
							r = c.down
						}
						r.working = latency
						return &r
					}
					l := w.start()
					w.load("x", 2000, 300, 3*time.Millisecond)
					elapse(10 * time.Second)
					if n := len(w.letters.all()); n > c.most {
						t.Errorf("seed %d: %d dead letters, want at most %d", seed, n, c.most)
					}
					state, _ := l.gate.Status()
					check(t, "down", state == StateOpen || state == StateHalfOpen, true)
					l.drain()
				})
			}
		})
	}
}
