package main

import (
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/outbox"
)

// permitCount turns the count of permits into the rate since it was asked last.
type permitCount struct {
	all  *atomic.Uint64
	last uint64
	at   time.Time
}

// rate is 0 at first.
func (c *permitCount) rate(now time.Time) float64 {
	all := c.all.Load()
	since, granted := now.Sub(c.at), all-c.last
	first := c.at.IsZero()
	c.last, c.at = all, now
	if first || since <= 0 {
		return 0
	}
	return float64(granted) / since.Seconds()
}

// showing is what the others, and people, are told of this worker.
func (f *fleet) showing(now time.Time) outbox.Showing {
	state, reason := f.orders.gate.Status()
	s := outbox.Showing{State: state, Reason: reason, Rate: f.used.rate(now), LedgerOf: f.cfg.LedgerMaxBytes}
	for _, h := range f.holdings() {
		bytes, _ := h.journal.Ledger.Size()
		s.Ledger += bytes
		s.Held += h.outbox.Held()
	}
	return s
}
