package delivery

import (
	"maps"
	"strconv"
	"time"
)

// When results are taken for an outage of Stripe, and not for trouble with a few
// events: half of at least tripResults of the last tripWindow failed, or of the last
// tripSoon (at 1,000/s the longer window alone would need five seconds), or the last
// tripStreak over at least tripFor did; and it concerns more than a customer or two.
const (
	tripResults = 20
	tripShare   = 0.5
	tripWindow  = 10 * time.Second
	tripSoon    = time.Second
	tripStreak  = 10
	tripFor     = 2 * time.Second

	// tripLanes and tripEvents are how many lanes and events must have failed within
	// tripWindow, and not recovered. Below it an answer of 5xx may be about the customer or the event, and a
	// handful of events gets its three attempts; silence and failed connections never are.
	tripLanes  = 3
	tripEvents = 10

	// buryAtMost is how many server errors in a row are buried without any sign of
	// Stripe's health in between; with few lanes more, since then it may be their fault.
	buryAtMost    = 10
	buryAtMostFew = 20

	// One permanent code on refuseShare of at least refuseResults in refuseWindow is no
	// event's fault: a meter was archived, or a whole producer is wrong.
	refuseResults = 50
	refuseShare   = 0.5
	refuseWindow  = time.Minute
)

// finding is what the results so far say.
type finding uint8

const (
	healthy  finding = iota
	failing          // Stripe is down
	refusing         // Stripe refuses most events for one and the same reason
)

// breaker judges Stripe's health by the results of this worker's requests. 5xx,
// answers outside the contract, time-outs and connection errors are failures; 429, 4xx
// and duplicates are signs of health. Time is passed in.
type breaker struct {
	recent  slidingWindow
	lanes   map[string]time.Time // lanes that failed within tripWindow and not recovered, tripLanes of them at most
	events  map[uint64]time.Time // the same for events
	streak  int                  // failures in a row
	since   time.Time            // the first of them
	buried  int                  // server errors buried since then
	well    time.Time            // when Stripe last executed an event
	last    time.Time            // last failure
	episode time.Time            // first failure after tripWindow without one
	minute  slidingWindow        // for the permanent codes
}

func newBreaker() *breaker {
	return &breaker{
		recent: newWindow(tripWindow, 100),
		lanes:  map[string]time.Time{},
		events: map[uint64]time.Time{},
		minute: newWindow(refuseWindow, 60),
	}
}

// fails reports whether an attempt of this class counts against Stripe's health.
func (c Class) fails() bool {
	switch c {
	case ServerFault, Unexpected, NoAnswer, NotSent:
		return true
	case Accepted, Duplicate, Refused, Throttled, Contended, SetupFault, ForeignReply:
	}
	return false
}

// executed reports whether Stripe has looked at the event itself. A 409 or 429 shows only
// that somebody answers.
func (c Class) executed() bool { return c == Accepted || c == Duplicate || c == Refused }

// unreached reports whether no answer came at all: that is never a customer's fault.
func (c Class) unreached() bool { return c == NoAnswer || c == NotSent }

// note takes one result in and says what the results come to.
func (b *breaker) note(now time.Time, turn Turn, a Answer) finding {
	failed, code := a.Class.fails(), permanentCode(a)
	if a.Shared {
		b.beside(now, turn, a.Class)
		return healthy
	}
	b.recent.add(now, tally{results: 1, failures: one(failed), unreached: one(a.Class.unreached())})
	b.minute.add(now, tally{results: 1}).count(code)
	if !failed {
		if b.streak = 0; a.Class.executed() {
			b.recover(now, turn)
		}
		if code != "" && b.refused(now, code) {
			return refusing
		}
		return healthy
	}
	if b.fail(now, turn); b.tripped(now) {
		return failing
	}
	return healthy
}

// beside takes in what one more event was told by a request whose result is counted: whom
// it concerns.
func (b *breaker) beside(now time.Time, turn Turn, c Class) {
	switch {
	case c.fails():
		remember(b.lanes, turn.Lane, now, tripLanes)
		remember(b.events, turn.Sequence, now, tripEvents)
	case c.executed():
		b.recover(now, turn)
	}
}

// refused reports whether most of the last minute's results were this code.
func (b *breaker) refused(now time.Time, code string) bool {
	all := b.minute.sum(now, refuseWindow)
	return all.results >= refuseResults && float64(b.minute.counted(code)) >= refuseShare*float64(all.results)
}

func (b *breaker) fail(now time.Time, turn Turn) {
	if b.streak++; b.streak == 1 {
		b.since = now
	}
	if b.episode.IsZero() || now.Sub(b.last) > tripWindow {
		b.episode = now
	}
	b.last = now
	remember(b.lanes, turn.Lane, now, tripLanes)
	remember(b.events, turn.Sequence, now, tripEvents)
}

// recover takes note of an event that Stripe has executed: whatever it failed on before
// has passed.
func (b *breaker) recover(now time.Time, turn Turn) {
	b.buried, b.well = 0, now
	delete(b.lanes, turn.Lane)
	delete(b.events, turn.Sequence)
}

// remember keeps up to so many of what failed within tripWindow.
func remember[K comparable](seen map[K]time.Time, what K, now time.Time, most int) {
	maps.DeleteFunc(seen, func(_ K, at time.Time) bool { return now.Sub(at) > tripWindow })
	if _, known := seen[what]; known || len(seen) < most {
		seen[what] = now
	}
}

// tripped applies the thresholds. It is asked after a failure.
func (b *breaker) tripped(now time.Time) bool {
	whole := b.recent.sum(now, tripWindow)
	if b.few() && 2*whole.unreached < whole.failures {
		return false
	}
	soon := b.recent.sum(now, tripSoon)
	inARow := b.streak >= tripStreak && now.Sub(b.since) >= tripFor
	return inARow || whole.mostlyFailed() || soon.mostlyFailed()
}

// few reports whether so few have failed that it may be their own fault.
func (b *breaker) few() bool { return len(b.lanes) < tripLanes || len(b.events) < tripEvents }

// onset reports whether this looks like the first moments of an outage to an event that
// has failed since then: many others fail, and nothing was well meanwhile.
func (b *breaker) onset(since time.Time) bool { return !b.few() && !b.well.After(since) }

// mayBury reports whether one more server error may be buried; it counts.
func (b *breaker) mayBury() bool {
	most := buryAtMost
	if b.few() {
		most = buryAtMostFew
	}
	if b.buried >= most {
		return false
	}
	b.buried++
	return true
}

// number tells outages apart: the Unix second of the first failure.
func (b *breaker) number() string { return strconv.FormatInt(b.episode.Unix(), 10) }

// permanentCode names the reason of a refusal, "" for other answers.
func permanentCode(a Answer) string {
	switch {
	case a.Class != Refused:
		return ""
	case a.Code == "":
		return "HTTP " + strconv.Itoa(a.Status)
	default:
		return a.Code
	}
}

// tally counts results.
type tally struct {
	results, failures, unreached int
	codes                        map[string]int // refusals by permanent code
}

func (t *tally) mostlyFailed() bool {
	return t.results >= tripResults && float64(t.failures) >= tripShare*float64(t.results)
}

func (t *tally) count(code string) {
	if code == "" {
		return
	}
	if t.codes == nil {
		t.codes = map[string]int{}
	}
	t.codes[code]++
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// slidingWindow is a sliding sum over slots of time.
type slidingWindow struct {
	width time.Duration
	slots []tally
	ends  int64 // number of the newest slot, counted from 1970
}

func newWindow(span time.Duration, slots int) slidingWindow {
	return slidingWindow{width: span / time.Duration(slots), slots: make([]tally, slots)}
}

// advance clears the slots that time has come to since; it returns the newest one.
func (w *slidingWindow) advance(now time.Time) *tally {
	newest := now.UnixNano() / int64(w.width)
	for steps := 0; w.ends < newest && steps < len(w.slots); steps++ {
		w.ends++
		*w.at(w.ends) = tally{}
	}
	w.ends = max(w.ends, newest)
	return w.at(w.ends)
}

func (w *slidingWindow) at(number int64) *tally { return &w.slots[number%int64(len(w.slots))] }

func (w *slidingWindow) add(now time.Time, t tally) *tally {
	s := w.advance(now)
	s.results += t.results
	s.failures += t.failures
	s.unreached += t.unreached
	return s
}

// sum adds up the slots of the span, at most all of them; without the codes.
func (w *slidingWindow) sum(now time.Time, span time.Duration) tally {
	w.advance(now)
	var all tally
	for i := range int64(span / w.width) {
		s := w.at(w.ends - i)
		all.results += s.results
		all.failures += s.failures
		all.unreached += s.unreached
	}
	return all
}

// counted is how often the code occurs in the whole window.
func (w *slidingWindow) counted(code string) int {
	n := 0
	for i := range w.slots {
		n += w.slots[i].codes[code]
	}
	return n
}
