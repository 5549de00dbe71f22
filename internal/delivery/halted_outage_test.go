package delivery

import (
	"testing"
	"testing/synctest"
)

// TestAHaltDoesNotEndAnOutage halts a worker in an outage, as a revoked key does, and lets
// it go on: closed, it could bury as many events again as at the onset.
func TestAHaltDoesNotEndAnOutage(t *testing.T) {
	for name, row := range map[string]struct {
		before func(g *Gate)
		after  string
	}{
		"in closed":    {func(*Gate) {}, StateClosed},
		"in open":      {func(g *Gate) { g.open("down") }, StateHalfOpen},
		"in half-open": {func(g *Gate) { g.open("down"); g.try() }, StateHalfOpen},
		"in the ramp":  {func(g *Gate) { g.open("down"); g.try(); g.ramp() }, StateHalfOpen},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate(func(string, string) {}, func() float64 { return 0 })
				g.mu.Lock()
				row.before(g)
				g.mu.Unlock()
				check(t, "halted", g.Leave(Pass{}, Answer{Class: SetupFault, Status: 401}), true)
				g.Resume()
				state, _ := g.Status()
				check(t, "state after the halt", state, row.after)
			})
		})
	}
}

// TestAMessageThatComesAgainHasAnotherKey hands a message back after a server error and
// takes it again in the same life: under the same Idempotency-Key Stripe would repeat the
// error for a day.
func TestAMessageThatComesAgainHasAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.start()
		w.stripe.script = map[string][]reply{"e": {failed}}
		w.outbox.publish(subject("cus_1"), body("e", 1), nil)
		elapse(0)
		l.gate.Hold("test", StatePaused, "") // during the back-off: it is handed back
		elapse(0)
		l.gate.Lift("test")
		w.outbox.settled(window)
		l.drain()
		keys := map[string]bool{}
		for _, r := range w.stripe.requests {
			keys[r.key] = true
		}
		check(t, "requests", len(w.stripe.requests), 2)
		check(t, "different keys", len(keys), 2)
	})
}
