package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestUseAndPace(t *testing.T) {
	for _, perSecond := range []float64{1, 25, 800, 1000, 10_000} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{}
				b, stop := started(NewLocal(perSecond), g.note)
				ctx, cancel := context.WithCancel(t.Context())
				all := workers(ctx, b, 32)
				length := max(10*time.Second, time.Duration(1000/perSecond*float64(time.Second)))
				length = min(length, 200*time.Second)
				begin := time.Now()
				pass(t, length)
				cancel()
				all.Wait()
				stop()
				want := perSecond * length.Seconds() * 0.99
				if got := g.within(begin, length); float64(got) < want {
					t.Errorf("%d permits in %v, want at least %.0f", got, length, want)
				}
				for _, window := range []time.Duration{50 * time.Millisecond, time.Second, 7 * time.Second} {
					if got, most := busiest(g.times(), window), bound(perSecond, window); got > most {
						t.Errorf("%d permits in a window of %v, at most %d may be", got, window, most)
					}
				}
			})
		})
	}
}

// TestWindowBound: however demand comes and goes, and however long the dispatcher is
// frozen, no window holds more than rate × Margin and a burst.
func TestWindowBound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		perSecond := rapid.SampledFrom([]float64{1, 3, 25, 200, 1000, 5000}).Draw(r, "rate")
		rounds := rapid.IntRange(1, 8).Draw(r, "rounds")
		type round struct {
			waiters, abandon   int
			idle, frozen, hold time.Duration
		}
		plan := make([]round, rounds)
		for i := range plan {
			plan[i] = round{
				waiters: rapid.IntRange(0, 120).Draw(r, "waiters"),
				abandon: rapid.IntRange(0, 60).Draw(r, "abandon"),
				idle:    time.Duration(rapid.IntRange(0, 3000).Draw(r, "idle")) * time.Millisecond,
				frozen:  time.Duration(rapid.IntRange(0, 2000).Draw(r, "frozen")) * time.Millisecond,
				hold:    time.Duration(rapid.IntRange(0, 60).Draw(r, "hold")) * time.Millisecond,
			}
		}
		rapid.SyncTest(r, func(r *rapid.T) {
			g := &grants{}
			running := make(chan struct{}, 1)
			running <- struct{}{}
			b, stop := started(freezable{NewLocal(perSecond), running}, g.note)
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			for _, step := range plan {
				leaving, leave := context.WithCancel(ctx)
				for i := range step.waiters {
					own := ctx
					if i < step.abandon {
						own = leaving
					}
					all.Go(func() {
						p, err := b.Take(own)
						if err != nil {
							return
						}
						<-time.After(step.hold)
						_ = p.Spend(own)
						p.Done()
					})
				}
				<-time.After(step.idle / 2)
				<-running
				<-time.After(step.frozen)
				running <- struct{}{}
				leave()
				<-time.After(step.idle / 2)
			}
			cancel()
			all.Wait()
			stop()
			synctest.Wait()
			for _, window := range []time.Duration{0, 10 * time.Millisecond, time.Second, 3 * time.Second} {
				if got, most := busiest(g.times(), window), bound(perSecond, window); got > most {
					r.Fatalf("%d permits in a window of %v, at most %d may be", got, window, most)
				}
			}
		})
	})
}

// freezable stops the dispatcher, whenever it wants a lease, while running is empty.
type freezable struct {
	*Local

	running chan struct{}
}

func (f freezable) Lease(ctx context.Context, want int) (Lease, error) {
	f.running <- <-f.running
	return f.Local.Lease(ctx, want)
}

// TestFrozenWhilePaced: a dispatcher that stood still while it waited for a token
// finds a full burst when it wakes, and no more than that.
func TestFrozenWhilePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := NewBucket(Config{Lessor: NewLocal(1000), Granted: func(time.Duration, float64) {}})
		b.limiter.SetLimitAt(now, 998)
		b.limiter.SetBurstAt(now, 10)
		pass(t, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := workers(ctx, b, 40) // served by nobody: the dispatcher's steps are taken here
		synctest.Wait()
		due := Lease{Permits: 20, Rate: 1000, From: time.Now()}
		for range 10 {
			if !b.turn(ctx, due, 0, 1) {
				t.Fatal("no turn")
			}
		}
		woken := make(chan bool)
		go func() { woken <- b.turn(ctx, due, 0, 1) }()
		synctest.Wait()
		if tokens := b.limiter.Tokens(); tokens < 0 {
			t.Errorf("%v tokens while waiting for one: it was booked ahead", tokens)
		}
		<-woken
		cancel()
		all.Wait()
	})
}

// TestIdleSavesNothing: after an hour without demand no more than a burst comes at
// once.
func TestIdleSavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b, stop := started(NewLocal(1000), g.note)
		defer stop()
		pass(t, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		all := workers(ctx, b, 500)
		pass(t, time.Second)
		cancel()
		all.Wait()
		if got := busiest(g.times(), 0); got > maxBurst {
			t.Errorf("%d permits at once, at most %d may be", got, maxBurst)
		}
		if got := busiest(g.times(), time.Second); got > 1008 {
			t.Errorf("%d permits in a second", got)
		}
	})
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(NewLocal(25), func(time.Duration, float64) {})
		defer stop()
		var mu sync.Mutex
		var order []int
		for i := range 40 {
			go func() {
				p, err := b.Take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer p.Done()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}()
			synctest.Wait() // in line
		}
		pass(t, 3*time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 40 {
			t.Fatalf("%d of 40 were served", len(order))
		}
		for i, who := range order {
			if who != i {
				t.Fatalf("order of service %v", order)
			}
		}
	})
}

// TestNobodyStarves: every waiter is served in its turn, the last of 1,000 after a
// second.
func TestNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(NewLocal(1000), func(time.Duration, float64) {})
		defer stop()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := workers(ctx, b, 1000)
		synctest.Wait()
		for range 20 {
			began := time.Now()
			p, err := b.Take(ctx)
			if err != nil {
				t.Fatal(err)
			}
			p.Done()
			if waited := time.Since(began); waited > 1100*time.Millisecond {
				t.Fatalf("waited %v behind 1,000 others", waited)
			}
		}
		cancel()
		all.Wait()
	})
}

// TestCancelledTakeNoPermit: those who leave the queue cost nobody a permit.
func TestCancelledTakeNoPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b, stop := started(NewLocal(1), g.note)
		defer stop()
		first, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first.Done()
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if p, err := b.Take(leaving); !errors.Is(err, context.Canceled) {
					t.Errorf("a waiter who left got %v, %v", p, err)
				}
			})
		}
		synctest.Wait()
		served := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			p, err := b.Take(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			p.Done()
			served <- time.Now()
		}()
		synctest.Wait()
		leave()
		all.Wait()
		if waited := (<-served).Sub(began); waited > 1100*time.Millisecond {
			t.Errorf("the one who stayed waited %v behind 50 who left", waited)
		}
		if n := len(g.times()); n != 2 {
			t.Errorf("%d permits were granted to 2", n)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.waiting) != 0 || len(b.unspent) != 0 {
			t.Errorf("%d wait and %d are unspent at the end", len(b.waiting), len(b.unspent))
		}
	})
}

// TestLastOneLeavesWhilePaced: the token that was waited for is there for whoever
// comes next.
func TestLastOneLeavesWhilePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(NewLocal(1), func(time.Duration, float64) {})
		defer stop()
		p, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Done()
		brief, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := b.Take(brief); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Take: %v", err)
		}
		pass(t, 10*time.Second)
		began := time.Now()
		if p, err = b.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Done()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v for a token that had been there for long", waited)
		}
	})
}
