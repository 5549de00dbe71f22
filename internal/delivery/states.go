package delivery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The states of the breaker, as label values.
const (
	StateClosed   = "closed"    // work flows
	StateOpen     = "open"      // Stripe is down: nothing is fetched, the stream holds the queue
	StateHalfOpen = "half-open" // one attempt at a time finds out whether it is back
	StateRamp     = "ramp"      // it is: work flows at a growing share of the rate
	StateHalted   = "halted"    // the set-up is wrong: nothing is sent until it is mended
	StatePaused   = "paused"    // a person has said so
)

// States is the closed list of the breaker's states.
func States() []string {
	return []string{StateClosed, StateOpen, StateHalfOpen, StateRamp, StateHalted, StatePaused}
}

const (
	// openFirst doubles up to openMost, each with a random part taken off.
	openFirst = 5 * time.Second
	openMost  = time.Minute
	openLeast = 0.25 // share of the interval that remains at least

	// trialsNeeded attempts in a row must show a healthy Stripe.
	trialsNeeded = 3

	// The ramp begins at rampFrom of the rate and doubles every rampStep.
	rampFrom = 0.05
	rampStep = 5 * time.Second
	rampTime = 5 * rampStep

	// retryRefused is how long most events must have been refused with one code before
	// one of them is tried again: a person has to mend a meter.
	retryRefused = time.Minute
)

// hold keeps the worker from working, whatever the breaker says.
type hold struct{ state, reason string }

// Hold stops all work, under a name, until Lift of that name: a pause by a person, or
// a halt for a fault that is not Stripe's. What waits is handed back, what is in
// flight is finished.
func (g *Gate) Hold(name, state, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holds[name] == (hold{state, reason}) {
		return
	}
	g.holds[name] = hold{state, reason}
	g.settle()
}

// Lift ends a hold; without one of that name it does nothing.
func (g *Gate) Lift(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, held := g.holds[name]; held {
		delete(g.holds, name)
		g.settle()
	}
}

// Resume is a new key, or a person's word: a halt ends, with an unproven key; an
// outage is over if the next attempts say so.
func (g *Gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.generation++
	g.due = max(g.due, 1)
	switch g.state {
	case StateHalted:
		g.refusing = ""
		g.goOn()
	case StateOpen:
		g.try()
	}
}

// goOn is where a halt leads when it ends. An outage that was not over is not over now:
// closed, the gate would let as many events be buried as at its onset.
func (g *Gate) goOn() {
	if g.down {
		g.down = false
		g.try()
		return
	}
	g.become(StateClosed, "")
}

// Recovered tells that another worker has found Stripe to be back, so that this one
// need not wait for its interval to end.
func (g *Gate) Recovered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == StateOpen {
		g.try()
	}
}

// halt is for faults of the set-up; see Halt.
func (g *Gate) halt(pass Pass, reason string) bool {
	if pass.generation != g.generation {
		return false
	}
	if g.state != StateHalted {
		g.due = max(g.due, 1)
		g.down = g.state != StateClosed
		g.become(StateHalted, reason)
	}
	return true
}

// open stops the fetching because Stripe is down.
func (g *Gate) open(reason string) {
	if g.state == StateClosed || g.state == StateRamp {
		g.trials.few = g.breaker.few()
		g.trials.lose(slices.Collect(maps.Keys(g.breaker.lanes))...)
	}
	g.become(StateOpen, reason)
	interval := float64(g.interval) * (openLeast + (1-openLeast)*g.random())
	g.interval = min(2*g.interval, openMost)
	g.after(time.Duration(interval), g.try)
}

// refuse halts because most events are refused with one code, and tries again
// later by itself: the fault is not in this worker.
func (g *Gate) refuse(code string) {
	g.refusing, g.trials.few = code, true
	g.become(StateHalted, fmt.Sprintf("Stripe refuses most events with %s: mend the meter or the producer; one event is tried every %s, and on `meterworker resume`", code, retryRefused))
	g.after(retryRefused, g.try)
}

// try lets attempts through, one at a time.
func (g *Gate) try() {
	g.due = trialsNeeded
	g.breaker = newBreaker()
	g.become(StateHalfOpen, g.reason)
}

// tried draws the conclusion of one of these attempts.
func (g *Gate) tried(lane string, a Answer) {
	switch {
	case g.refusing != "" && permanentCode(a) == g.refusing:
		g.lost(lane)
		g.refuse(g.refusing)
	case a.Class.fails():
		g.lost(lane)
		g.open(g.reason)
	case a.Class.provesKey():
		g.trials.few = true // Stripe answers somebody: if others fail next, it is they
		if g.due--; g.due == 0 {
			g.ramp()
		}
	}
}

func (g *Gate) lost(lane string) {
	g.trials.lose(lane)
	g.trials.failed++
}

func (g *Gate) ramp() {
	g.refusing = ""
	g.breaker = newBreaker()
	g.rampAt = time.Now()
	g.become(StateRamp, "")
	g.after(rampTime, func() {
		g.interval, g.trials = openFirst, trials{losers: map[string]bool{}}
		g.become(StateClosed, "")
	})
}

// Share is the part of the rate that may be used now, above 0 and at most 1.
func (g *Gate) Share() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != StateRamp {
		return 1
	}
	return min(1, rampFrom*float64(int64(1)<<min(time.Since(g.rampAt)/rampStep, 10)))
}

// after runs what is next, unless the state changes before.
func (g *Gate) after(d time.Duration, next func()) {
	turn := g.turn
	g.timer = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.turn == turn {
			next()
		}
	})
}

// become is the one place that changes the state.
func (g *Gate) become(state, reason string) {
	g.turn++
	if g.timer != nil {
		g.timer.Stop()
	}
	g.state, g.reason = state, reason
	g.settle()
}

// settle lets work flow or stops it, and tells of a new state.
func (g *Gate) settle() {
	flows := g.flows()
	switch {
	case flows && g.episode.Err() != nil:
		g.episode, g.end = context.WithCancel(context.Background())
		close(g.flowing)
	case !flows && g.episode.Err() == nil:
		g.flowing = make(chan struct{})
		g.end()
	}
	if state, reason := g.status(); state != g.told.state || reason != g.told.reason {
		g.told = hold{state, reason}
		g.changed(state, reason)
	}
}

func (g *Gate) flows() bool {
	return len(g.holds) == 0 && g.state != StateOpen && g.state != StateHalted
}

// status is what the outside sees: a halt before a pause before an outage.
func (g *Gate) status() (state, reason string) {
	rank := map[string]int{StatePaused: 1, StateHalted: 2}
	worst := hold{g.state, g.reason}
	for _, name := range slices.Sorted(maps.Keys(g.holds)) {
		if h := g.holds[name]; rank[h.state] > rank[worst.state] {
			worst = h
		}
	}
	return worst.state, worst.reason
}

// Status is the state to show, and why it is not closed.
func (g *Gate) Status() (state, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status()
}
