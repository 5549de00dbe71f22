package journal

import (
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

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

// Ledger is the owner's memory of one partition's journal. It is a pure data
// structure: entries in, verdicts out. Safe for concurrent use.
type Ledger struct {
	mu        sync.Mutex
	days      []day // ascending
	delivered table // sequence and fingerprint, by key
	dead      table // hash of the body, by sequence
	unknown   map[uint64][]attempt
	dying     map[uint64]dying
	attempts  int
	newest    uint64        // highest sequence seen
	clock     *serverClock  // nil until settle
	horizon   time.Time     // events from before it may have been forgotten, by the server's clock; zero: nothing was dropped
	behind    time.Duration // the server's clock was behind a writer's, and so behind events' timestamps, by so much at most
	lost      []Span        // as declared; never changed
}

func newLedger() *Ledger {
	return &Ledger{delivered: newTable(false), dead: newTable(true), unknown: map[uint64][]attempt{}, dying: map[uint64]dying{}}
}

// Lookup answers q.
func (l *Ledger) Lookup(q Question, now time.Time) Known {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.dying[q.Sequence]; ok && d.body == q.Body {
		return Known{Verdict: IsDying, Letter: d.letter, DyingAt: d.at}
	}
	// The body must agree too: after a restore of an old copy the outbox gives sequences
	// to other messages.
	if l.dead.has(q.Sequence, q.Body) {
		return Known{Verdict: WasBuried}
	}
	if d, ok := l.delivery(q.Key); ok {
		return Known{Verdict: verdictOn(d, q), By: d.sequence}
	}
	if q.EventTime.Before(l.forgotten()) && !l.forgives(q) {
		return Known{Verdict: Forgotten}
	}
	return l.unknowns(q, now)
}

// forgives reports whether a person has taken the risk of what was forgotten: all of it
// is from before their word. What was forgotten since may have been this very replay's.
func (l *Ledger) forgives(q Question) bool { return !q.Forgive.Before(l.forgotten()) }

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

func (l *Ledger) delivery(key uint64) (delivery, bool) {
	if faultpoint.Seeded(faultpoint.NoLedger) {
		return delivery{}, false
	}
	r, ok := l.delivered.get(key)
	return delivery{sequence: r.value, fingerprint: r.extra}, ok
}

func (l *Ledger) unknowns(q Question, now time.Time) Known {
	known := Known{Verdict: Fresh}
	for _, a := range l.unknown[q.Key] {
		if a.fingerprint == q.Fingerprint {
			known.SameContent = true
		} else {
			l.other(&known, a, now)
		}
		if a.sequence == q.Sequence {
			known.Own = a.at
		}
		if forgiven(a, q) {
			continue
		}
		older := a.at.Older(known.Oldest, now) != faultpoint.Seeded(faultpoint.NewestT0)
		if !known.Unknown || older {
			known.Oldest = a.at
		}
		known.Unknown = true
	}
	l.doubts(&known, q, now)
	return known
}

func (l *Ledger) other(known *Known, a attempt, now time.Time) {
	known.OtherContent = true
	if _, buried := l.dead.get(a.sequence); buried {
		return
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
		l.delivered.put(e.Key, row{value: e.Sequence, extra: e.Fingerprint, day: l.day(stamp)})
		l.attempts -= len(l.unknown[e.Key])
		delete(l.unknown, e.Key)
	case Unknown:
		l.remember(e, stamp)
	case Dying:
		l.dying[e.Sequence] = dying{body: e.Key, letter: e.Letter, stamp: stamp, at: l.moment(stamp)}
	case Dead:
		delete(l.dying, e.Sequence)
		l.dead.put(e.Sequence, row{value: e.Key, day: l.day(stamp)})
	case Open, NotSent:
	}
}

// remember keeps one attempt a sequence, the oldest, however often it was tried. An
// attempt is not younger than its record.
func (l *Ledger) remember(e Entry, recorded time.Time) {
	t0 := e.T0
	if recorded.Before(t0) {
		t0 = recorded
	}
	attempts := l.unknown[e.Key]
	for i := range attempts {
		if attempts[i].sequence == e.Sequence {
			if t0.Before(attempts[i].stamp) != faultpoint.Seeded(faultpoint.NewestT0) {
				attempts[i].stamp, attempts[i].at = t0, l.moment(t0)
			}
			return
		}
	}
	l.attempts++
	l.unknown[e.Key] = append(attempts, attempt{e.Sequence, e.Fingerprint, t0, l.moment(t0)})
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

// Newest is the highest outbox sequence that the journal mentions.
func (l *Ledger) Newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}
