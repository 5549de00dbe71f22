package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

const (
	observeEvery = 5 * time.Second
	trimEvery    = 5 * time.Minute // little and often: a large purge stalls writers
)

// observe keeps the gauges up to date, and trims what is done.
func (d *daemon) observe(ctx context.Context) {
	ticker := time.NewTicker(observeEvery)
	defer ticker.Stop()
	trimmed := time.Now()
	for {
		roomForHeap(d.heapRoom())
		d.gaugeReady()
		d.gauge(ctx)
		_, first := d.fleet.holdings()[0] // its owner speaks for the fleet
		if err := d.expiring.step(ctx, first, time.Now()); err != nil {
			d.log.Debug("it is not known which dead letters expire", zap.Error(err))
		}
		if time.Since(trimmed) >= trimEvery {
			trimmed = time.Now()
			d.trim(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (d *daemon) gauge(ctx context.Context) {
	held := d.fleet.holdings()
	share := d.fleet.ledgerShare()
	var pending, fresh, identifiers, open int
	var bytes int64
	oldest := time.Time{}
	horizon := time.Now().Add(-usage.MaxAge) // older events are refused anyway
	for p, h := range held {
		h.journal.SetLimit(share)
		if forgotten := h.journal.Ledger.Horizon(); forgotten.After(horizon) {
			horizon = forgotten
		}
		size, n := h.journal.Ledger.Size()
		bytes, identifiers, open = bytes+size, identifiers+n, open+h.journal.Open()
		backlog, err := h.outbox.Backlog(ctx)
		if err != nil {
			d.log.Debug("backlog is not known", zap.Int("partition", p), zap.Error(err))
			continue
		}
		pending += backlog.Pending + backlog.Unacked
		fresh += backlog.Pending
		if !backlog.Oldest.IsZero() && (oldest.IsZero() || backlog.Oldest.Before(oldest)) {
			oldest = backlog.Oldest
		}
	}
	m := d.metrics
	m.LedgerBytes.Set(float64(bytes))
	m.Identifiers.Set(float64(identifiers))
	m.IntentsOpen.Set(float64(open))
	m.OutboxPending.Set(float64(pending))
	m.OutboxReady.Set(float64(d.readyBacklog(fresh)))
	m.RateLimit.Set(d.fleet.rate())
	m.RateConfigured.Set(d.cfg.Rate)
	m.PartitionsAll.Set(float64(d.cfg.Partitions))
	m.LedgerMaxBytes.Set(float64(d.cfg.LedgerMaxBytes))
	age := 0.0
	if !oldest.IsZero() {
		age = max(time.Since(oldest).Seconds(), 0)
	}
	m.OutboxOldest.Set(age)
	d.gaugeLetters(ctx)
	d.gaugeStreams(ctx)
	d.warnForgotten(horizon)
}

// throttledBelow is the share of the configured rate under which 429s, and not the number
// of workers, are what holds deliveries back.
const throttledBelow = 0.9

// readyBacklog is how many of the messages that were not handed out more workers could
// send: none while Stripe is what is waited for.
func (d *daemon) readyBacklog(fresh int) int {
	state, _ := d.gate.Status()
	if state != delivery.StateClosed || d.fleet.rate() < throttledBelow*d.cfg.Rate {
		return 0
	}
	return fresh
}

// warnForgotten says loudly, each time it gets worse, that days were dropped from the
// ledger for want of memory.
func (d *daemon) warnForgotten(horizon time.Time) {
	if time.Since(horizon) >= usage.MaxAge || !horizon.After(d.forgotten) {
		return
	}
	d.forgotten = horizon
	d.log.Warn("the ledger has forgotten deliveries for want of memory: events with older timestamps become ambiguous dead letters; raise METERWORKER_LEDGER_MAX_BYTES or run more workers",
		zap.Time("timestamps_before", horizon), zap.Int64("ledger_max_bytes", d.cfg.LedgerMaxBytes))
}

func (d *daemon) gaugeLetters(ctx context.Context) {
	counts, err := d.letters.Counts(ctx)
	if err != nil {
		d.log.Debug("dead letters are not counted", zap.Error(err))
		return
	}
	for _, reason := range deadletter.Reasons() {
		d.metrics.DLQMessages.WithLabelValues(string(reason)).Set(float64(counts[reason]))
	}
}

// gaugeReady shows the checks of /readyz; it comes first, since the others ask a server that
// may be what is missing.
func (d *daemon) gaugeReady() {
	for _, check := range d.ready() {
		value := 0.0
		if check.OK {
			value = 1
		}
		d.metrics.Ready.WithLabelValues(check.Name).Set(value)
	}
}

func (d *daemon) gaugeStreams(ctx context.Context) {
	sizes, err := d.fleet.streams.Sizes(ctx)
	if err != nil {
		d.log.Debug("sizes of the streams are not known", zap.Error(err))
		return
	}
	for _, size := range sizes {
		d.metrics.StreamBytes.WithLabelValues(size.Stream).Set(float64(size.Bytes))
		d.metrics.StreamMaxBytes.WithLabelValues(size.Stream).Set(float64(max(size.MaxBytes, 0)))
	}
}

// trim deletes what is acked and older than the retention, partition by
// partition.
func (d *daemon) trim(ctx context.Context) {
	cutoff := time.Now().Add(-d.cfg.Retention)
	for p, h := range d.fleet.holdings() {
		if err := d.fleet.streams.Trim(ctx, h.outbox, 0, cutoff); err != nil {
			d.log.Warn("cannot trim", zap.Int("partition", p), zap.Error(err))
		}
	}
}
