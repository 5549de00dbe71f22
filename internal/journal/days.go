package journal

import (
	"errors"
	"slices"
	"time"
)

// MinMemory is the least time that the ledger remembers deliveries: Stripe's 24 h
// and an hour of margin. Below it the worker stops rather than guess.
const MinMemory = 25 * time.Hour

// ErrMemory says that the ledger cannot stay under its cap without forgetting
// what Stripe forgets too.
var ErrMemory = errors.New("the ledger is over METERWORKER_LEDGER_MAX_BYTES and may not forget the last 25 hours; give it more memory, more workers or more partitions")

// day is one UTC day of server time on which something was recorded.
type day struct {
	number int64
	tag    uint8 // what the rows of the day say in the tables
}

// maxDays bounds the days, so that tags are unique. A window of 36 days keeps 37, and a
// journal that somebody keeps for longer is read day by day.
const maxDays = 255

// Bytes of memory at most, with Go's maps, that the few entries take which are in no
// table. Used for the cap only.
const (
	bytesAttempt = 160
	bytesDying   = 1200
)

const dayLength = 24 * time.Hour

func dayNumber(t time.Time) int64 { return t.Unix() / int64(dayLength/time.Second) }

// day returns the tag for stamp. Stamps come in order but for clock steps, so what is
// of an older day than the newest is taken for the newest's: it is then kept longer,
// never shorter. So is the newest day itself where there are too many.
func (l *Ledger) day(stamp time.Time) uint8 {
	number := dayNumber(stamp)
	if len(l.days) == 0 {
		l.days = append(l.days, day{number: number})
	}
	newest := &l.days[len(l.days)-1]
	switch {
	case number <= newest.number:
	case len(l.days) == maxDays:
		newest.number = number
	default:
		l.days = append(l.days, day{number, newest.tag + 1}) // wraps
	}
	return l.days[len(l.days)-1].tag
}

// Expire drops days and attempts older than window, by server time now. What had a
// timestamp from back then is [Forgotten] from now on: with a window shorter than
// the 35 days that Stripe accepts, it could be billed again.
func (l *Ledger) Expire(now time.Time, window time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := dayNumber(now.Add(-window))
	for len(l.days) > 0 && l.days[0].number < oldest {
		l.dropDay()
	}
	for key, attempts := range l.unknown {
		kept := attempts[:0]
		for _, a := range attempts {
			if now.Sub(a.stamp) <= window {
				kept = append(kept, a)
			} else {
				l.forget(a.stamp.Add(maxAhead))
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
		forgotten += l.dropDay()
	}
	return forgotten, nil
}

// dropDay forgets the oldest day, and returns how many identifiers were delivered on it.
func (l *Ledger) dropDay() int {
	oldest := l.days[0]
	l.forget(oldest.end())
	l.days = slices.Delete(l.days, 0, 1)
	l.dead.drop(oldest.tag)
	return l.delivered.drop(oldest.tag)
}

// forget notes that events with timestamps before until may not be known any more.
func (l *Ledger) forget(until time.Time) {
	if until.After(l.horizon) {
		l.horizon = until
	}
}

// Horizon is the event timestamp before which [Ledger.Lookup] answers [Forgotten]
// instead of [Fresh]; zero while nothing was dropped.
func (l *Ledger) Horizon() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgotten()
}

// forgotten is the horizon by the clocks that events were dated with. l.mu is held.
func (l *Ledger) forgotten() time.Time {
	if l.horizon.IsZero() {
		return l.horizon
	}
	return l.horizon.Add(l.behind)
}

// compare takes note of a message's stamp and its writer's clock. What the server stamps
// with a clock that is behind leaves the memory before events of its time do.
func (l *Ledger) compare(stamp, wall time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = max(l.behind, wall.Sub(stamp))
}

// maxAhead is how far an event's timestamp may lie after its delivery: Stripe's
// five minutes, and as much for clocks that disagree.
const maxAhead = 10 * time.Minute

// end is the latest timestamp that an event delivered on the day may have.
func (d day) end() time.Time {
	return time.Unix((d.number+1)*int64(dayLength/time.Second), 0).Add(maxAhead)
}

// Size is the memory in bytes, and the number of identifiers known.
func (l *Ledger) Size() (bytes int64, identifiers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size(), l.delivered.count
}

func (l *Ledger) size() int64 {
	return l.delivered.size() + l.dead.size() + int64(l.attempts*bytesAttempt+len(l.dying)*bytesDying)
}
