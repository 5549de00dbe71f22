package ratelimit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// How permits that are granted and not yet a request on the wire are bounded. A
// process that gets no processor for a while must not let them pile up and leave
// as a burst: with at most maxUnspent of them and the limiter's own burst, a server's
// bucket of 20 is not overrun.
const (
	maxUnspent = 5

	// permitLife is how long after its time, and its grant, a permit may be spent; then
	// it is gone, and its holder takes a new one. Dialling takes longer, a scheduled
	// goroutine less. At 1,000/s it keeps what all replicas together can send at once
	// below 20, also when they stood still together (TestStandingStillTogether).
	permitLife = 18 * time.Millisecond

	// leastLife is what is left to a permit that is granted late.
	leastLife = 8 * time.Millisecond
)

// Permit is the right to make one request. It is waited for with [Bucket.Take],
// spent right before the first byte is written, and done when the last one is.
type Permit struct {
	bucket *Bucket
	grant  chan struct{} // closed when granted
	since  time.Time     // when it was asked for
	until  time.Time     // when it is gone; guarded by bucket.mu
	done   bool          // guarded by bucket.mu
	count  int           // wanted, and once granted those that were; guarded by bucket.mu
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
		another, err := p.bucket.TakeUpTo(ctx, p.Count())
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
	return !time.Now().After(p.until) || faultpoint.Seeded(faultpoint.PermitsNeverExpire), nil
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
	p.until, p.count = another.until, another.count
	if i := slices.Index(b.unspent, another); i >= 0 {
		b.unspent[i] = p
	}
}

// Count is for how much the permit is good; Spend may leave less of it.
func (p *Permit) Count() int {
	p.bucket.mu.Lock()
	defer p.bucket.mu.Unlock()
	return p.count
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

// unspentFor is how much of the rate may be granted and unspent: what maxUnspent is of
// 1,000/s. A server that allows a higher rate has a bucket to go with it, and five requests
// between permit and wire were all that a busy machine got through, whatever the rate.
const unspentFor = maxUnspent * time.Millisecond

// unspent is how many of its permits may be granted and unspent.
func (l Lease) unspent() int { return max(maxUnspent, int(l.Rate*unspentFor.Seconds())) }

// expire drops the unspent permits that are too old; it returns 0 when there is
// room for n beside the others, most in all or whatever n is, else the time until the
// next one expires.
func (b *Bucket) expire(now time.Time, n, most int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.unspent) > 0 && now.After(b.unspent[0].until) && !faultpoint.Seeded(faultpoint.PermitsNeverExpire) {
		b.unspent = b.unspent[1:]
	}
	held := 0
	for _, p := range b.unspent {
		held += p.count
	}
	if held == 0 || held+n <= most {
		return 0
	}
	return b.unspent[0].until.Sub(now) + time.Nanosecond
}
