package sender

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// Queue is what delivery has for permits with API v2: places in the line. The permits
// themselves are taken by the request, as many as it has events, right before they are asked
// whether they are ready. Each event in the line has an intent in the journal, and after a
// crash an attempt that may have been made; that is why there is a limit.
type Queue struct {
	places    chan struct{}
	throttled func(time.Duration)
}

var _ delivery.Permits = (*Queue)(nil)

// NewQueue has so many places; throttled is the bucket's.
func NewQueue(places int, throttled func(retryAfter time.Duration)) *Queue {
	return &Queue{places: make(chan struct{}, places), throttled: throttled}
}

// Take implements [delivery.Permits].
func (q *Queue) Take(ctx context.Context) (delivery.Permit, error) {
	select {
	case q.places <- struct{}{}:
		return &queued{queue: q}, nil
	default:
	}
	select {
	case q.places <- struct{}{}:
		return &queued{queue: q}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a place in the line: %w", ctx.Err())
	}
}

// Throttled implements [delivery.Permits].
func (q *Queue) Throttled(retryAfter time.Duration) { q.throttled(retryAfter) }

// queued is a place in the line.
type queued struct {
	queue *Queue
	left  atomic.Bool
}

// Spend implements [delivery.Permit]: the request has spent what it needs.
func (*queued) Spend(ctx context.Context) error { return ctx.Err() }

// Done implements [delivery.Permit].
func (p *queued) Done() {
	if p.left.CompareAndSwap(false, true) {
		<-p.queue.places
	}
}
