package delivery

import (
	"context"
	"errors"
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
	reason  string          // "" while closed
	episode context.Context // it is no call's: it ends with the next halt
	end     context.CancelFunc
	resumed chan struct{} // closed while not halted

	proof      chan struct{} // capacity 1: held by the attempt that tries an unproven key
	known      bool
	generation int // of the key: counted up by Resume
}

var errHalted = errors.New("the worker is halted")

// NewGate returns a closed gate with an unproven key; changed is told of each new
// state, in order, and must not call the gate.
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
	return g.halt(pass, reason)
}

func (g *Gate) halt(pass Pass, reason string) bool {
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

// Enter waits until an attempt may be made; it fails when ctx ends or the worker
// is halted. Leave must follow where it did not fail.
func (g *Gate) Enter(ctx context.Context) (Pass, error) {
	if pass, known, err := g.pass(); known || err != nil {
		return pass, err
	}
	select {
	case g.proof <- struct{}{}:
	case <-ctx.Done():
		return Pass{}, fmt.Errorf("waiting for the key to be proven: %w", ctx.Err())
	}
	pass, known, err := g.pass()
	if known || err != nil { // proven, or refused, while we waited
		<-g.proof
		return pass, err
	}
	pass.proving = true
	return pass, nil
}

func (g *Gate) pass() (pass Pass, known bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reason != "" {
		return Pass{}, false, errHalted
	}
	return Pass{generation: g.generation}, g.known, nil
}

// check is the last look at a pass before the first byte is written. It does not
// wait for the news of a halt to come by context: that takes a goroutine's time.
func (g *Gate) check(pass Pass) refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.reason != "":
		return refusedStopped
	case pass.generation != g.generation:
		return refusedOutdated
	default:
		return notRefused
	}
}

// Leave ends the attempt and draws the conclusion of its answer for the key. When
// the answer blames the set-up, the gate is halted before the next one may enter;
// Leave then reports true, unless the fault concerns an earlier key: see Halt.
func (g *Gate) Leave(pass Pass, answer Answer) (halted bool) {
	g.mu.Lock()
	switch {
	case answer.Class.blamesSetup():
		halted = g.halt(pass, haltReason(answer))
	case answer.Class.provesKey() && pass.generation == g.generation:
		g.known = g.reason == ""
	}
	g.mu.Unlock()
	if pass.proving {
		<-g.proof
	}
	return halted
}

func haltReason(a Answer) string {
	if a.Class == ForeignReply {
		return "Stripe's reply is not for this event or mode: " + a.Detail
	}
	return fmt.Sprintf("Stripe refuses the set-up, not the event (HTTP %d %s): %s", a.Status, a.Code, a.Detail)
}

// blamesSetup reports whether an answer of this class says that no event at all
// can be delivered as things are.
func (c Class) blamesSetup() bool { return c == SetupFault || c == ForeignReply }

// provesKey reports whether an answer of this class shows that Stripe took the
// key. A server's fault and silence show nothing.
func (c Class) provesKey() bool {
	switch c {
	case Accepted, Duplicate, Refused, Throttled, Contended:
		return true
	case ServerFault, Unexpected, NoAnswer, NotSent, SetupFault, ForeignReply:
	}
	return false
}
