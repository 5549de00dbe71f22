package main

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
)

// way is how events go to Stripe: what of the worker differs between its APIs.
type way struct {
	sender  delivery.Sender
	permits delivery.Permits
	lanes   delivery.Lanes
	ahead   int  // intents that may wait for their turn
	shared  bool // events share requests
	close   func()
}

// maxAhead bounds the intents that wait with API v2: as many as there are places. The
// more wait while a write of the journal is under way, the fewer writes it takes; a disk that
// syncs 200 times a second then still carries 10,000 events.
const maxAhead = 12288

// batch is how many permits one request takes at most.
func (d *daemon) batch() int {
	if d.cfg.API == apiV2 {
		return sender.MaxBatch
	}
	return 1
}

// way is that of the configured API, and of no other: nothing falls back to the other one.
func (d *daemon) way(v1 *sender.V1, keys func() string, bucket *ratelimit.Bucket) (way, error) {
	if d.cfg.API != apiV2 {
		return way{
			sender: v1, permits: permits{bucket}, lanes: ratelimit.NewLanes(func(n int) { d.metrics.LanesBusy.Set(float64(n)) }),
			ahead: min(max(int(d.cfg.Rate/4), 4), maxConns), close: func() {},
		}, nil
	}
	v2, err := sender.NewV2(sender.V2Config{
		Config: sender.Config{
			BaseURL: d.cfg.APIBase, Version: d.cfg.Version, Timeout: d.cfg.AttemptTimeout, MaxConns: maxStreams,
			Key: keys, Live: func() bool { return d.cfg.Live },
		},
		StreamURL: d.cfg.MeterEventsBase, Permits: streamPermits{bucket}, Made: d.requested,
	})
	if err != nil {
		return way{}, err // names the setting
	}
	ahead := min(max(int(d.cfg.Rate), 4), maxAhead) // a second's worth
	return way{
		sender: v2, permits: sender.NewQueue(ahead, bucket.Throttled), lanes: &ratelimit.NoLanes{},
		ahead: ahead, shared: true, close: v2.Close,
	}, nil
}

// maxStreams is how many requests of API v2 may be under way at once over HTTP/1: those of
// the line, and events that are tried alone.
const maxStreams = 128

// requested counts a request that events share.
func (d *daemon) requested(class delivery.Class, took time.Duration) {
	d.metrics.StripeRequests.WithLabelValues(class.String()).Inc()
	d.metrics.StripeSeconds.Observe(took.Seconds())
}

// streamPermits lets the sender take permits without knowing the bucket.
type streamPermits struct{ *ratelimit.Bucket }

// TakeUpTo implements sender.Permits.
func (p streamPermits) TakeUpTo(ctx context.Context, n int) (sender.Permit, error) {
	return p.Bucket.TakeUpTo(ctx, n) // names what was waited for
}
