package journal

import (
	"errors"
	"sync"
	"time"
)

// MinMemory is the least time that the ledger remembers deliveries: Stripe's 24 h
// and an hour of margin. Below it the worker stops rather than guess.
const MinMemory = 25 * time.Hour

// ErrMemory says that the ledger cannot stay under its cap without forgetting
// what Stripe forgets too.
var ErrMemory = errors.New("the ledger is over METERWORKER_LEDGER_MAX_BYTES and may not forget the last 25 hours; give it more memory, more workers or more partitions")

// Verdict is the ledger's answer for one message. The list is closed.
type Verdict uint8

// The verdicts.
const (
	Fresh           Verdict = iota + 1 // nothing is known, or only attempts of unknown outcome: see Known.Unknown
	WasDelivered                       // this very sequence was delivered: ack
	WasBuried                          // this very sequence has its dead letter: ack
	IsDying                            // this very sequence's dead letter may be stored: publish Known.Letter again
	DeliveredBefore                    // another sequence with the same content was delivered
	OtherContent                       // another sequence with other content was delivered
	Forgotten                          // the event is older than what is still remembered
)

var verdictNames = map[Verdict]string{
	Fresh: "fresh", WasDelivered: "delivered", WasBuried: "dead", IsDying: "dying",
	DeliveredBefore: "duplicate", OtherContent: "conflict", Forgotten: "forgotten",
}

func (v Verdict) String() string { return verdictNames[v] }

// Verdicts returns the closed list as label values.
func Verdicts() []string {
	names := make([]string, 0, len(verdictNames))
	for v := Fresh; v <= Forgotten; v++ {
		names = append(names, v.String())
	}
	return names
}

// Known is what the ledger says about one message.
type Known struct {
	Verdict Verdict
	By      uint64 // DeliveredBefore, OtherContent: the sequence that was delivered
	Letter  []byte // IsDying: the letter's header block
	DyingAt Moment // IsDying: when the letter was announced

	// Attempts of unknown outcome for this identifier, of any sequence.
	Unknown      bool
	Oldest       Moment // the oldest of those that are not forgiven
	SameContent  bool   // one of them had this message's fingerprint
	OtherContent bool   // one of them had another fingerprint
	OtherAlive   Moment // the newest one with another fingerprint whose message is not buried; zero: none
}

// Question is what is asked of the ledger.
type Question struct {
	Sequence    uint64
	Key         uint64
	Body        uint64 // hash of the body: guards what is known of the sequence alone
	Fingerprint uint32
	EventTime   time.Time // the event's own timestamp
	Forgive     time.Time // attempts of earlier sequences from before this server time do not count; zero: all count
}

type delivery struct {
	sequence    uint64
	fingerprint uint32
}

type attempt struct {
	sequence    uint64
	fingerprint uint32
	stamp       time.Time // server time, lower bound
	at          Moment
}

type dying struct {
	body   uint64
	letter []byte
	stamp  time.Time
	at     Moment
}

// day holds what was recorded on one UTC day of server time.
type day struct {
	number    int64
	delivered map[uint64]delivery
	dead      map[uint64]uint64 // hash of the body, by sequence
}

// Bytes of memory an entry costs, estimated from Go's map layout (key, value,
// control byte, load factor 7/8, growth by doubling: three quarters full on
// average). Used for the cap only.
const (
	bytesDelivered = 40
	bytesDead      = 32
	bytesAttempt   = 120
	bytesDying     = 1200
)

// Ledger is the owner's memory of one partition's journal. It is a pure data
// structure: entries in, verdicts out. Safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	days     []*day // ascending
	unknown  map[uint64][]attempt
	dying    map[uint64]dying
	attempts int
	newest   uint64       // highest sequence seen
	clock    *serverClock // nil until settle
	horizon  time.Time    // events from before it may have been forgotten; zero: nothing was dropped for memory
}

func newLedger() *Ledger {
	return &Ledger{unknown: map[uint64][]attempt{}, dying: map[uint64]dying{}}
}

// Lookup answers q.
func (l *Ledger) Lookup(q Question, now time.Time) Known {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.dying[q.Sequence]; ok && d.body == q.Body {
		return Known{Verdict: IsDying, Letter: d.letter, DyingAt: d.at}
	}
	if l.buried(q.Sequence, q.Body) {
		return Known{Verdict: WasBuried}
	}
	if d, ok := l.delivery(q.Key); ok {
		return Known{Verdict: verdictOn(d, q), By: d.sequence}
	}
	if q.EventTime.Before(l.horizon) {
		return Known{Verdict: Forgotten}
	}
	return l.unknowns(q, now)
}

func verdictOn(d delivery, q Question) Verdict {
	switch {
	case d.sequence == q.Sequence:
		return WasDelivered
	case d.fingerprint == q.Fingerprint:
		return DeliveredBefore
	default:
		return OtherContent
	}
}

// buried looks for the sequence's dead letter. The body must agree too: after a
// restore of an old copy the outbox gives sequences to other messages.
func (l *Ledger) buried(sequence, body uint64) bool {
	for i := len(l.days) - 1; i >= 0; i-- {
		if b, ok := l.days[i].dead[sequence]; ok && b == body {
			return true
		}
	}
	return false
}

func (l *Ledger) delivery(key uint64) (delivery, bool) {
	for i := len(l.days) - 1; i >= 0; i-- {
		if d, ok := l.days[i].delivered[key]; ok {
			return d, true
		}
	}
	return delivery{}, false
}

func (l *Ledger) unknowns(q Question, now time.Time) Known {
	known := Known{Verdict: Fresh}
	for _, a := range l.unknown[q.Key] {
		if a.fingerprint == q.Fingerprint {
			known.SameContent = true
		} else {
			l.other(&known, a, now)
		}
		if forgiven(a, q) {
			continue
		}
		if !known.Unknown || a.at.Older(known.Oldest, now) {
			known.Oldest = a.at
		}
		known.Unknown = true
	}
	return known
}

func (l *Ledger) other(known *Known, a attempt, now time.Time) {
	known.OtherContent = true
	for _, d := range l.days {
		if _, ok := d.dead[a.sequence]; ok {
			return
		}
	}
	if known.OtherAlive.IsZero() || known.OtherAlive.Older(a.at, now) {
		known.OtherAlive = a.at
	}
}

// forgiven reports whether a person has taken the risk of this attempt. A
// replay never forgives itself, whatever the clocks say.
func forgiven(a attempt, q Question) bool {
	return !q.Forgive.IsZero() && a.sequence < q.Sequence && a.stamp.Before(q.Forgive)
}

// apply takes a stored record into the ledger; stamp is its server time. Intents
// are not the ledger's: see openIntent.
func (l *Ledger) apply(e Entry, stamp time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = max(l.newest, e.Sequence)
	switch e.State {
	case Delivered:
		l.day(stamp).delivered[e.Key] = delivery{e.Sequence, e.Fingerprint}
		l.attempts -= len(l.unknown[e.Key])
		delete(l.unknown, e.Key)
	case Unknown:
		l.remember(e)
	case Dying:
		l.dying[e.Sequence] = dying{body: e.Key, letter: e.Letter, stamp: stamp, at: l.moment(stamp)}
	case Dead:
		delete(l.dying, e.Sequence)
		l.day(stamp).dead[e.Sequence] = e.Key
	case Open, NotSent:
	}
}

// remember keeps one attempt a sequence, the oldest, however often it was tried.
func (l *Ledger) remember(e Entry) {
	attempts := l.unknown[e.Key]
	for i := range attempts {
		if attempts[i].sequence == e.Sequence {
			if e.T0.Before(attempts[i].stamp) {
				attempts[i].stamp, attempts[i].at = e.T0, l.moment(e.T0)
			}
			return
		}
	}
	l.attempts++
	l.unknown[e.Key] = append(attempts, attempt{e.Sequence, e.Fingerprint, e.T0, l.moment(e.T0)})
}

// moment is stamp by the ledger's clock; while the journal is being read there is
// none yet, and settle makes up for it.
func (l *Ledger) moment(stamp time.Time) Moment {
	if l.clock == nil {
		return Moment{}
	}
	return l.clock.moment(stamp)
}

// settle sets the clock that ages are reckoned by, once the marker was read.
func (l *Ledger) settle(clock serverClock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = &clock
	for _, attempts := range l.unknown {
		for i := range attempts {
			attempts[i].at = l.moment(attempts[i].stamp)
		}
	}
	for sequence, d := range l.dying {
		d.at = l.moment(d.stamp)
		l.dying[sequence] = d
	}
}

const dayLength = 24 * time.Hour

func dayNumber(t time.Time) int64 { return t.Unix() / int64(dayLength/time.Second) }

// day returns the table for stamp. Stamps come in order but for clock steps, so
// an older day than the newest is written to the newest: it is then kept longer,
// never shorter.
func (l *Ledger) day(stamp time.Time) *day {
	number := dayNumber(stamp)
	if n := len(l.days); n > 0 && l.days[n-1].number >= number {
		return l.days[n-1]
	}
	d := &day{number: number, delivered: map[uint64]delivery{}, dead: map[uint64]uint64{}}
	l.days = append(l.days, d)
	return d
}

// Expire drops days and attempts older than window, by server time now.
func (l *Ledger) Expire(now time.Time, window time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := dayNumber(now.Add(-window))
	for len(l.days) > 0 && l.days[0].number < oldest {
		l.days = l.days[1:]
	}
	for key, attempts := range l.unknown {
		kept := attempts[:0]
		for _, a := range attempts {
			if now.Sub(a.stamp) <= window {
				kept = append(kept, a)
			}
		}
		l.attempts -= len(attempts) - len(kept)
		l.unknown[key] = kept
		if len(kept) == 0 {
			delete(l.unknown, key)
		}
	}
}

// Shrink drops the oldest days until the ledger is at most limit bytes. It
// returns the number of identifiers that it forgot, and ErrMemory when the rest
// is younger than MinMemory and still too much.
func (l *Ledger) Shrink(limit int64, now time.Time) (forgotten int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.size() > limit {
		if len(l.days) == 0 || !l.days[0].end().Before(now.Add(-MinMemory)) {
			return forgotten, ErrMemory
		}
		forgotten += len(l.days[0].delivered)
		l.horizon = l.days[0].end()
		l.days = l.days[1:]
	}
	return forgotten, nil
}

// end is the end of the day. What was delivered on it had timestamps of at most
// five minutes after it.
func (d *day) end() time.Time {
	return time.Unix((d.number+1)*int64(dayLength/time.Second), 0).Add(5 * time.Minute)
}

// Size is the estimated memory in bytes, and the number of identifiers known.
func (l *Ledger) Size() (bytes int64, identifiers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.days {
		identifiers += len(d.delivered)
	}
	return l.size(), identifiers
}

func (l *Ledger) size() int64 {
	n := l.attempts*bytesAttempt + len(l.dying)*bytesDying
	for _, d := range l.days {
		n += len(d.delivered)*bytesDelivered + len(d.dead)*bytesDead
	}
	return int64(n)
}

// Newest is the highest outbox sequence that the journal mentions.
func (l *Ledger) Newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}
