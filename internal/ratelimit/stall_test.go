package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stalling is a strict server that gets no processor for a while now and then:
// what arrives meanwhile is taken in one go afterwards.
type stalling struct {
	*strict
	mu    sync.Mutex
	until time.Time
}

func (s *stalling) stall(ctx context.Context, random *rand.Rand, every time.Duration) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(random.Int64N(int64(2*every))), nil)
		s.mu.Lock()
		s.until = time.Now().Add(time.Duration(5+random.Int64N(45)) * time.Millisecond)
		s.mu.Unlock()
	}
}

func (s *stalling) take(ctx context.Context) bool {
	s.mu.Lock()
	wait := time.Until(s.until)
	s.mu.Unlock()
	if wait > 0 {
		pause(ctx, wait, nil)
	}
	return s.strict.take()
}

// TestServerThatStalls: refusals that come from a server's own hiccups are not
// a lower limit; the use of the real one stays high.
func TestServerThatStalls(t *testing.T) {
	for _, c := range []struct {
		every time.Duration // a stall, on average
		use   float64       // of the limit, at least
	}{{250 * time.Millisecond, 0.5}, {time.Second, 0.8}, {5 * time.Second, 0.96}} {
		t.Run(c.every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &stalling{strict: newStrict(1000, 20)}
				b, stop := started(NewLocal(1000), func(time.Duration, float64) {})
				ctx, cancel := context.WithCancel(t.Context())
				go server.stall(ctx, rand.New(rand.NewPCG(3, 4)), c.every)
				var all sync.WaitGroup
				for i := range 256 {
					j := journey{rand.New(rand.NewPCG(uint64(i), 7)), 20 * time.Millisecond}
					all.Go(func() {
						for {
							p, err := b.Take(ctx)
							if err != nil {
								return
							}
							p.Done()
							<-time.After(j.delay())
							ok := server.take(ctx)
							<-time.After(j.delay())
							if !ok {
								b.Throttled(0)
							}
						}
					})
				}
				pass(t, 60*time.Second)
				accepted, refused := server.counts()
				cancel()
				all.Wait()
				stop()
				use, share := float64(accepted)/60_000, float64(refused)/float64(accepted+refused)
				t.Logf("a stall every %v: %.2f %% of the limit used, %.2f %% refused", c.every, 100*use, 100*share)
				if use < c.use || share > 0.025 {
					t.Errorf("want at least %.2f used and at most 0.025 refused", c.use)
				}
			})
		})
	}
}
