package ratelimit

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const batchOf = 100 // as API v2 has it

// couriers take permits for full batches as fast as they get them, until ctx ends; sent is
// told of each.
func couriers(ctx context.Context, b *Bucket, n int, sent func(events int)) *sync.WaitGroup {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for {
				p, err := b.TakeUpTo(ctx, batchOf)
				if err != nil {
					return
				}
				if p.Spend(ctx) == nil {
					sent(p.Count())
				}
				p.Done()
			}
		})
	}
	return &all
}

// eventBucket is a server's bucket of events: the simulator's.
type eventBucket struct {
	mu              sync.Mutex
	rate            float64
	tokens, burst   float64
	last            time.Time
	events, refused int
	at              []time.Time // of each event
}

func newEventBucket(rate, burst float64) *eventBucket {
	return &eventBucket{rate: rate, tokens: burst, burst: burst, last: time.Now()}
}

func (s *eventBucket) take(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens, s.last = min(s.burst, s.tokens+now.Sub(s.last).Seconds()*s.rate), now
	if s.tokens < float64(n) {
		s.refused++
		return
	}
	s.tokens -= float64(n)
	s.events += n
	for range n {
		s.at = append(s.at, now)
	}
}

// TestBatchesHoldTheRate: requests of a hundred events use 99 % of a rate counted in
// events, are never refused by a bucket of two hundredths of it, and stay within 1 % of it
// in any second; also with requests for one permit between them, and after idle spells.
func TestBatchesHoldTheRate(t *testing.T) {
	for _, perSecond := range []float64{1000, 10_000, 25_000, 200_000} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b, stop := started(NewLocalInBatches(perSecond, batchOf), func(time.Duration, float64) {})
			server := newEventBucket(perSecond, perSecond/50)
			all := couriers(ctx, b, 8, server.take)
			all.Go(func() {
				for ctx.Err() == nil {
					if p, err := b.Take(ctx); err == nil {
						server.take(p.Count())
						p.Done()
					}
					pause(ctx, 300*time.Millisecond, nil)
				}
			})
			const seconds = 5
			pass(t, seconds*time.Second)
			cancel()
			all.Wait()
			stop()
			if used := float64(server.events) / (seconds * perSecond); used < 0.99 || used > 1.005 {
				t.Errorf("%v/s: %.4f of the rate is used", perSecond, used)
			}
			if server.refused > 0 {
				t.Errorf("%v/s: %d requests are refused", perSecond, server.refused)
			}
			if most := busiest(server.at, time.Second); float64(most) > 1.01*perSecond {
				t.Errorf("%v/s: %d events in one second", perSecond, most)
			}
		})
	}
}

// TestBatchAfterAnIdleSpell: nothing is saved up.
func TestBatchAfterAnIdleSpell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(NewLocalInBatches(10_000, batchOf), func(time.Duration, float64) {})
		defer stop()
		pass(t, time.Hour)
		server := newEventBucket(10_000, 200)
		ctx, cancel := context.WithCancel(t.Context())
		all := couriers(ctx, b, 20, server.take)
		pass(t, 100*time.Millisecond)
		cancel()
		all.Wait()
		if server.refused > 0 || server.events > 1200 || server.events < 900 {
			t.Errorf("%d events in 100 ms, %d requests refused", server.events, server.refused)
		}
	})
}

// TestBatchIsNoLargerThanTheBurst: at a low rate a request gets what may go at once.
func TestBatchIsNoLargerThanTheBurst(t *testing.T) {
	for perSecond, want := range map[float64]int{25: 1, 1000: 5, 5000: 25, 10_000: 50, 20_000: 100, 100_000: 100} {
		synctest.Test(t, func(t *testing.T) {
			b, stop := started(NewLocalInBatches(perSecond, batchOf), func(time.Duration, float64) {})
			defer stop()
			most := 0
			for range 5 {
				p, err := b.TakeUpTo(t.Context(), batchOf)
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, p.Count())
				p.Done()
			}
			if most != want {
				t.Errorf("%v/s: %d permits at once, want %d", perSecond, most, want)
			}
		})
	}
}

// TestExpiredBatch: what was not spent in time is gone, and taken anew.
func TestExpiredBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b, stop := started(NewLocalInBatches(20_000, batchOf), g.note)
		defer stop()
		p, err := b.TakeUpTo(t.Context(), 60)
		if err != nil || p.Count() != 60 {
			t.Fatal(p.Count(), err)
		}
		pass(t, time.Second)
		if err := p.Spend(t.Context()); err != nil || p.Count() == 0 || p.Count() > 60 {
			t.Errorf("%d permits, %v", p.Count(), err)
		}
		if n := len(g.times()); n != 60+p.Count() {
			t.Errorf("%d permits were granted", n)
		}
		p.Done()
	})
}

// TestAbandonedBatch: who leaves takes its demand along.
func TestAbandonedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(Config{Lessor: NewLocalInBatches(10_000, batchOf), Granted: func(time.Duration, float64) {}})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := b.TakeUpTo(ctx, batchOf); err == nil {
				t.Error("granted by nobody")
			}
		})
		synctest.Wait()
		if want, _ := b.want(); want != batchOf {
			t.Errorf("%d wanted, want %d", want, batchOf)
		}
		cancel()
		all.Wait()
		if want, _ := b.want(); want != 0 {
			t.Errorf("%d wanted by nobody", want)
		}
	})
}

// TestNoLanes: work runs beside each other, however often goroutines are used again.
func TestNoLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &NoLanes{}
		for range 3 {
			var mu sync.Mutex
			ran := 0
			began := time.Now()
			for range 2 * maxIdle {
				if _, taken := l.Offer("the same", func() {
					pass(t, time.Second)
					mu.Lock()
					defer mu.Unlock()
					ran++
				}); !taken {
					t.Error("not taken")
				}
			}
			synctest.Wait()
			pass(t, time.Second)
			synctest.Wait()
			if ran != 2*maxIdle || time.Since(began) != time.Second || len(l.idle) != maxIdle {
				t.Errorf("%d ran in %v, %d wait for more", ran, time.Since(began), len(l.idle))
			}
		}
		l.Wait()
	})
}
