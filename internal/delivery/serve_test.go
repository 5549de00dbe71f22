package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/ratelimit"
)

func slowly(d time.Duration) func(Attempt) *reply {
	return func(Attempt) *reply {
		return &reply{working: func(ctx context.Context) { _ = passOr(ctx, d) }}
	}
}

// TestPlacesBoundWhatIsInHand: never more than the places, and with all of them in a
// long back-off never more than twice as many.
func TestPlacesBoundWhatIsInHand(t *testing.T) {
	for name, c := range map[string]struct {
		rule func(Attempt) *reply
		most int
	}{
		"working": {slowly(time.Second), 10},
		"in back-off": {func(Attempt) *reply {
			r := limited
			r.RetryAfter = time.Hour
			return &r
		}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.places = 10
				w.stripe.rule = c.rule
				w.crowd(200)
				l := w.start()
				elapse(10 * time.Minute)
				l.drain()
				check(t, "most in hand", w.outbox.most, c.most)
				check(t, "in hand after the drain", w.outbox.held(), 0)
				check(t, "open intents", l.journal.Open(), 0)
			})
		})
	}
}

// TestBackPressure: the backlog is worked off although few are in hand.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.places, w.cfg.Ahead = 10, 3
		w.stripe.rule = slowly(100 * time.Millisecond)
		w.crowd(300)
		began := time.Now()
		once(t, w, w.outbox.messages[0])
		if took := time.Since(began); took > 10*time.Second { // 300 × 100 ms over 10 places is 3 s
			t.Errorf("took %v", took)
		}
		if w.outbox.most > 20 {
			t.Errorf("%d in hand at once", w.outbox.most)
		}
		check(t, "counted", len(w.stripe.counted), 300)
	})
}

// TestHotCustomer: one at a time in its lane, further ones handed back with a delay,
// and a cold customer does not wait.
func TestHotCustomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.places = 20
		w.stripe.rule = slowly(100 * time.Millisecond)
		for i := range 60 {
			w.outbox.publish(subject("hot"), datedBody(fmt.Sprintf("hot-%d", i), "hot", 1, time.Now()), nil)
		}
		cold := w.outbox.publish(subject("cold"), datedBody("cold", "cold", 1, time.Now()), nil)
		l := w.start()
		elapse(time.Second)
		if made := w.stripe.made("cold"); len(made) != 1 || made[0].at.Sub(cold.at) > time.Second {
			t.Errorf("the cold customer's requests: %v", made)
		}
		if !w.outbox.settled(time.Hour) {
			t.Error("not settled")
		}
		l.drain()
		check(t, "at once for one customer", w.stripe.overlap, 1)
		check(t, "counted", len(w.stripe.counted), 61)
		handedBack := 0
		for _, m := range w.outbox.messages {
			handedBack += len(m.naks)
			if slices.ContainsFunc(m.naks, func(d time.Duration) bool { return d < 50*time.Millisecond }) {
				t.Errorf("handed back for %v", m.naks)
			}
		}
		if handedBack < 60-1-ratelimit.LaneDepth-20 {
			t.Errorf("handed back %d times only", handedBack)
		}
	})
}

// TestDrain: what waits is handed back, what is in flight is finished and acked.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.places = 64
		w.stripe.rule = slowly(10 * time.Second)
		var same []*stored
		for i := range 4 { // one in flight, three that wait in its lane
			same = append(same, w.outbox.publish(subject("cus_1"), datedBody(fmt.Sprintf("a-%d", i), "cus_1", 1, time.Now()), nil))
		}
		same = append(same, w.outbox.publish(subject("cus_1"), []byte("{"), nil))
		l := w.start()
		elapse(time.Second)
		l.end()
		elapse(time.Second)
		check(t, "in hand while one is in flight", w.outbox.held(), 5)
		l.drain()
		check(t, "the one in flight is acked", same[0].acked, true)
		for _, m := range same[1:] {
			if m.acked || len(m.naks) != 1 || m.naks[0] != time.Second {
				t.Errorf("message %d: acked %v, handed back %v", m.sequence, m.acked, m.naks)
			}
		}
		check(t, "requests", len(w.stripe.made("")), 1)
		check(t, "dead letters", len(w.letters.all()), 0)
		check(t, "in hand", w.outbox.held(), 0)
	})
}

// TestDrainWhileDialling: no request begins once the drain has.
func TestDrainWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.permits.spend = func(context.Context) error { return nil }
		w.stripe.script["a"] = []reply{{dial: func(context.Context) { pass(10 * time.Second) }}}
		w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		elapse(time.Second)
		l.drain()
		check(t, "effects", strings.Join(w.effects(), ", "), "intent, record not-sent, nak")
	})
}

// TestDrainEndsEveryWait: for the proof of the key, a permit, an expired permit's
// successor, a back-off, a turn, the dead-letter stream.
func TestDrainEndsEveryWait(t *testing.T) {
	block := func(ctx context.Context) error { return passOr(ctx, 100*time.Hour) }
	for name, setUp := range map[string]func(w *world){
		"a permit":    func(w *world) { w.permits.take = block },
		"its renewal": func(w *world) { w.permits.spend = block },
		"a turn":      func(w *world) { w.permits.take, w.cfg.Ahead = block, 1 },
		"a back-off": func(w *world) {
			w.stripe.rule = func(Attempt) *reply { r := limited; r.RetryAfter = 300 * time.Second; return &r }
		},
		"dead letters": func(w *world) {
			w.letters.refuse, w.stripe.rule = 1<<30, func(Attempt) *reply { return &refusedForGood }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				setUp(w)
				w.crowd(10)
				l := w.start()
				elapse(time.Minute)
				began := time.Now()
				l.drain()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the drain took %v", took)
				}
				check(t, "in hand", w.outbox.held(), 0)
				check(t, "open intents", l.journal.Open(), 0)
				for _, m := range w.outbox.messages {
					check(t, "acked", m.acked, false)
				}
			})
		})
	}
}

// TestLostPartition: nothing is acked, nothing new is sent, no turn is kept for
// which the worker's other partitions would wait; the next owner delivers it all.
func TestLostPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Ahead = 2
		w.stripe.rule = slowly(10 * time.Second)
		w.crowd(20)
		l := w.start()
		elapse(25 * time.Second) // the key is proven by the first, the others are in flight
		sent := len(w.stripe.made(""))
		acked := w.settledAs(Delivered)
		l.lose()
		<-l.served
		l.lanes.Wait()
		check(t, "requests after the loss", len(w.stripe.made("")), sent)
		check(t, "acked after the loss", w.settledAs(Delivered), acked)
		check(t, "turns", len(l.worker.ahead), 0)
		check(t, "in hand", w.outbox.held(), 0)
		l.drain()
		w.stripe.change(func() { w.stripe.rule = nil })
		once(t, w, w.outbox.messages[0])
		check(t, "counted", len(w.stripe.counted), 20)
		check(t, "dead letters", len(w.letters.all()), 0)
	})
}

// TestTurnsSurviveFailedIntents: a lost partition whose intents fail keeps no turn
// among the senders.
func TestTurnsSurviveFailedIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Ahead = 2
		w.crowd(5)
		w.fail("intent", fault{lost: true})
		l := w.start()
		<-l.served
		l.lanes.Wait()
		check(t, "turns", len(l.worker.ahead), 0)
		l.drain()
	})
}

// flaky fails so many pulls.
type flaky struct {
	Outbox
	left  int
	pulls []time.Time
}

func (f *flaky) Fetch(n int, each func(Message)) error {
	f.pulls = append(f.pulls, time.Now())
	if f.left--; f.left >= 0 {
		return errors.New("no responders")
	}
	return f.Outbox.Fetch(n, each)
}

func TestPullsFailForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.start()
		l.end()
		<-l.served
		w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		stop, end := context.WithCancel(t.Context())
		l.stop = stop
		served := make(chan struct{})
		f := &flaky{Outbox: pull{l}, left: 30}
		go func() {
			defer close(served)
			l.worker.Serve(stop, l.cut, Partition{Outbox: f, Journal: traced{l.journal, l}, Places: func() int { return 4 }})
		}()
		if !w.outbox.settled(time.Hour) {
			t.Error("not settled")
		}
		end()
		<-served
		l.drain()
		for i := 1; i < 31; i++ {
			if wait := f.pulls[i].Sub(f.pulls[i-1]); wait < 200*time.Millisecond || wait > 2*time.Second {
				t.Errorf("pull %d came %v after the failed one", i, wait)
			}
		}
		check(t, "warnings", w.logs.FilterMessage("cannot pull").Len(), 2)
	})
}

func TestPlaces(t *testing.T) {
	limit := 2
	p := newPlaces(func() int { return limit })
	check(t, "free", p.now(), 2)
	p.take()
	p.take()
	check(t, "full", p.now(), 0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.free(ended); err == nil {
		t.Error("no place, and no error")
	}
	check(t, "parked", p.park(), true)
	check(t, "one free", p.now(), 1)
	p.take()
	check(t, "parked", p.park(), true)
	check(t, "no third", p.park(), false)
	p.unpark()
	p.unpark()
	check(t, "over the limit", p.now(), -1)
	p.give()
	p.give()
	n, err := p.free(t.Context())
	check(t, "free again", n, 1)
	check(t, "error", err, nil)
	limit = 5
	check(t, "the limit grew", p.now(), 4)
}

func TestLaneOf(t *testing.T) {
	check(t, "an event", laneOf("usage.events.api=20calls.cus_1"), "api=20calls.cus_1")
	check(t, "its replay", laneOf("usage.replay.api=20calls.cus_1"), "api=20calls.cus_1")
	check(t, "odd", laneOf("odd"), "odd")
}
