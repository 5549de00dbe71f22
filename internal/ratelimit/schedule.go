package ratelimit

import (
	"math"
	"time"
)

const (
	// maxBurst is the most permits that are granted at once at 1,000/s: what the
	// dispatcher has to catch up with after a late wake-up, 10 ms. At higher rates it is
	// as many milliseconds: with 10 permits of 50,000/s, which are 0.2 ms, a
	// dispatcher that wakes up like any other loses nearly all of them.
	maxBurst = 10

	// slotLength is how long a lease lasts at the rate in force: short, so that a
	// change of the rate takes effect soon and demand moves between replicas.
	slotLength = 50 * time.Millisecond

	// maxAhead is how far ahead of now a slot may begin. It bounds what is leased and
	// not spent, of all replicas together, and what a pause comes too late for.
	maxAhead = 400 * time.Millisecond
)

// schedule is what all who share a rate agree on: when the next permit is due, and
// the rate in force. Every permit has a time of its own, 1/(rate × Margin) after the
// one before, and may be granted from then on until the lateness after: so any window
// of time holds rate × Margin × (window + lateness) permits and one, whoever grants
// them.
type schedule struct {
	stepDown

	Next   time.Time `json:"next"`   // theoretical arrival time of the next permit
	Paused time.Time `json:"paused"` // no permits before: a Retry-After

	batch int // most permits that one request takes; it is no part of the agreement
}

func newSchedule(perSecond float64) schedule { return schedule{stepDown: newStepDown(perSecond)} }

// lease takes up to want permits from the schedule, of a slot of the length at the
// most, that can be spent from now+lead on. It reports how long to wait where the
// next one is due too far ahead.
func (s *schedule) lease(now time.Time, want int, lead, length time.Duration) (lease Lease, wait time.Duration) {
	s.adjust(now)
	// Half of the lateness is credit for what nobody asked for in time; the other half
	// is left for the way to whoever spends it.
	lease = Lease{Rate: s.Rate, batch: s.batch}
	from := later(later(s.Next, s.Paused), now.Add(lead-lease.lateness()/2))
	if ahead := from.Sub(now); ahead > maxAhead {
		return Lease{}, ahead - maxAhead
	}
	permits := min(want, max(1, int(s.Rate*length.Seconds())))
	if permits <= 0 {
		return Lease{}, 0
	}
	s.Leased += permits
	lease.Permits, lease.From = permits, from
	s.Next = lease.slot(permits)
	return lease, 0
}

// refused tells of refusals, and of a pause that Stripe asked for, 0 without one.
func (s *schedule) refused(now time.Time, refusals int, retryAfter time.Duration) {
	breathe := s.refuse(now, refusals)
	if retryAfter > 0 {
		s.Paused = later(s.Paused, now.Add(min(retryAfter, MaxPause)))
	} else if breathe {
		s.Next = later(s.Next, now).Add(breath)
	}
}

// burst is how many permits may be granted at once at a rate, where no request takes
// more than one.
func burst(perSecond float64) int { return burstOf(perSecond, 1) }

// burstOf is the same for requests that take up to so many. A two-hundredth of the rate at
// once, and as much again for being late, stay within 1 % of it in any second; with what may
// be granted and unspent that is four fifths of a server's bucket of 2 %.
func burstOf(perSecond float64, batch int) int {
	if batch > 1 {
		return int(math.Max(1, math.Min(float64(batch), perSecond/200)))
	}
	return int(math.Max(1, perSecond*maxBurst/1000))
}

// lateness is how long after its time a permit may still be granted: a burst's worth.
func lateness(perSecond float64) time.Duration { return Lease{Rate: perSecond}.lateness() }

// seconds is that many, at most a day: a rate may be next to nothing.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 86400) * float64(time.Second))
}
