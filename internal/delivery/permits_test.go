package delivery

import (
	"context"
	"sync"
	"time"
)

// permits are granted at once, or as take says.
type permits struct {
	mu        sync.Mutex
	taken     int
	throttled []time.Duration
	take      func(ctx context.Context) error
	spend     func(ctx context.Context) error
}

func (p *permits) Take(ctx context.Context) (Permit, error) {
	p.mu.Lock()
	p.taken++
	p.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if p.take != nil {
		if err := p.take(ctx); err != nil {
			return nil, err
		}
	}
	return permit{p}, nil
}

func (p *permits) Throttled(retryAfter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttled = append(p.throttled, retryAfter)
}

type permit struct{ p *permits }

func (p permit) Spend(ctx context.Context) error {
	if p.p.spend == nil {
		return ctx.Err()
	}
	return p.p.spend(ctx)
}

func (permit) Done() {}
