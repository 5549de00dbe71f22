package ratelimit

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Margin is the share of the rate that is used. Pacing at 0.998 with a burst of
	// a hundredth of the rate was never refused by a strict bucket of twice the
	// burst, at 80 ± 20 ms; at 1.0 the clocks' difference alone is refused.
	Margin = 0.998

	// maxBurst is the most permits that are granted at once: what the dispatcher
	// has to catch up with after a late wake-up.
	maxBurst = 10

	// MaxPause caps a Retry-After.
	MaxPause = 300 * time.Second
)

// Lessor hands out the right to spend permits: all of them to one process
// ([Local]), or a share of the account's to each replica.
type Lessor interface {
	// Lease returns up to want permits and the rate at which to spend them. What is
	// not spent by the lease's end is gone. It blocks while there are none, and
	// fails only with ctx.
	Lease(ctx context.Context, want int) (Lease, error)

	// Throttled tells the source that Stripe refused a request for its rate.
	Throttled(now time.Time, retryAfter time.Duration)
}

// Lease is a number of permits to be spent in a slot of time.
type Lease struct {
	Permits int
	Rate    float64 // a second
	Until   time.Time
}

// Bucket grants permits. Its zero value is not usable; see [NewBucket].
type Bucket struct {
	lessor  Lessor
	limiter *rate.Limiter
	granted func(waited time.Duration, rate float64)

	mu      sync.Mutex
	waiting []*waiter
	wake    chan struct{}
}

type waiter struct {
	grant chan time.Time // capacity 1
	since time.Time
	gone  bool
}

// NewBucket returns a bucket that spends what the lessor leases; granted is
// called for each permit. Run must be called for permits to flow.
func NewBucket(lessor Lessor, granted func(waited time.Duration, rate float64)) *Bucket {
	return &Bucket{lessor: lessor, granted: granted, limiter: rate.NewLimiter(0, 1), wake: make(chan struct{}, 1)}
}

// Take waits for a permit and returns the time at which it was granted. The
// permit is for one request, to be written at once.
func (b *Bucket) Take(ctx context.Context) (time.Time, error) {
	w := &waiter{grant: make(chan time.Time, 1), since: time.Now()}
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	b.signal()
	select {
	case at := <-w.grant:
		return at, nil
	case <-ctx.Done():
		b.mu.Lock()
		w.gone = true
		b.mu.Unlock()
		return time.Time{}, fmt.Errorf("waiting for a permit: %w", ctx.Err())
	}
}

// Throttled reports a refusal for the account's rate; retryAfter is 0 without
// one.
func (b *Bucket) Throttled(retryAfter time.Duration) {
	b.lessor.Throttled(time.Now(), min(retryAfter, MaxPause))
}

// Run dispatches permits until ctx ends.
func (b *Bucket) Run(ctx context.Context) {
	for ctx.Err() == nil {
		demand := b.demand()
		if demand == 0 {
			select {
			case <-ctx.Done():
			case <-b.wake:
			}
			continue
		}
		lease, err := b.lessor.Lease(ctx, demand)
		if err != nil {
			return
		}
		b.spend(ctx, lease)
	}
}

// spend grants the lease's permits, paced, until they or the waiters run out or
// the lease ends.
func (b *Bucket) spend(ctx context.Context, lease Lease) {
	b.limiter.SetLimit(rate.Limit(lease.Rate * Margin))
	b.limiter.SetBurst(burst(lease.Rate))
	for range lease.Permits {
		if b.demand() == 0 || b.limiter.Wait(ctx) != nil || time.Now().After(lease.Until) {
			return
		}
		b.grant(lease.Rate)
	}
}

func burst(perSecond float64) int {
	return int(math.Max(1, math.Min(maxBurst, perSecond/100)))
}

func (b *Bucket) grant(perSecond float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 {
		w := b.waiting[0]
		b.waiting = b.waiting[1:]
		if w.gone {
			continue
		}
		now := time.Now()
		w.grant <- now
		b.granted(now.Sub(w.since), perSecond)
		return
	}
}

// demand counts the waiters, after dropping those at the front that have left.
func (b *Bucket) demand() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 && b.waiting[0].gone {
		b.waiting = b.waiting[1:]
	}
	return len(b.waiting)
}

func (b *Bucket) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
