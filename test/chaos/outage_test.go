//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// outageRate is requests a second of the fleet; outageLoad is what producers publish.
const (
	outageRate = 300
	outageLoad = 60
)

// outageEvidence is what an outage came to.
type outageEvidence struct {
	Kind      string  `json:"kind"`
	Outage    float64 `json:"outage_s"`
	Backlog   int     `json:"backlog"` // messages that waited when it ended
	Letters   int     `json:"dead_letters"`
	Drained   float64 `json:"drained_s"` // after its end
	Allowed   float64 `json:"allowed_s"`
	Verdict   verdict `json:"verdict"`
	Requests  int64   `json:"requests_during"`
	Producers int     `json:"published"`
}

// Stripe is down, and usage goes on coming in: it waits in the stream. Few events are
// buried before the workers know; afterwards everything is delivered, and the buried
// ones are replayed as one.
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind       string
		begin, end func(*testing.T, *chaos)
	}{
		{
			"503",
			func(t *testing.T, c *chaos) { c.inject(t, simulator.Fault{Kind: simulator.Error503}) },
			func(_ *testing.T, c *chaos) { c.stripe.ClearFaults() },
		},
		{"refused", func(_ *testing.T, c *chaos) {
			for _, p := range c.workers {
				p.toStripe.Refuse()
			}
		}, func(t *testing.T, c *chaos) {
			for _, p := range c.workers {
				if err := p.toStripe.Heal(); err != nil {
					t.Error(err)
				}
			}
		}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{Latency: 5 * time.Millisecond, Rate: -1}, fleetSize, fmt.Sprintf("METERWORKER_RATE=%d", outageRate))
			c := &chaos{world: w, began: time.Now()}
			c.startFleet(t)
			tr := newTraffic(t, "outage", *seed, 500)
			stop, published := tr.flow(t, w)
			until(t, "traffic before the outage", func() bool { return c.stripe.Totals().Counted >= 2*outageLoad })
			e := outageEvidence{Kind: tt.kind, Outage: outage.Seconds()}
			before := c.stripe.Totals().Requests
			tt.begin(t, c)
			<-time.NewTimer(*outage).C
			e.Requests = c.stripe.Totals().Requests - before
			e.Letters = w.client.letterCount()
			tt.end(t, c)
			c.drain(t, &e, tr, stop, published)
			e.check(t)
			leave(t, "outage-"+tt.kind, e)
		})
	}
}

// flow publishes at the load until stopped; published is closed then.
func (tr *traffic) flow(t *testing.T, w *world) (stop func(), published chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	published = make(chan struct{})
	publisher, tick := usage.NewPublisher(w.client.js), time.NewTicker(time.Second/outageLoad)
	go func() {
		defer close(published)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			m := tr.add(tr.event(fmt.Sprintf("cus_%d", tr.random.IntN(tr.customers)), fmt.Sprintf("good-%d", i), 1))
			tr.store(context.WithoutCancel(ctx), publisher, w.client.js, m)
			<-tick.C
		}
	}()
	return cancel, published
}

// drain measures from the end of the outage until nothing waits.
func (c *chaos) drain(t *testing.T, e *outageEvidence, tr *traffic, stop func(), published chan struct{}) {
	t.Helper()
	over := time.Now()
	stop()
	<-published
	e.Producers = len(tr.messages)
	e.Backlog = len(tr.messages) - int(c.stripe.Totals().Counted)
	until(t, "the backlog to be delivered", c.settled)
	e.Drained = time.Since(over).Seconds()
	e.Allowed = float64(e.Backlog)/outageRate + 60
	c.replayOutage(t)
	e.Verdict = judge(tr.messages, c.stripe.Books(), c.client.letters())
}

func (e *outageEvidence) check(t *testing.T) {
	t.Helper()
	if !e.Verdict.balanced() {
		t.Errorf("the books do not balance: %v", e.Verdict)
	}
	if e.Letters > lettersInOutage*fleetSize {
		t.Errorf("%d dead letters, want at most %d", e.Letters, lettersInOutage*fleetSize)
	}
	if least := int(outage.Seconds() * outageLoad / 2); e.Backlog < least {
		t.Errorf("%d messages waited, want at least %d: there was no outage", e.Backlog, least)
	}
	if e.Drained > e.Allowed {
		t.Errorf("the backlog of %d took %.1f s, want at most %.1f", e.Backlog, e.Drained, e.Allowed)
	}
}
