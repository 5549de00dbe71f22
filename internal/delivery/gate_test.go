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

// crowd publishes n events, each of a customer of its own.
func (w *world) crowd(n int) {
	from := len(w.outbox.messages)
	for i := from; i < from+n; i++ {
		customer := fmt.Sprintf("cus_%d", i)
		w.outbox.publish(subject(customer), datedBody(fmt.Sprintf("id-%d", i), customer, 1, time.Now()), nil)
	}
}

// TestWrongKeyFromTheStart: with 200 messages waiting, wrong credentials cost one
// request.
func TestWrongKeyFromTheStart(t *testing.T) {
	for _, wrong := range []reply{unauthorized, foreign} {
		t.Run(wrong.Class.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.places, w.cfg.Ahead = 200, 100
				w.cfg.Random = func() float64 { pass(time.Millisecond); return 0.5 } // the decision may take its time
				bad := true
				w.stripe.rule = func(Attempt) *reply {
					if bad {
						slow := wrong
						slow.working = func(context.Context) { pass(100 * time.Millisecond) }
						return &slow
					}
					return nil
				}
				w.crowd(200)
				l := w.start()
				elapse(10 * time.Minute)
				check(t, "requests", len(w.stripe.made("")), 1)
				check(t, "in hand", w.outbox.held(), 0)
				check(t, "open intents", l.journal.Open(), 0)
				check(t, "states", strings.Join(l.states, ", "), "closed, halted")
				if reason := reasonOf(l.gate); !strings.Contains(reason, wrong.Detail) {
					t.Errorf("reason %q does not show %q", reason, wrong.Detail)
				}
				for _, m := range w.outbox.messages {
					if m.acked || len(m.naks) == 0 {
						t.Fatalf("message %d: acked %v, handed back %d times", m.sequence, m.acked, len(m.naks))
					}
				}
				w.stripe.change(func() { bad = false })
				l.gate.Resume()
				if !w.outbox.settled(time.Hour) {
					t.Error("a new key did not mend it")
				}
				l.drain()
				check(t, "requests", len(w.stripe.made("")), 201)
				check(t, "dead letters", len(w.letters.all()), 0)
				check(t, "states", strings.Join(l.states, ", "), "closed, halted, closed")
			})
		})
	}
}

// TestKeyRevokedMidRun: no request begins after the first 401 was read.
func TestKeyRevokedMidRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.places, w.cfg.Ahead = 200, 200
		revoked := make(chan struct{})
		var first time.Time
		n := 0
		w.stripe.rule = func(Attempt) *reply {
			if n++; n == 1 {
				return nil // proves the key
			}
			late := unauthorized
			k := n
			late.dial = func(context.Context) { pass(time.Duration(k) * time.Millisecond) }
			late.working = func(context.Context) {
				<-revoked
				pass(time.Second)
				w.stripe.change(func() {
					if first.IsZero() {
						first = time.Now()
					}
				})
			}
			return &late
		}
		w.crowd(50)
		w.stripe.script = nil
		l := w.start()
		elapse(time.Minute)
		inFlight := len(w.stripe.made("")) - 1
		check(t, "in flight", inFlight, 49)
		w.crowd(50) // 50 more that are dialling when the first 401 is read
		elapse(50 * time.Millisecond)
		close(revoked)
		elapse(time.Hour)
		for _, r := range w.stripe.made("") {
			if r.at.After(first) {
				t.Errorf("a request began %v after the first 401", r.at.Sub(first))
			}
		}
		check(t, "states", strings.Join(l.states, ", "), "closed, halted")
		check(t, "dead letters", len(w.letters.all()), 0)
		check(t, "in hand", w.outbox.held(), 0)
		l.drain()
	})
}

// TestDiallingWhenTheHaltComes: the gate is looked at after the connection was
// obtained, not only when the context says so.
func TestDiallingWhenTheHaltComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gates := make(chan *Gate, 1)
		w.stripe.script["a"] = []reply{{dial: func(ctx context.Context) {
			gate := <-gates
			pass, _ := gate.Enter(ctx, Turn{Lane: "lane"})
			gate.Leave(pass, unauthorized.Answer)
		}}}
		w.outbox.publish(subject("cus_1"), body("p", 1), nil) // proves the key
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		gates <- l.gate
		elapse(time.Minute)
		check(t, "requests", len(w.stripe.made("a")), 0)
		if m.acked || len(m.naks) == 0 {
			t.Errorf("acked %v, handed back %d times", m.acked, len(m.naks))
		}
		l.drain()
	})
}

// TestKeyRotatedWhileWaiting: attempts that had their turn with the old key do not
// rush ahead with the new one, which nobody has proven.
func TestKeyRotatedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.places, w.cfg.Ahead = 100, 100
		gate := make(chan struct{})
		n, rotated := 0, false
		w.stripe.rule = func(Attempt) *reply {
			if n++; n == 1 {
				return nil
			}
			if !rotated {
				return &reply{dial: func(context.Context) { <-gate }}
			}
			slow := unauthorized
			slow.working = func(context.Context) { pass(time.Second) }
			return &slow
		}
		w.crowd(50)
		l := w.start()
		elapse(time.Minute)
		w.stripe.change(func() { rotated = true })
		l.gate.Resume()
		close(gate)
		elapse(time.Hour)
		check(t, "requests with the new key", len(w.stripe.made(""))-1, 1)
		check(t, "states", strings.Join(l.states, ", "), "closed, halted")
		l.drain()
	})
}

// TestRefusalOfAnEarlierKey: a 401 for a request that was under way when the key was
// rotated does not halt the worker; the event goes out with the new key.
func TestRefusalOfAnEarlierKey(t *testing.T) {
	for _, old := range []reply{unauthorized, foreign} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			old.working = func(context.Context) { pass(time.Second) }
			w.stripe.script["a"] = []reply{old}
			w.outbox.publish(subject("cus_1"), body("a", 7), nil)
			l := w.start()
			elapse(500 * time.Millisecond)
			l.gate.Resume()
			if !w.outbox.settled(time.Hour) {
				t.Error("not delivered with the new key")
			}
			l.drain()
			check(t, "states", strings.Join(l.states, ", "), "closed")
			check(t, "requests", len(w.stripe.made("a")), 2)
			check(t, "counted", len(w.stripe.counted["a"]), 1)
		})
	}
}

// TestForeignReplyIsUnknown: a 200 for another identifier or mode halts, is not acked,
// and what it may have done is remembered.
func TestForeignReplyIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["a"] = []reply{counted(foreign), refusedForGood}
		w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		elapse(time.Minute)
		if effects := strings.Join(w.effects(), ", "); !strings.HasPrefix(effects, "intent, send, record unknown, nak") {
			t.Errorf("effects: %s", effects)
		}
		check(t, "requests", len(w.stripe.made("")), 1)
		l.gate.Resume()
		w.outbox.settled(time.Hour)
		l.drain()
		check(t, "outcome", w.letters.all()[0].Outcome, deadletter.Unknown)
	})
}

// TestProofGoesOnAfterSilence: an unproven key and a silent Stripe cost one request
// at a time, and a panicking sender does not keep the turn.
func TestProofGoesOnAfterSilence(t *testing.T) {
	for name, first := range map[string]reply{
		"silence": silent, "500": failed, "not sent": unsent, "panic": {panics: "after"}, "panic before": {panics: "before"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n, now, most := 0, 0, 0
				w.stripe.rule = func(Attempt) *reply {
					if n++; n > 20 {
						return nil
					}
					slow := first
					slow.dial = func(context.Context) {
						now++
						most = max(most, now)
						pass(time.Second)
						now--
					}
					return &slow
				}
				w.crowd(30)
				l := w.start()
				if !w.outbox.settled(time.Hour) {
					t.Error("stuck")
				}
				l.drain()
				check(t, "at once", most, 1)
			})
		})
	}
}

func TestGateStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		g := NewGate(func(state, reason string) { told = append(told, strings.TrimSpace(state+" "+reason)) }, rand.Float64)
		enter := func() Pass {
			p, err := g.Enter(t.Context(), Turn{Lane: "lane"})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := enter()
		if g.Leave(p, okAnswer) {
			t.Error("a 200 halts nothing")
		}
		known, other := enter(), enter() // beside each other: the key is proven
		check(t, "halted", g.Halt(known, "by hand"), true)
		check(t, "halted twice", g.Halt(other, "again"), true)
		check(t, "reason", reasonOf(g), "by hand")
		if _, err := g.Enter(t.Context(), Turn{Lane: "lane"}); err == nil {
			t.Error("entered while halted")
		}
		g.Leave(known, okAnswer) // came too late to prove anything
		waited := make(chan error)
		go func() { waited <- g.Wait(t.Context()) }()
		synctest.Wait()
		g.Resume()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		check(t, "an old fault", g.Leave(other, unauthorized.Answer), false)
		p = enter()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Enter(ctx, Turn{Lane: "lane"}); err == nil {
			t.Error("two at once with an unproven key")
		}
		g.Leave(p, failed.Answer)
		p = enter()
		g.Leave(p, okAnswer)
		g.Leave(enter(), okAnswer)
		check(t, "told", strings.Join(told, "; "), "closed; halted by hand; closed")
		check(t, "reason", reasonOf(g), "")
	})
}

func reasonOf(g *Gate) string {
	_, reason := g.Status()
	return reason
}

func TestGateDuring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(func(string, string) {}, rand.Float64)
		ctx, end := g.During(t.Context())
		defer end()
		g.Halt(Pass{}, "why")
		<-ctx.Done()
		late, endLate := g.During(t.Context())
		defer endLate()
		<-late.Done()
		g.Resume()
		next, endNext := g.During(t.Context())
		synctest.Wait()
		check(t, "alive after resume", next.Err(), nil)
		endNext()
		check(t, "ended", next.Err(), context.Canceled)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		check(t, "wait with an ended context", g.Wait(ended), context.Canceled)
	})
}
