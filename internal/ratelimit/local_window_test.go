package ratelimit

import (
	"context"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wave is a part of a plan: what is asked for, how long each holder takes before it
// spends, what Stripe refuses of it, and the pause after it.
type wave struct {
	waiters, refused  int
	hold, idle, after time.Duration
}

func drawWaves(t *rapid.T) []wave {
	ms := func(name string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Millisecond
	}
	plan := make([]wave, rapid.IntRange(1, 8).Draw(t, "waves"))
	for i := range plan {
		plan[i] = wave{
			waiters: rapid.IntRange(0, 150).Draw(t, "waiters"), refused: rapid.SampledFrom([]int{0, 0, 1, 40}).Draw(t, "refused"),
			hold: ms("hold", 60), idle: ms("idle", 3000), after: ms("retry after", 2000),
		}
	}
	return plan
}

// TestLocalWindowBound: with the rate of a single process, which falls and rises with
// what Stripe refuses, no sliding window holds more than the configured rate × Margin and
// a burst, permits that were spent late included.
func TestLocalWindowBound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		perSecond := rapid.SampledFrom([]float64{0.5, 1, 25, 200, 1000, 10_000}).Draw(r, "rate")
		plan := drawWaves(r)
		rapid.SyncTest(r, func(r *rapid.T) {
			granted, spent := &grants{}, &grants{}
			b, stop := started(NewLocal(perSecond), granted.note)
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			for _, d := range plan {
				for i := range d.waiters {
					all.Go(func() {
						p, err := b.Take(ctx)
						if err != nil {
							return
						}
						defer p.Done()
						<-time.After(d.hold)
						if p.Spend(ctx) != nil {
							return
						}
						spent.note(0, 0)
						if i < d.refused {
							b.Throttled(d.after)
						}
					})
				}
				<-time.After(d.idle)
			}
			cancel()
			all.Wait()
			stop()
			for _, window := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second} {
				if most, limit := busiest(granted.times(), window), bound(perSecond, window); most > limit {
					r.Errorf("%d permits granted in %v, want %d at most", most, window, limit)
				}
				// What is granted may be spent up to permitLife later.
				if most, limit := busiest(spent.times(), window), bound(perSecond, window+permitLife); most > limit {
					r.Errorf("%d permits spent in %v, want %d at most", most, window, limit)
				}
			}
		})
	})
}
