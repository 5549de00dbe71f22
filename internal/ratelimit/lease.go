package ratelimit

import (
	"context"
	"time"
)

// Lessor hands out the right to spend permits: all of them to one process
// ([Local]), or a share of the account's to each replica ([Shared]). Lease is called
// by one goroutine.
type Lessor interface {
	// Lease returns up to want permits. It blocks while there are none, and fails only
	// with ctx. With want 0 it leases nothing and passes on what Throttled was told.
	Lease(ctx context.Context, want int) (Lease, error)

	// Throttled tells the source that Stripe refused a request for its rate; retryAfter
	// is 0 without one. It does not block.
	Throttled(now time.Time, retryAfter time.Duration)
}

// Lease is a number of permits to be spent in a slot of time, each at its own time.
type Lease struct {
	Permits int
	Rate    float64   // in force, a second; permits are Rate × Margin apart
	From    time.Time // when the first may be granted
	Ask     time.Time // when to ask for the next lease, if there is demand

	batch int // most permits that one request takes; 0 is 1
}

// burst is how many of its permits may be granted at once.
func (l Lease) burst() int { return burstOf(l.Rate, l.batch) }

// lateness is how long after its time a permit may still be granted.
func (l Lease) lateness() time.Duration { return seconds(float64(l.burst()) / l.Rate) }

// slot is when permit i, from 0, may be granted; for i = Permits it is the slot's end.
func (l Lease) slot(i int) time.Time { return l.From.Add(seconds(float64(i) / (l.Rate * Margin))) }

// until is when permit i is gone.
func (l Lease) until(i int) time.Time { return l.slot(i).Add(l.lateness()) }

// spendable is until when permit i, and the n-1 before it, may be spent that are granted
// now: reckoned from the first one's time.
func (l Lease) spendable(i, n int, now time.Time) time.Time {
	end := later(l.slot(i-n+1).Add(permitLife), l.until(i).Add(leastLife))
	if life := now.Add(permitLife); life.Before(end) {
		return life // a slow rate's time is long
	}
	return end
}
