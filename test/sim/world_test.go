package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
	"github.com/meterworker/meterworker/internal/metrics"
)

const (
	safeWindow = 23 * time.Hour
	ackWait    = 30 * time.Second
	epoch      = "e1"

	// perSecond is the account's limit here, small enough that a few dozen events
	// reach it; mostLives of workers have an equal share each.
	perSecond = 60
	mostLives = 3
)

// invariant is a proposition of docs/invariants.md.
type invariant string

// violation is a broken invariant.
type violation struct {
	rule   invariant
	at     time.Time
	detail string
}

// world is everything outside of the workers, and what is known of them. Its mutex guards
// all that the models share; nobody waits while holding it.
type world struct {
	dice    dice
	met     map[kind]bool // the kinds of faults of this schedule
	seen    tally
	metrics *metrics.Set
	journal *journaltest.Store
	outbox  *outbox
	letters *letters
	stripe  *stripe
	books   *books
	fleet   *fleet
	beside  sync.WaitGroup // what goes on beside the workers and outlives them

	mu         sync.Mutex
	calm       bool          // faults are over
	changed    chan struct{} // closed and replaced when somebody may have something to do
	down       time.Time     // the server is down until then
	began      time.Time
	trace      []traced
	violations []violation
	lives      []*life
	schedule   schedule
	control    control
	killed     bool    // the server was, right after an ack
	drafts     []draft // what was published first
	held       bool    // the fleet is paused
	disturbed  bool    // a message may have been settled more than once
	stream     bool    // the workers use API v2
}

// traced is a line of the trace.
type traced struct {
	at       time.Time
	life     int
	what     string
	sequence uint64
	detail   string
}

func newWorld(seed uint64, seen tally) *world {
	w := &world{
		dice: dice(seed), seen: seen, journal: journaltest.New(), changed: make(chan struct{}), began: time.Now(),
		metrics: metrics.New(metrics.Labels{BreakerStates: delivery.States()}),
	}
	w.met = subset(w.dice.draw("kinds"))
	if w.met[shortMemory] {
		w.seen.note(string(shortMemory))
	}
	w.outbox, w.letters, w.stripe, w.books = newOutbox(w), newLetters(w), newStripe(w), newBooks(w)
	w.fleet = newFleet(w)
	if seed%2 == 0 {
		w.journal.SetSingle()
	}
	return w
}

// meets reports whether the fault takes place: the schedule knows the kind, and one
// time in so many it strikes.
func (w *world) meets(k kind, oneIn int, numbers ...uint64) bool {
	if w.calm || !w.met[k] || w.dice.draw(string(k), numbers...).IntN(oneIn) != 0 {
		return false
	}
	w.seen.note(string(k))
	return true
}

// note adds a line to the trace. w.mu is held.
func (w *world) note(life int, what string, sequence uint64, detail string) {
	w.trace = append(w.trace, traced{time.Now(), life, what, sequence, detail})
}

// lock runs f under the world's mutex.
func (w *world) lock(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// violate records a broken invariant. w.mu is held.
func (w *world) violate(rule invariant, format string, args ...any) {
	v := violation{rule, time.Now(), fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.note(0, "VIOLATION "+string(rule), 0, v.detail)
}

// wake tells everybody who waits that something has changed. w.mu is held.
func (w *world) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// pass lets virtual time run on.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// story is the trace for people.
func (w *world) story() string {
	var b strings.Builder
	for _, l := range w.trace {
		who := "world "
		if l.life > 0 {
			who = fmt.Sprintf("life %d", l.life)
		}
		fmt.Fprintf(&b, "%14s  %s  %-34s", l.at.Sub(w.began).Round(time.Microsecond), who, l.what)
		if l.sequence > 0 {
			fmt.Fprintf(&b, " #%d", l.sequence)
		}
		if l.detail != "" {
			fmt.Fprintf(&b, "  %s", l.detail)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
