package delivery

import (
	"context"
	"fmt"
	"sync"
)

// The states of the breaker, as label values.
const (
	StateClosed = "closed"
	StateHalted = "halted"
)

// States is the closed list of the breaker's states.
func States() []string { return []string{StateClosed, StateHalted} }

// Gate decides whether the worker may work at all. It is closed (work flows) or
// halted; and while the key has not been proven by an answer from Stripe, one attempt
// is made at a time, so that wrong credentials cost one request and not hundreds.
type Gate struct {
	changed func(state, reason string)

	mu      sync.Mutex
	reason  string // "" while closed
	episode context.Context
	end     context.CancelFunc
	resumed chan struct{} // closed while not halted

	proof      chan struct{} // capacity 1: held by the attempt that tries an unproven key
	known      bool
	generation int // of the key: counted up by Resume
}

// NewGate returns a closed gate with an unproven key; changed is told of each new
// state.
func NewGate(changed func(state, reason string)) *Gate {
	g := &Gate{changed: changed, proof: make(chan struct{}, 1), resumed: make(chan struct{})}
	close(g.resumed)
	g.episode, g.end = context.WithCancel(context.Background())
	changed(StateClosed, "")
	return g
}

// Halt stops all work until Resume: what waits is handed back, what is in flight
// is finished. It reports false, and does nothing, when the fault concerns an
// earlier key than today's: a request that was under way when the key was
// rotated must not halt its successor.
func (g *Gate) Halt(pass Pass, reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if pass.generation != g.generation {
		return false
	}
	if g.reason != "" {
		return true
	}
	g.reason = reason
	g.known = false
	g.resumed = make(chan struct{})
	g.end()
	g.changed(StateHalted, reason)
	return true
}

// Resume lets work flow again, with an unproven key. Without a halt it only
// asks for a new proof.
func (g *Gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = false
	g.generation++
	if g.reason == "" {
		return
	}
	g.reason = ""
	g.episode, g.end = context.WithCancel(context.Background())
	close(g.resumed)
	g.changed(StateClosed, "")
}

// Reason is why the worker is halted, "" while it is not.
func (g *Gate) Reason() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason
}

// Wait returns when work may flow, or with ctx.
func (g *Gate) Wait(ctx context.Context) error {
	g.mu.Lock()
	resumed := g.resumed
	g.mu.Unlock()
	select {
	case <-resumed:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// During returns a context that ends with parent and with the next halt.
func (g *Gate) During(parent context.Context) (context.Context, context.CancelFunc) {
	g.mu.Lock()
	episode := g.episode
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(parent)
	stop := context.AfterFunc(episode, cancel)
	return ctx, func() { stop(); cancel() }
}

// Pass is the right to make one attempt with the key of its generation.
type Pass struct {
	generation int
	proving    bool
}

// Enter waits until an attempt may be made. Leave must follow.
func (g *Gate) Enter(ctx context.Context) (Pass, error) {
	if pass, known := g.pass(); known {
		return pass, nil
	}
	select {
	case g.proof <- struct{}{}:
	case <-ctx.Done():
		return Pass{}, fmt.Errorf("waiting for the key to be proven: %w", ctx.Err())
	}
	pass, known := g.pass()
	if known { // proven while we waited
		<-g.proof
		return pass, nil
	}
	pass.proving = true
	return pass, nil
}

func (g *Gate) pass() (pass Pass, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Pass{generation: g.generation}, g.known
}

// Leave ends the attempt and draws the conclusion of its answer for the key.
func (g *Gate) Leave(pass Pass, answer Answer) {
	g.mu.Lock()
	if answer.Class.provesKey() && pass.generation == g.generation {
		g.known = g.reason == ""
	}
	g.mu.Unlock()
	if pass.proving {
		<-g.proof
	}
}

// provesKey reports whether an answer of this class shows that Stripe took the
// key. A server's fault and silence show nothing.
func (c Class) provesKey() bool {
	switch c {
	case Accepted, Duplicate, Refused, Throttled, Contended:
		return true
	default:
		return false
	}
}
