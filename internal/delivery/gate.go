package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// Gate decides whether the worker may work at all, and how. It is the outage breaker:
//
//	closed ── most results fail ──▶ open ── interval ──▶ half-open ── 3 in a row ──▶ ramp ── 25 s ──▶ closed
//	                                  ▲                     │                          │
//	                                  └────── a failure ────┘◀─── most results fail ───┘ (to open)
//
// and it is halted, from any state, by an answer that blames the set-up (until a new
// key or a person's word) or by one permanent code on most of the results (until a
// trial goes through). Beside that it can be held by name, as by a pause.
//
// While the key has not been proven by an answer from Stripe, and while half-open, one
// attempt is made at a time, so that wrong credentials cost one request and not
// hundreds, and a Stripe that is down sees one probe an interval.
type Gate struct {
	changed func(state, reason string)
	random  func() float64

	mu      sync.Mutex
	state   string // of the breaker; what is shown may be a hold
	reason  string // "" while closed
	holds   map[string]hold
	told    hold
	turn    int // counted up by each change of the state
	timer   *time.Timer
	episode context.Context // it is no call's: it ends when work stops
	end     context.CancelFunc
	flowing chan struct{} // closed while work flows

	breaker  *breaker
	interval time.Duration // of the next open state
	rampAt   time.Time
	refusing string // the permanent code of the halt that is being tried
	trials   trials
	down     bool // an outage was not over when the worker was halted

	proof      chan struct{} // capacity 1: held by the attempt that is made alone
	due        int           // healthy answers in a row before attempts go beside each other; 0: they do
	generation int           // of the key: counted up by Resume
}

var errStopped = errors.New("the worker is not to send anything now")

// NewGate returns a closed gate with an unproven key. changed is told of each new
// state, in order, and must not call the gate; random is uniform in [0, 1).
func NewGate(changed func(state, reason string), random func() float64) *Gate {
	g := &Gate{
		changed: changed, random: random, state: StateClosed, holds: map[string]hold{},
		breaker: newBreaker(), interval: openFirst, trials: trials{losers: map[string]bool{}},
		proof: make(chan struct{}, 1), due: 1, flowing: make(chan struct{}),
	}
	g.episode, g.end = context.WithCancel(context.Background())
	close(g.flowing)
	g.settle()
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

// Wait returns when work may flow, or with ctx.
func (g *Gate) Wait(ctx context.Context) error {
	g.mu.Lock()
	flowing := g.flowing
	g.mu.Unlock()
	select {
	case <-flowing:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// During returns a context that ends with parent and when work next stops.
func (g *Gate) During(parent context.Context) (context.Context, context.CancelFunc) {
	g.mu.Lock()
	episode := g.episode
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(parent)
	stop := context.AfterFunc(episode, cancel)
	return ctx, func() { stop(); cancel() }
}

// Places is how many of a partition's messages may be in hand, of as many as there
// are otherwise: few while half-open.
func (g *Gate) Places(otherwise int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != StateHalfOpen {
		return otherwise
	}
	return g.trials.places(otherwise)
}

// Turn is an attempt that would be made.
type Turn struct {
	Lane     string
	Sequence uint64 // of the message

	// Doubtful: the event may have been counted already; Inherited: by an attempt that
	// the journal tells of.
	Doubtful, Inherited bool
}

// Pass is the right to make one attempt with the key of its generation.
type Pass struct {
	Turn

	generation int
	alone      bool
}

// Enter waits until the attempt may be made; it fails when ctx ends or work has
// stopped. Leave must follow where it did not fail.
func (g *Gate) Enter(ctx context.Context, turn Turn) (Pass, error) {
	pass, alone, err := g.pass(turn)
	if err != nil || !alone {
		return pass, err
	}
	if patience := g.patience(turn); patience > 0 {
		idle(ctx, patience)
	}
	select {
	case g.proof <- struct{}{}:
	case <-ctx.Done():
		return Pass{}, fmt.Errorf("waiting for the attempt before: %w", ctx.Err())
	}
	pass, alone, err = g.pass(turn)
	if err != nil || !alone { // it was answered, for better or worse, while we waited
		<-g.proof
		return pass, err
	}
	pass.alone = true
	return pass, nil
}

func (g *Gate) pass(turn Turn) (pass Pass, alone bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.flows() {
		return Pass{}, false, errStopped
	}
	return Pass{Turn: turn, generation: g.generation}, g.due > 0, nil
}

func (g *Gate) patience(turn Turn) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.state == StateHalfOpen:
		return g.trials.patience(turn.Lane, turn.Doubtful)
	case turn.Inherited:
		return othersFirst // the first answer of a life also tells how Stripe's clock goes
	default:
		return 0
	}
}

// check is the last look at a pass before the first byte is written. It does not
// wait for the news of a halt to come by context: that takes a goroutine's time.
func (g *Gate) check(pass Pass) refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.flows():
		return refusedStopped
	case pass.generation != g.generation:
		return refusedOutdated
	case g.state == StateHalfOpen && !pass.alone:
		return refusedStopped // it had its turn before the outage began
	default:
		return notRefused
	}
}

// Leave ends the attempt and learns from its answer; the zero Answer says that there
// was none. When the answer blames the set-up, the gate is halted before the next
// attempt may enter; Leave then reports true, unless the fault concerns an earlier
// key: see Halt.
func (g *Gate) Leave(pass Pass, answer Answer) (halted bool) {
	g.mu.Lock()
	halted = g.learn(time.Now(), pass, answer)
	g.mu.Unlock()
	if pass.alone {
		<-g.proof
	}
	return halted
}

func (g *Gate) learn(now time.Time, pass Pass, a Answer) (halted bool) {
	if a.Class == 0 {
		return false
	}
	if a.Class.blamesSetup() {
		return g.halt(pass, haltReason(a))
	}
	if g.state == StateHalfOpen {
		if pass.alone && pass.generation == g.generation {
			g.tried(pass.Lane, a)
		}
		return false
	}
	if a.Class.provesKey() && pass.generation == g.generation && g.state != StateHalted {
		g.due = 0
	}
	found := g.breaker.note(now, pass.Turn, a)
	if g.state != StateClosed && g.state != StateRamp {
		return false
	}
	switch found {
	case failing:
		g.open(g.outage("Stripe is down", a))
	case refusing:
		g.refuse(permanentCode(a))
	case healthy:
	}
	return false
}

// Withhold reports whether a message that would be buried for this answer must wait
// instead, because the answer is no fault of the message; else it counts the burial,
// and returns the number of the outage that it may belong to. since is when the event
// began to fail.
func (g *Gate) Withhold(a Answer, since time.Time) (outage string, withheld bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !a.Class.fails() {
		return "", g.refusing != "" && permanentCode(a) == g.refusing
	}
	if faultpoint.Seeded(faultpoint.BuriedWhileOpen) {
		return "", false
	}
	if g.state != StateClosed || g.breaker.onset(since) {
		return "", true
	}
	if !g.breaker.mayBury() {
		g.open(g.outage("Stripe has failed on one event after the other", a))
		return "", true
	}
	return g.breaker.number(), false
}

// outage says what is wrong, by the last answer, and which number it has.
func (g *Gate) outage(what string, a Answer) string {
	return fmt.Sprintf("%s (%s); outage %s", what, describeAnswer(a), g.breaker.number())
}

func describeAnswer(a Answer) string {
	if a.Status == 0 {
		return a.Class.String() + ": " + a.Detail
	}
	return fmt.Sprintf("HTTP %d: %s", a.Status, a.Detail)
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
