package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// SharedConfig is what a [Shared] is made of.
type SharedConfig struct {
	// Rate is the account's, in requests a second, over all replicas. Where replicas
	// are given different ones, the lowest is in force.
	Rate float64

	// Batch is how many permits one request takes at most; 0 is 1.
	Batch int

	// Open returns the key-value bucket, made anew where it is missing. It is called
	// again after every failure: a bucket in memory goes with a server that runs alone.
	Open func(context.Context) (jetstream.KeyValue, error)

	// Trouble is called when leases begin to fail, with why, and with nil when they
	// are to be had again.
	Trouble func(error)
}

const (
	// callTimeout bounds the calls to the server that make one lease.
	callTimeout = 2 * time.Second

	// Bounds of the wait between two tries while NATS does not answer.
	leastRetry = 20 * time.Millisecond
	mostRetry  = time.Second

	// pollEvery is how often a replica that waits for its turn looks again.
	pollEvery = 250 * time.Millisecond

	// longestSlot bounds a lease where the server is far away: a lease must outlast
	// the calls for the next one.
	longestSlot = 250 * time.Millisecond

	// headStart is how long before a lease's end the next is asked for, besides the
	// time that this takes.
	headStart = 5 * time.Millisecond
)

// Shared is the [Lessor] of one of several replicas. They agree on a schedule in one
// key of a key-value bucket, in the server's time, and change it by compare-and-swap:
// slots of different replicas are disjoint, whoever joins, leaves or stands still, and no
// membership is needed. A lease that is not spent in its time is lost, and so is one of
// which the answer is lost. While NATS cannot be reached nothing is leased.
type Shared struct {
	cfg SharedConfig

	// Used by Lease alone.
	cell    cell
	clock   serverClock
	jumped  string        // epoch in which the server's clock has stepped
	took    time.Duration // what taking a lease takes: the worst of late
	failing bool

	mu       sync.Mutex
	rate     float64
	refusals int       // not passed on yet
	paused   time.Time // local: what the last Retry-After asks for
	news     chan struct{}
}

// NewShared returns a lessor; it calls the server when a lease is asked for.
func NewShared(cfg SharedConfig) *Shared {
	return &Shared{
		cfg: cfg, cell: newCell(cfg), clock: serverClock{origin: time.Now()},
		rate: cfg.Rate, news: make(chan struct{}, 1),
	}
}

// Rate is the rate in force when last seen, in requests a second.
func (s *Shared) Rate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate
}

// Throttled implements [Lessor].
func (s *Shared) Throttled(now time.Time, retryAfter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals++
	if retryAfter > 0 {
		s.paused = later(s.paused, now.Add(min(retryAfter, MaxPause)))
	}
	signal(s.news)
}

// Lease implements [Lessor].
func (s *Shared) Lease(ctx context.Context, want int) (Lease, error) {
	retry := leastRetry
	for ctx.Err() == nil {
		lease, wait, err := s.try(ctx, want)
		switch {
		case errors.Is(err, errAgain):
		case err != nil:
			s.trouble(ctx, err)
			pause(ctx, retry, nil)
			retry = min(2*retry, mostRetry)
		case wait == 0 || want == 0:
			s.trouble(ctx, nil)
			return lease, nil
		default:
			s.trouble(ctx, nil)
			pause(ctx, min(wait, pollEvery), s.news)
		}
	}
	return Lease{}, fmt.Errorf("waiting for a lease: %w", ctx.Err())
}

// try takes one lease, or says how long to wait for one, or why there is none. It
// returns a lease only after the server has confirmed that the slot is ours.
func (s *Shared) try(ctx context.Context, want int) (Lease, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	seen, err := s.cell.read(ctx, s.sample)
	if err != nil {
		return Lease{}, 0, err
	}
	if !s.clock.fresh(began) || s.clock.epoch != seen.Epoch {
		return Lease{}, 0, s.cell.touch(ctx, seen)
	}
	now := s.clock.server(time.Now())
	if s.jumped == seen.Epoch || seen.absurd(now) {
		return Lease{}, 0, s.cell.anew(ctx, seen)
	}
	told := s.tell(&seen.schedule, now)
	lease, wait := seen.lease(now, want, s.took, s.slot())
	s.inForce(seen.Rate)
	if lease.Permits == 0 && told == 0 {
		return Lease{}, wait, nil
	}
	if err := s.cell.write(ctx, seen); err != nil {
		return Lease{}, 0, err
	}
	s.heard(told)
	if err := faultpoint.At(faultpoint.LeaseTaken); err != nil {
		return Lease{}, 0, err // lost, like one whose answer was
	}
	lease = s.here(ctx, lease)
	s.took = min(max(time.Since(began), s.took*7/8), longestSlot)
	return s.inTime(lease), wait, nil
}

// here is the lease in local time. When due it looks at the clock first: the revision
// just written tells most. A step of the clock that this shows came after the lease.
func (s *Shared) here(ctx context.Context, lease Lease) Lease {
	clock := s.clock
	if clock.due(time.Now()) {
		s.cell.forget()
		_, _ = s.cell.read(ctx, s.sample) // what fails here fails again for the next lease
		if s.jumped != clock.epoch {
			clock = s.clock
		}
	}
	if lease.Permits > 0 {
		lease.From = clock.local(lease.From)
	}
	return lease
}

// inTime says when to ask for the next lease.
func (s *Shared) inTime(lease Lease) Lease {
	if lease.Permits > 0 {
		lease.Ask = lease.slot(lease.Permits).Add(-2*s.took - headStart)
	}
	return lease
}

// slot is how long a lease lasts.
func (s *Shared) slot() time.Duration { return min(max(slotLength, 4*s.took), longestSlot) }

// sample takes in what a write of ours tells of the server's clock. A step of the
// clock within an epoch ends the epoch: the replicas disagree about what was leased.
func (s *Shared) sample(w written, stamped time.Time, epoch string) {
	if s.clock.sample(w.sent, w.answered, stamped, epoch) {
		s.jumped = epoch
	}
}

// tell puts what Throttled was told into the schedule, and returns how many refusals
// that were. Counting them twice, after a lost answer, errs to the safe side.
func (s *Shared) tell(to *schedule, now time.Time) (refusals int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals > 0 {
		to.refused(now, s.refusals, max(time.Until(s.paused), 0))
	}
	return s.refusals
}

// heard takes note that the refusals are passed on.
func (s *Shared) heard(refusals int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals -= refusals
}

func (s *Shared) inForce(perSecond float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = perSecond
}

// trouble reports the first failure of a row, and its end.
func (s *Shared) trouble(ctx context.Context, err error) {
	if failing := err != nil; failing != s.failing && ctx.Err() == nil {
		s.failing = failing
		s.cfg.Trouble(err)
	}
}
