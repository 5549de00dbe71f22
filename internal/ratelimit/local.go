package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Local is the [Lessor] of a single process: the whole rate is its own.
type Local struct {
	mu       sync.Mutex
	schedule schedule
}

// NewLocal returns a lessor for a rate in requests a second.
func NewLocal(perSecond float64) *Local { return &Local{schedule: newSchedule(perSecond)} }

// NewLocalInBatches is NewLocal for requests that take up to so many permits.
func NewLocalInBatches(perSecond float64, batch int) *Local {
	l := NewLocal(perSecond)
	l.schedule.batch = batch
	return l
}

// Lease implements [Lessor].
func (l *Local) Lease(ctx context.Context, want int) (Lease, error) {
	for {
		lease, wait := l.lease(time.Now(), want)
		if wait == 0 || want == 0 {
			return lease, nil
		}
		pause(ctx, wait, nil)
		if ctx.Err() != nil {
			return Lease{}, fmt.Errorf("waiting for a lease: %w", ctx.Err())
		}
	}
}

func (l *Local) lease(now time.Time, want int) (Lease, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease, wait := l.schedule.lease(now, want, 0, slotLength)
	if lease.Permits > 0 {
		lease.Ask = lease.slot(lease.Permits)
	}
	return lease, wait
}

// Throttled implements [Lessor].
func (l *Local) Throttled(now time.Time, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.schedule.refused(now, 1, retryAfter)
}

// Rate is the rate in force, in requests a second.
func (l *Local) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.schedule.Rate
}
