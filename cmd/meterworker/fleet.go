package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

const (
	// notAgainFor is how long a worker leaves a partition alone that another one
	// has taken from it, so that two of them do not fight.
	notAgainFor = 10 * time.Second

	// claimsAtOnce bounds the journals that are read beside each other.
	claimsAtOnce = 8
)

// fleet holds this worker's share of the partitions: it claims what is proposed
// to it and free, serves it, and gives up what is proposed to others.
type fleet struct {
	cfg     Config
	streams *outbox.Streams
	members *outbox.Members
	orders  *orders
	guard   *guard
	store   journal.Store
	worker  *delivery.Worker
	metrics *metrics.Set
	log     *zap.Logger
	nonce   string
	rate    func() float64
	used    permitCount
	cut     context.Context
	fatal   context.CancelCauseFunc

	mu      sync.Mutex
	held    map[int]*holding
	refused map[int]time.Time // not to be claimed before
	ready   bool              // once everything that was proposed was claimed
	serving sync.WaitGroup
	claims  chan struct{}
	given   chan struct{} // capacity 1: a partition was given up
}

// holding is one owned partition.
type holding struct {
	stop    context.CancelFunc
	journal *journal.Partition // nil until it is claimed
	outbox  *outbox.Partition
}

// run keeps the share up to date until stop ends, then waits for everything that
// is in hand.
func (f *fleet) run(stop context.Context) {
	for introduced := false; stop.Err() == nil; {
		err := errors.Join(f.orders.follow(stop), f.beat(stop))
		waiting := false
		switch {
		case err != nil && stop.Err() == nil:
			f.log.Warn("orders or members cannot be read", zap.Error(err))
		case !introduced && f.members.Live() > 1:
			// The others see us with their next beat. Until then they may still claim
			// what is proposed to us, and the later marker would be the wrong one's.
			introduced = true
		default:
			introduced = true
			waiting = f.rebalance(stop)
		}
		f.handOver(stop, time.Now().Add(outbox.BeatEvery), waiting)
	}
	f.leave()
}

// beat shows this worker's state, and hears of the others'.
func (f *fleet) beat(stop context.Context) error {
	f.members.Shows(f.showing(time.Now()))
	if err := f.members.Beat(stop); err != nil {
		return err
	}
	f.orders.hear(f.members.Others())
	return nil
}

// rebalance compares what is held with what is proposed; it reports whether it waits for
// what another worker still owns.
func (f *fleet) rebalance(stop context.Context) (waiting bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.cfg.Partitions {
		mine, taken := f.members.Proposed(p)
		held, isHeld := f.held[p]
		switch {
		case isHeld && !mine:
			held.stop()
		case f.guard.halted() != "":
		case mine && !isHeld && taken:
			waiting = true
		case mine && !isHeld && time.Now().After(f.refused[p]):
			f.claim(stop, p)
		}
	}
	f.complete()
	return waiting
}

// giveUp ends everything that is held; what may be claimed again the guard says.
func (f *fleet) giveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, held := range f.held {
		held.stop()
	}
}

// complete notes when everything that is proposed to this worker has been
// claimed once: from then on it is ready. f.mu is held.
func (f *fleet) complete() {
	if f.ready {
		return
	}
	for p := range f.cfg.Partitions {
		mine, taken := f.members.Proposed(p)
		if held, ok := f.held[p]; mine && !taken && (!ok || held.journal == nil) {
			return
		}
	}
	f.ready = true
	f.log.Info("ready", zap.Int("partitions", len(f.held)), zap.Int("workers", f.members.Live()))
}

// gauge shows how many partitions are owned. f.mu is held.
func (f *fleet) gauge() {
	owned := 0
	for _, h := range f.held {
		if h.journal != nil {
			owned++
		}
	}
	f.metrics.Partitions.Set(float64(owned))
}

// claim starts to serve a partition.
func (f *fleet) claim(stop context.Context, p int) {
	ctx, cancel := context.WithCancel(stop)
	h := &holding{stop: cancel}
	f.held[p] = h
	f.serving.Go(func() {
		defer cancel()
		f.released(p, f.serve(ctx, p, h))
	})
}

// serve claims the partition's journal, then delivers until it is given up.
func (f *fleet) serve(ctx context.Context, p int, h *holding) error {
	owned, pull, err := f.take(ctx, p, h)
	if err != nil {
		return err
	}
	f.members.Owns(p, true)
	f.log.Debug("partition taken", zap.Int("partition", p))
	alive, rest := context.WithCancel(context.WithoutCancel(ctx))
	defer rest()
	go pull.KeepAlive(alive)
	f.worker.Serve(ctx, f.cut, delivery.Partition{Number: p, Outbox: source{pull, f.guard}, Journal: owned, Places: f.places})
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	reason := owned.Err()
	if err := owned.Close(closing); err != nil {
		f.log.Warn("journal not closed in time", zap.Int("partition", p), zap.Error(err))
	}
	return reason
}

func (f *fleet) take(ctx context.Context, p int, h *holding) (*journal.Partition, *outbox.Partition, error) {
	select {
	case f.claims <- struct{}{}:
		defer func() { <-f.claims }()
	case <-ctx.Done():
		return nil, nil, ctx.Err() // released expects it
	}
	if err := f.guard.clear(ctx); err != nil { // else what is lost is not known yet
		return nil, nil, err
	}
	owned, err := journal.Claim(ctx, f.store, journal.Config{
		Worker: f.nonce, Nonce: f.nonce, Window: f.cfg.DedupWindow, Limit: f.ledgerShare(), Lost: f.lost(),
	}, p)
	if err != nil {
		return nil, nil, fmt.Errorf("take partition %d: %w", p, err)
	}
	pull, err := f.streams.Partition(ctx, p)
	if err == nil {
		err = f.guard.holds(ctx, owned.Ledger.Newest())
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		return nil, nil, errors.Join(err, owned.Close(closing))
	}
	f.mu.Lock()
	h.journal, h.outbox = owned, pull
	f.gauge()
	f.complete()
	f.mu.Unlock()
	return owned, pull, nil
}

// released takes the partition off the books and draws the consequence of why it
// ended.
func (f *fleet) released(p int, err error) {
	f.members.Owns(p, false)
	f.mu.Lock()
	delete(f.held, p)
	f.gauge()
	f.mu.Unlock()
	defer f.tellSoon() // what keeps us from claiming it again is noted by then
	var refused *outbox.Refused
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, journal.ErrClosed):
		f.log.Debug("partition given up", zap.Int("partition", p))
	case errors.Is(err, journal.ErrBroken), f.guard.halted() != "":
		f.log.Warn("partition given up", zap.Int("partition", p), zap.Error(err))
		f.guard.doubt()
	case errors.Is(err, journal.ErrMemory), errors.Is(err, journal.ErrFormat), errors.As(err, &refused):
		f.fatal(err)
	default:
		f.log.Warn("partition lost", zap.Int("partition", p), zap.Error(err))
		if errors.Is(err, journal.ErrLost) {
			f.mu.Lock()
			f.refused[p] = time.Now().Add(notAgainFor)
			f.mu.Unlock()
		}
	}
}

// places is how many messages of one partition may be in hand: over all partitions four
// seconds' worth of the rate that may be used now, so that what is pulled is sent well
// before AckWait, a slow rate does not hoard, and traffic in few partitions has room.
func (f *fleet) places() int {
	return min(max(int(math.Ceil(4*f.rate()*f.orders.gate.Share()/float64(f.cfg.Partitions))), 4), 512)
}

// lost are the times whose journal is missing, as declared.
func (f *fleet) lost() []journal.Span {
	var spans []journal.Span
	for _, span := range f.streams.Lost() {
		spans = append(spans, journal.Span(span))
	}
	return spans
}

func (f *fleet) ledgerShare() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg.LedgerMaxBytes / int64(max(1, len(f.held)))
}

// holdings are the claimed partitions.
func (f *fleet) holdings() map[int]holding {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[int]holding{}
	for p, h := range f.held {
		if h.journal != nil {
			all[p] = *h
		}
	}
	return all
}

func (f *fleet) isReady() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

// source lets delivery pull without knowing the outbox.
type source struct {
	*outbox.Partition

	guard *guard
}

// Fetch implements delivery.Outbox.
func (s source) Fetch(n int, each func(delivery.Message)) error {
	if err := s.guard.clear(context.Background()); err != nil {
		return err
	}
	err := s.Partition.Fetch(n, func(m *outbox.Message) { each(m) })
	if err != nil {
		s.guard.doubt()
	}
	return err // names the partition
}

// permits lets delivery take permits without knowing the bucket.
type permits struct{ *ratelimit.Bucket }

// Take implements delivery.Permits.
func (p permits) Take(ctx context.Context) (delivery.Permit, error) { return p.Bucket.Take(ctx) } // names what was waited for
