package delivery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// load publishes n events, one every so often, each of one of the customers.
func (w *world) load(prefix string, n, customers int, every time.Duration) {
	for i := range n {
		customer := fmt.Sprintf("cus_%d", i%customers)
		w.outbox.publish(subject(customer), datedBody(fmt.Sprintf("%s-%d", prefix, i), customer, 1, time.Now()), nil)
		pass(every)
	}
}

// answer makes Stripe answer so from now on; nil: honestly.
func (w *world) answer(r *reply) {
	w.stripe.change(func() {
		w.stripe.rule = nil
		if r != nil {
			w.stripe.rule = func(Attempt) *reply { return r }
		}
	})
}

// TestOutage: while Stripe is down the outbox holds the queue, nearly nothing is buried
// and few requests are made; then everything is delivered.
func TestOutage(t *testing.T) {
	for name, down := range map[string]reply{"500": failed, "silence": silent, "unreachable": unsent, "HTML": strange, "500, counted": counted(failed)} {
		for _, lasts := range []time.Duration{time.Minute, 2 * time.Hour} {
			t.Run(fmt.Sprint(name, " for ", lasts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.places = 200
					l := w.start()
					w.load("before", 500, 50, 3*time.Millisecond)
					w.answer(&down)
					before := len(w.stripe.made(""))
					w.load("during", 2000, 50, 10*time.Millisecond)
					elapse(lasts - 20*time.Second)
					requests := len(w.stripe.made("")) - before
					if most := 300 + int(lasts/(15*time.Second)); requests > most {
						t.Errorf("%d requests during the outage, want at most %d", requests, most)
					}
					state, reason := l.gate.Status()
					if state != StateOpen && state != StateHalfOpen || !strings.Contains(reason, "Stripe is down") {
						t.Errorf("state %s: %s", state, reason)
					}
					check(t, "in hand while down", w.outbox.held() <= 64, true)
					w.answer(nil)
					if !w.outbox.settled(2 * time.Minute) {
						t.Fatalf("not drained, state %s", l.states)
					}
					elapse(time.Minute)
					l.drain()
					if dead := len(w.letters.all()); dead > 20 {
						t.Errorf("%d dead letters, want at most 20", dead)
					}
					check(t, "last states", strings.Join(l.states[len(l.states)-3:], ", "), "half-open, ramp, closed")
					for id, at := range w.stripe.counted {
						if len(at) != 1 {
							t.Errorf("%s counted %d times", id, len(at))
						}
					}
				})
			})
		}
	}
}

// TestProbes: one request an interval, 5 s doubling to a minute, shorter by a random part.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.crowd(300)
		w.answer(&failed)
		l := w.start()
		for state, _ := l.gate.Status(); state != StateOpen; state, _ = l.gate.Status() {
			elapse(time.Millisecond)
		}
		opened, before := time.Now(), len(w.stripe.made(""))
		elapse(10 * time.Minute)
		probes := w.stripe.made("")[before:]
		// Half of the random part is off; one that has failed before lets others go first.
		last, interval := opened, 5*time.Second
		for i, probe := range probes {
			least := time.Duration(0.625 * float64(interval))
			if gap := probe.at.Sub(last); gap < least-2*time.Millisecond || gap > least+othersFirst+time.Second {
				t.Errorf("probe %d after %v, want %v", i, gap, least)
			}
			last, interval = probe.at, min(2*interval, time.Minute)
		}
		if len(probes) < 12 {
			t.Errorf("%d probes in ten minutes", len(probes))
		}
		l.drain()
	})
}

// TestFewServerErrorsAreBuried: a handful of events that Stripe always fails on gets three
// requests each, then a letter with the outage's number; nothing opens.
func TestFewServerErrorsAreBuried(t *testing.T) {
	for name, customers := range map[string]int{"of one customer": 1, "of six customers": 6} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer(&failed)
				l := w.start()
				w.load("bad", 6, customers, 0)
				began := time.Now()
				w.outbox.settled(time.Hour)
				l.drain()
				check(t, "requests", len(w.stripe.made("")), 18)
				check(t, "states", strings.Join(l.states, ", "), "closed")
				for _, letter := range w.letters.all() {
					check(t, "reason", letter.Reason, deadletter.ServerError)
					check(t, "attempts", letter.Attempts, 3)
					check(t, "episode", letter.Episode, fmt.Sprint(began.Unix()))
				}
				check(t, "letters", len(w.letters.all()), 6)
			})
		})
	}
}

// TestOneCustomerFails: a customer for whom Stripe always fails opens nothing while others
// are well; alone it is taken for an outage after 20 letters, and then still keeps
// nobody else out for longer than an interval.
func TestOneCustomerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.rule = func(a Attempt) *reply {
			if a.Event.Customer() == "cus_0" {
				return &failed
			}
			return nil
		}
		l := w.start()
		w.load("mixed", 600, 5, 100*time.Millisecond)
		elapse(5 * time.Minute)
		letters := len(w.letters.all())
		if letters < 30 {
			t.Errorf("%d letters, want those of the failing customer", letters)
		}
		if state, _ := l.gate.Status(); state == StateClosed {
			t.Error("20 failures in a row and no sign of health: want an outage")
		}
		for i := range 40 {
			id := fmt.Sprintf("other-%d", i)
			m := w.outbox.publish(subject("cus_9"), datedBody(id, "cus_9", 1, time.Now()), nil)
			elapse(2 * time.Minute)
			if !m.acked {
				t.Errorf("event %d of another customer still waits after two minutes", i)
			}
		}
		l.drain()
	})
}

// TestOnePermanentCode: an archived meter halts the worker and does not drain the day into
// the dead letters; when it is mended, work goes on by itself.
func TestOnePermanentCode(t *testing.T) {
	refused := reply{Answer: Answer{Class: Refused, Status: 400, Code: "archived_meter", Detail: "archived"}}
	for _, byHand := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.places = 100
			w.answer(&refused)
			l := w.start()
			w.load("day", 500, 100, time.Millisecond)
			elapse(time.Hour)
			state, reason := l.gate.Status()
			if state != StateHalted && state != StateHalfOpen || !strings.Contains(reason, "archived_meter") { // a trial may be under way
				t.Errorf("state %s: %s", state, reason)
			}
			letters := len(w.letters.all())
			if letters > 60 {
				t.Errorf("%d letters, want hardly more than 50", letters)
			}
			if trials := len(w.stripe.made("")) - letters; trials > 61+100 {
				t.Errorf("%d requests beside the letters in an hour of halt", trials)
			}
			w.answer(nil)
			if byHand {
				l.gate.Resume()
				elapse(time.Second)
				if state, _ := l.gate.Status(); state == StateHalted {
					t.Error("a person's word does not end the halt")
				}
			}
			if !w.outbox.settled(2 * time.Minute) {
				t.Error("not delivered after the meter was mended")
			}
			check(t, "letters in the end", len(w.letters.all()), letters)
			l.drain()
		})
	}
}

// TestPause: nothing begins while a person has paused the worker.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.start()
		w.load("a", 10, 3, time.Millisecond)
		elapse(time.Second)
		l.gate.Hold("pause", StatePaused, "by alice: invoices")
		l.gate.Hold("clock", StateHalted, "the clock is wrong")
		l.gate.Lift("clock")
		w.load("b", 100, 10, time.Millisecond)
		elapse(time.Hour)
		check(t, "requests", len(w.stripe.made("")), 10)
		check(t, "in hand", w.outbox.held(), 0)
		l.gate.Resume() // a halt's end is no pause's end
		elapse(time.Minute)
		check(t, "requests", len(w.stripe.made("")), 10)
		l.gate.Lift("pause")
		l.gate.Lift("pause")
		if !w.outbox.settled(time.Minute) {
			t.Error("not resumed")
		}
		l.drain()
		check(t, "states", strings.Join(l.states, ", "), "closed, paused, halted, paused, closed")
	})
}

// TestRamp: the share of the rate doubles every five seconds from 5 %.
func TestRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(func(string, string) {}, func() float64 { return 0.5 })
		check(t, "closed", g.Share(), 1)
		g.open("down")
		g.Recovered()
		for range trialsNeeded {
			p, err := g.Enter(t.Context(), Turn{Lane: "lane"})
			if err != nil {
				t.Fatal(err)
			}
			g.Leave(p, okAnswer)
		}
		var shares []string
		for range 6 {
			shares = append(shares, fmt.Sprintf("%g", g.Share()))
			elapse(rampStep)
		}
		check(t, "shares", strings.Join(shares, " "), "0.05 0.1 0.2 0.4 0.8 1")
		state, _ := g.Status()
		check(t, "state", state, StateClosed)
	})
}

// TestAnotherWorkerRecovered: its word ends the interval, and is no more than a trial.
func TestAnotherWorkerRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.crowd(200)
		w.answer(&failed)
		l := w.start()
		elapse(5 * time.Minute)
		before := len(w.stripe.made(""))
		l.gate.Recovered()
		elapse(2 * time.Second)
		check(t, "trials", len(w.stripe.made(""))-before, 1)
		state, _ := l.gate.Status()
		check(t, "state", state, StateOpen)
		w.answer(nil)
		l.gate.Recovered()
		elapse(5 * time.Second)
		state, _ = l.gate.Status()
		check(t, "state", state, StateRamp)
		l.drain()
	})
}
