package ratelimit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

const (
	// Margin is the share of the rate that is used. What is left refills the server's
	// bucket after a cluster of arrivals: 5 tokens a second at 1,000/s. With 0.998 a
	// server that had been overrun once refused every small cluster for ten seconds; with
	// 1.0 the clocks' difference alone is refused.
	Margin = 0.995

	// MaxPause caps a Retry-After.
	MaxPause = 300 * time.Second

	// lookAgain bounds how long a ceiling is taken to be unchanged.
	lookAgain = 100 * time.Millisecond
)

// Config is what a bucket is made of.
type Config struct {
	Lessor Lessor

	// Granted is called for each permit, with the rate in force.
	Granted func(waited time.Duration, rate float64)

	// Ceiling is how many permits a second this process may use at most, whatever it
	// could lease; 0 and +Inf are no cap, and so is nil.
	Ceiling func() float64
}

// Bucket grants permits; see [NewBucket].
type Bucket struct {
	cfg     Config
	limiter *rate.Limiter
	pace    float64 // of the last lease, permits a second; used by lease alone

	mu      sync.Mutex
	waiting []*Permit
	wanting int       // permits that they want
	unspent []*Permit // granted, oldest first
	leased  int       // permits that are leased, and neither granted nor gone
	refused bool      // the lessor was told of a refusal, and has not passed it on
	stopped time.Time // no permits before: a Retry-After that this process was given
	wake    chan struct{}
	spent   chan struct{}
	ended   chan struct{} // a lease has
}

// NewBucket returns a bucket. Run must be called for permits to flow.
func NewBucket(cfg Config) *Bucket {
	return &Bucket{
		cfg: cfg, limiter: rate.NewLimiter(0, 1), pace: math.Inf(1),
		refused: true, // have the lessor look at what is in force before there is demand
		wake:    make(chan struct{}, 1), spent: make(chan struct{}, 1), ended: make(chan struct{}, 1),
	}
}

// Take waits for a permit. [Permit.Done] must follow.
func (b *Bucket) Take(ctx context.Context) (*Permit, error) { return b.TakeUpTo(ctx, 1) }

// TakeUpTo waits for permits for one request, as many as may go at once, n at the most:
// see [Permit.Count]. [Permit.Done] must follow.
func (b *Bucket) TakeUpTo(ctx context.Context, n int) (*Permit, error) {
	p := &Permit{bucket: b, grant: make(chan struct{}), since: time.Now(), count: n}
	b.mu.Lock()
	b.waiting = append(b.waiting, p)
	b.wanting += n
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
	if i := slices.Index(b.waiting, p); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		b.wanting -= p.count
	}
	b.mu.Unlock()
	p.Done()
}

// Throttled reports a refusal for the account's rate; retryAfter is 0 without
// one. A Retry-After stops this process at once, and the others when they next lease.
func (b *Bucket) Throttled(retryAfter time.Duration) {
	now := time.Now()
	retryAfter = min(retryAfter, MaxPause)
	b.cfg.Lessor.Throttled(now, retryAfter)
	b.mu.Lock()
	b.refused = true
	if retryAfter > 0 {
		b.stopped = later(b.stopped, now.Add(retryAfter))
	}
	b.mu.Unlock()
	signal(b.wake)
}

// Run dispatches permits until ctx ends. It leases ahead: the next lease is on its
// way while the current one is spent. At most one is held back besides the one that is.
func (b *Bucket) Run(ctx context.Context) {
	leases := make(chan Lease)
	go func() {
		defer close(leases)
		b.lease(ctx, leases)
	}()
	for lease := range leases {
		b.spend(ctx, lease)
	}
}

// lease takes leases for as many permits as are waited for, in time for the next to
// begin where the last one ends, and no earlier: what is leased in advance is lost when
// demand goes.
func (b *Bucket) lease(ctx context.Context, leases chan<- Lease) {
	for ctx.Err() == nil {
		want, tell := b.want()
		want, wait := b.allowed(want)
		if want == 0 && !tell {
			b.idle(ctx, wait)
			continue
		}
		lease, err := b.cfg.Lessor.Lease(ctx, want)
		if err != nil {
			return
		}
		if lease.Permits == 0 {
			continue
		}
		b.hold(lease.Permits)
		b.pace = lease.Rate * Margin
		if !b.pass(ctx, lease, leases) {
			return
		}
	}
}

// pass hands the lease over to be spent, and waits until it is time to ask for the
// next one: that may be long before its end, or its end when the demand went.
func (b *Bucket) pass(ctx context.Context, lease Lease, leases chan<- Lease) bool {
	select {
	case leases <- lease:
	case <-ctx.Done():
		return false
	}
	select {
	case <-b.ended: // that was the lease before
	default:
	}
	if wait := time.Until(lease.Ask); wait > 0 {
		pause(ctx, wait, b.ended)
	}
	return true
}

// want is how many wait and are not covered by what is leased, and whether the lessor
// has something to pass on.
func (b *Bucket) want() (permits int, tell bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tell, b.refused = b.refused, false
	return max(b.wanting-b.leased, 0), tell
}

// allowed is how many of the wanted permits the ceiling lets this process spend at
// once, and where that is none, how long until it does. Under a ceiling permits are
// leased when there are tokens for them: those of a longer slot would be lost.
func (b *Bucket) allowed(want int) (permits int, wait time.Duration) {
	ceiling := b.ceiling()
	if want == 0 || ceiling >= b.pace {
		return want, 0
	}
	b.limit(ceiling, max(burst(ceiling), 2))
	want = min(want, b.limiter.Burst()/2) // the other half of the tokens comes while the lease does
	b.mu.Lock()
	needed := float64(want + b.leased)
	b.mu.Unlock()
	if missing := needed - b.limiter.Tokens(); missing > 0 {
		return 0, max(min(seconds(missing/ceiling), lookAgain), time.Microsecond)
	}
	return want, 0
}

// idle waits for demand, or for the time until the ceiling allows some.
func (b *Bucket) idle(ctx context.Context, wait time.Duration) {
	if wait > 0 {
		pause(ctx, wait, nil)
		return
	}
	select {
	case <-ctx.Done():
	case <-b.wake:
	}
}

// ceiling is that of the process, +Inf without one.
func (b *Bucket) ceiling() float64 {
	if b.cfg.Ceiling == nil {
		return math.Inf(1)
	}
	if ceiling := b.cfg.Ceiling(); ceiling > 0 {
		return ceiling
	}
	return math.Inf(1)
}

// limit sets how fast tokens come, and how many are kept.
func (b *Bucket) limit(perSecond float64, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit := rate.Limit(perSecond); limit != b.limiter.Limit() {
		b.limiter.SetLimit(limit)
		b.limiter.SetBurst(most)
	}
}

// spend grants the lease's permits, each in its time, until the waiters run out.
func (b *Bucket) spend(ctx context.Context, lease Lease) {
	if pace := lease.Rate * Margin; pace <= b.ceiling() {
		b.limit(pace, lease.burst())
	}
	for i := 0; i < lease.Permits; {
		n := b.next(lease.Permits - i)
		i += n
		if b.turn(ctx, lease, i-1, n) {
			b.grant(lease, i-1, n)
		}
		b.hold(-n)
	}
	signal(b.ended)
	signal(b.wake) // who is still waiting lost a permit to its end
}

// next is how many of the permits that are left are granted together: what the first in
// the row wants, and may have at once.
func (b *Bucket) next(left int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return 1
	}
	return max(min(b.waiting[0].count, left, b.limiter.Burst()), 1)
}

// hold counts permits that are leased, or no more.
func (b *Bucket) hold(permits int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leased += permits
}

// turn waits until permit i, and the n-1 before it, may be granted: its time has come, there
// is room among the unspent ones, and there are tokens. They are taken when they are there, and not
// booked ahead: what was booked before the process froze would come on top of a full
// burst when it wakes. turn reports false when the permit's time is over, nobody waits,
// or ctx ends.
func (b *Bucket) turn(ctx context.Context, lease Lease, i, n int) bool {
	from, until := lease.slot(i), lease.until(i)
	for {
		now := time.Now()
		gone := now.After(until) && !faultpoint.Seeded(faultpoint.PermitsNeverExpire)
		if gone || ctx.Err() != nil || !b.wanted(from) {
			return false
		}
		if wait := max(from.Sub(now), 0); wait > 0 {
			pause(ctx, wait, nil)
			continue
		}
		if wait := b.expire(now, n, lease.unspent()); wait > 0 {
			pause(ctx, wait, b.spent)
			continue
		}
		if b.limiter.AllowN(now, n) {
			return true
		}
		missing := float64(n) - b.limiter.TokensAt(now)
		pause(ctx, max(seconds(missing/float64(b.limiter.Limit())), time.Microsecond), nil)
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

// grant gives permit i, and the n-1 before it, to whoever has waited longest.
func (b *Bucket) grant(lease Lease, i, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return // the last one has just left
	}
	p := b.waiting[0]
	b.waiting = b.waiting[1:]
	b.wanting -= p.count
	p.count = min(p.count, n)
	now := time.Now()
	p.until = lease.spendable(i, n, now)
	b.unspent = append(b.unspent, p)
	for range p.count {
		b.cfg.Granted(now.Sub(p.since), lease.Rate)
	}
	close(p.grant)
}

// wanted tells whether a permit is waited for, and one that is due then not stopped.
func (b *Bucket) wanted(due time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0 && !due.Before(b.stopped)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
