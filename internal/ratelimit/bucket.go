package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Margin is the share of the rate that is used. What is left refills the server's
	// bucket after a cluster of arrivals: 5 tokens a second at 1,000/s. With 0.998 a
	// server that had been overrun once refused every small cluster for ten seconds; with
	// 1.0 the clocks' difference alone is refused.
	Margin = 0.995

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

// Bucket grants permits; see [NewBucket].
type Bucket struct {
	lessor  Lessor
	limiter *rate.Limiter
	granted func(waited time.Duration, rate float64)

	mu      sync.Mutex
	waiting []*Permit
	unspent []*Permit // granted, oldest first
	wake    chan struct{}
	spent   chan struct{}
}

// How permits that are granted and not yet a request on the wire are bounded. A
// process that gets no processor for a while must not let them pile up and leave
// as a burst: with at most maxUnspent of them and the limiter's own burst, a server's
// bucket of 20 is not overrun.
const (
	maxUnspent = 5

	// permitLife is how long a permit may wait to be spent; then it is gone, and
	// its holder takes a new one. Dialling takes longer, a scheduled goroutine less.
	permitLife = 25 * time.Millisecond
)

// Permit is the right to make one request. It is waited for with [Bucket.Take],
// spent right before the first byte is written, and done when the last one is.
type Permit struct {
	bucket *Bucket
	grant  chan struct{} // closed when granted
	since  time.Time     // when it was asked for
	at     time.Time     // when it was granted; guarded by bucket.mu
	done   bool          // guarded by bucket.mu
}

// NewBucket returns a bucket that spends what the lessor leases; granted is
// called for each permit. Run must be called for permits to flow.
func NewBucket(lessor Lessor, granted func(waited time.Duration, rate float64)) *Bucket {
	return &Bucket{
		lessor: lessor, granted: granted, limiter: rate.NewLimiter(0, 1),
		wake: make(chan struct{}, 1), spent: make(chan struct{}, 1),
	}
}

// Take waits for a permit. [Permit.Done] must follow.
func (b *Bucket) Take(ctx context.Context) (*Permit, error) {
	p := &Permit{bucket: b, grant: make(chan struct{}), since: time.Now()}
	b.mu.Lock()
	b.waiting = append(b.waiting, p)
	b.mu.Unlock()
	signal(b.wake)
	select {
	case <-p.grant:
		return p, nil
	case <-ctx.Done():
		b.abandon(p)
		return nil, fmt.Errorf("waiting for a permit: %w", ctx.Err())
	}
}

// abandon takes a waiter out, wherever it stands; one that was granted in the same
// instant is done.
func (b *Bucket) abandon(p *Permit) {
	b.mu.Lock()
	b.waiting = slices.DeleteFunc(b.waiting, func(other *Permit) bool { return other == p })
	b.mu.Unlock()
	p.Done()
}

var errDone = errors.New("the permit is done")

// Spend is the last look at the permit before the request is written. When it
// has expired meanwhile, Spend waits for another one, behind all others, until it has
// one in time. It fails with ctx, and after Done.
func (p *Permit) Spend(ctx context.Context) error {
	for {
		fresh, err := p.fresh()
		if fresh || err != nil {
			return err
		}
		another, err := p.bucket.Take(ctx)
		if err != nil {
			return err
		}
		p.become(another)
	}
}

func (p *Permit) fresh() (bool, error) {
	p.bucket.mu.Lock()
	defer p.bucket.mu.Unlock()
	if p.done {
		return false, errDone
	}
	return time.Since(p.at) <= permitLife, nil
}

// become puts p in the place of another permit.
func (p *Permit) become(another *Permit) {
	b := p.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(p)
	if p.done {
		b.forget(another)
		return
	}
	p.at = another.at
	if i := slices.Index(b.unspent, another); i >= 0 {
		b.unspent[i] = p
	}
}

// Done says that the request is written or will not be. A permit that was not
// spent is lost: permits are never saved up. It may be called more than once.
func (p *Permit) Done() {
	b := p.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	p.done = true
	b.forget(p)
}

// forget takes the permit off the unspent ones. b.mu is held.
func (b *Bucket) forget(p *Permit) {
	b.unspent = slices.DeleteFunc(b.unspent, func(other *Permit) bool { return other == p })
	signal(b.spent)
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
	if limit := rate.Limit(lease.Rate * Margin); limit != b.limiter.Limit() {
		b.limiter.SetLimit(limit)
		b.limiter.SetBurst(burst(lease.Rate))
	}
	for range lease.Permits {
		if !b.turn(ctx, lease.Until) {
			return
		}
		b.grant(lease.Rate)
	}
}

func burst(perSecond float64) int {
	return int(math.Max(1, math.Min(maxBurst, perSecond/100)))
}

// turn waits until the next permit may be granted: there is room among the unspent
// ones, and a token. The token is taken when it is there, and not booked ahead:
// one that was booked before the process froze would come on top of a full burst
// when it wakes. turn reports false when nobody waits, the lease is over, or ctx.
func (b *Bucket) turn(ctx context.Context, until time.Time) bool {
	for {
		now := time.Now()
		if ctx.Err() != nil || now.After(until) || b.demand() == 0 {
			return false
		}
		if wait := b.expire(now); wait > 0 {
			pause(ctx, wait, b.spent)
			continue
		}
		if b.limiter.AllowN(now, 1) {
			return true
		}
		missing := 1 - b.limiter.TokensAt(now)
		pause(ctx, max(time.Duration(missing/float64(b.limiter.Limit())*float64(time.Second)), time.Microsecond), nil)
	}
}

// pause waits for the duration, or less when early is signalled or ctx ends.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
	}
}

// expire drops the unspent permits that are too old; it returns 0 when there is
// room, else the time until the next one expires.
func (b *Bucket) expire(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.unspent) > 0 && now.Sub(b.unspent[0].at) > permitLife {
		b.unspent = b.unspent[1:]
	}
	if len(b.unspent) < maxUnspent {
		return 0
	}
	return permitLife - now.Sub(b.unspent[0].at) + time.Nanosecond
}

// grant gives the next permit to whoever has waited longest.
func (b *Bucket) grant(perSecond float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return // the last one has just left
	}
	p := b.waiting[0]
	b.waiting = b.waiting[1:]
	p.at = time.Now()
	b.unspent = append(b.unspent, p)
	b.granted(p.at.Sub(p.since), perSecond)
	close(p.grant)
}

// demand is how many wait.
func (b *Bucket) demand() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
