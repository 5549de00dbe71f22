package journal

import (
	"errors"
	"math"
	"time"
)

// Moment is a point in the past whose age is never underestimated. It is kept as
// an age at a local reading of both clocks, so moments that were stamped by the
// server and moments of this process compare. The zero Moment is older than any.
type Moment struct {
	age   time.Duration // age at the time of the reading; negative for a moment after it
	local time.Time     // the reading, with its monotonic part
}

// Now is a moment at the reading now, which must come from time.Now.
func Now(now time.Time) Moment { return Moment{local: now} }

// IsZero reports whether the moment was never set.
func (m Moment) IsZero() bool { return m.local.IsZero() }

// Age is the larger one of the ages by wall clock and by monotonic clock: a wall
// clock that was stepped back, and a monotonic clock that stood still while the
// machine slept, both fail towards "old". It is never negative.
func (m Moment) Age(now time.Time) time.Duration {
	since := elapsed(m.local, now)
	if m.age > math.MaxInt64-since {
		return math.MaxInt64 // 292 years; an overflow would make it look young
	}
	return max(m.age+since, 0)
}

// Older reports whether m lies before other.
func (m Moment) Older(other Moment, now time.Time) bool {
	return m.Age(now) > other.Age(now)
}

// elapsed is the larger one of both clocks' differences, at least 0.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)), 0)
}

// elapsedAtLeast is the smaller one of both clocks' differences. It is negative
// after the wall clock was stepped back: what is reckoned from it is then older,
// and never younger than the age by either clock.
func elapsedAtLeast(from, to time.Time) time.Duration {
	return min(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// serverClock relates the server's stamps to the local clocks: the marker was
// stamped between the two readings.
type serverClock struct {
	marker time.Time // the marker's stamp
	latest time.Time // the latest stamp that was read, at least marker
	before time.Time // local reading before the marker was written
	after  time.Time // local reading after it was acknowledged
}

// moment turns a server stamp into a moment. Of the three readings of "now" at the
// claim (marker, latest stamp, local wall clock) the latest one counts. A stamp
// from after the claim, by [serverClock.stamp], yields a negative age.
func (c serverClock) moment(stamp time.Time) Moment {
	reference := c.marker
	for _, t := range []time.Time{c.latest, c.before.Round(0)} {
		if t.After(reference) {
			reference = t
		}
	}
	return Moment{age: reference.Sub(stamp), local: c.before}
}

// stamp is a lower bound of the server's time at m, for recording a moment of
// this process. The local wall clock counts where it is behind the server's: one that
// ran ahead at the claim makes no attempt look young to a later owner.
func (c serverClock) stamp(m Moment) time.Time {
	stamp := c.marker.Add(elapsedAtLeast(c.after, m.local))
	if wall := m.local.Round(0); wall.Before(stamp) {
		stamp = wall
	}
	return stamp.Add(-m.age)
}

// maxDrift is how far wall clock and monotonic clock may part before the
// relation to the server's time is established anew.
const maxDrift = time.Minute

// ErrClocks says that wall clock and monotonic clock have parted (the machine
// slept, or the clock was set): the partition is to be claimed anew.
var ErrClocks = errors.New("the wall clock and the monotonic clock have parted by more than a minute")

func (c serverClock) drift(now time.Time) time.Duration {
	return elapsed(c.after, now) - elapsedAtLeast(c.after, now)
}
