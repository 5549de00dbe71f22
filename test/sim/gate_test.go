package sim

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

// newGate makes the life's breaker.
func (l *life) newGate() *delivery.Gate {
	return delivery.NewGate(func(state, reason string) {
		l.w.lock(func() {
			l.state, l.stateAt = state, time.Now()
			l.w.seen.note("breaker: " + state)
			l.w.note(l.number, "breaker: "+state, 0, reason)
			l.mendLater(state)
			l.w.wake()
		})
	}, l.random("breaker"))
}

// permitted is told of each permit that the bucket grants.
func (l *life) permitted(time.Duration, float64) {
	l.w.lock(func() { l.grantedAt = time.Now() })
}

// permits is the life's bucket.
type permits struct{ l *life }

// Take implements delivery.Permits.
func (p permits) Take(ctx context.Context) (delivery.Permit, error) {
	taken, err := p.l.bucket.Take(ctx)
	if err != nil {
		return nil, err
	}
	p.l.point("has a permit", 0)
	return permit{taken, p.l}, nil
}

// Throttled implements delivery.Permits.
func (p permits) Throttled(retryAfter time.Duration) { p.l.bucket.Throttled(retryAfter) }

type permit struct {
	*ratelimit.Permit
	l *life
}

// spending is the context's key for the flag that says whether a permit was spent for
// this request.
type spending struct{}

// spendable is how old the last grant may be when a permit is spent: 25 ms, and a little
// for the time between the two.
const spendable = 30 * time.Millisecond

// Spend implements delivery.Permit.
func (p permit) Spend(ctx context.Context) error {
	if err := p.Permit.Spend(ctx); err != nil {
		return err
	}
	if spent, ok := ctx.Value(spending{}).(*bool); ok {
		*spent = true
	}
	p.l.w.lock(func() {
		if old := time.Since(p.l.grantedAt); old > spendable {
			p.l.w.violate("I6", "a permit was spent %v after the last one was granted", old)
		}
	})
	return nil
}
