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
				b, stop := started(steady{perSecond}, g.note)
				ctx, cancel := context.WithCancel(t.Context())
				all := workers(ctx, b, 32, nil)
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
			b, stop := started(freezable{steady{perSecond}, running}, g.note)
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
	steady

	running chan struct{}
}

func (f freezable) Lease(ctx context.Context, want int) (Lease, error) {
	f.running <- <-f.running
	return f.steady.Lease(ctx, want)
}

// TestFrozenWhilePaced: a dispatcher that stood still while it waited for a token
// finds a full burst when it wakes, and no more than that.
func TestFrozenWhilePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := NewBucket(steady{1000}, func(time.Duration, float64) {})
		b.limiter.SetLimitAt(now, 998)
		b.limiter.SetBurstAt(now, 10)
		pass(t, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := workers(ctx, b, 40, nil) // served by nobody: the dispatcher's steps are taken here
		synctest.Wait()
		for range 10 {
			if !b.turn(ctx, now.Add(time.Hour)) {
				t.Fatal("no turn")
			}
		}
		woken := make(chan bool)
		go func() { woken <- b.turn(ctx, now.Add(time.Hour)) }()
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
		b, stop := started(steady{1000}, g.note)
		defer stop()
		pass(t, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		all := workers(ctx, b, 500, nil)
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
		b, stop := started(steady{25}, func(time.Duration, float64) {})
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
		b, stop := started(steady{1000}, func(time.Duration, float64) {})
		defer stop()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := workers(ctx, b, 1000, nil)
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
		b, stop := started(steady{1}, g.note)
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
		b, stop := started(steady{1}, func(time.Duration, float64) {})
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

func TestPermitExpires(t *testing.T) {
	for _, c := range []struct {
		held  time.Duration
		taken int // permits in the end
	}{{0, 1}, {permitLife, 1}, {permitLife + 1, 2}, {time.Hour, 2}} {
		t.Run(c.held.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{}
				b, stop := started(steady{1000}, g.note)
				defer stop()
				p, err := b.Take(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				pass(t, c.held)
				if err := p.Spend(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := len(g.times()); got != c.taken {
					t.Errorf("%d permits taken, want %d", got, c.taken)
				}
				p.Done()
				p.Done()
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.unspent) != 0 {
					t.Errorf("%d permits unspent after Done", len(b.unspent))
				}
			})
		})
	}
}

// TestSpendAfterFreeze: a process that stood still after its new permit was granted
// takes yet another one.
func TestSpendAfterFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b := NewBucket(steady{1000}, g.note)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go b.Run(ctx)
		p, err := b.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, time.Second)
		stale, err := b.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, time.Second)
		p.become(stale)
		if err := p.Spend(ctx); err != nil {
			t.Fatal(err)
		}
		if got := len(g.times()); got != 3 {
			t.Errorf("%d permits granted, want 3: the second had expired too", got)
		}
		p.Done()
	})
}

func TestSpendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := NewBucket(steady{1000}, func(time.Duration, float64) {})
		go b.Run(ctx)
		p, err := b.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, time.Second)
		cancel()
		if err := p.Spend(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Spend of an expired permit with an ended context: %v", err)
		}
		p.Done()
		if err := p.Spend(t.Context()); !errors.Is(err, errDone) {
			t.Errorf("Spend after Done: %v", err)
		}
	})
}

// TestDoneWhileReplaced: Done in the middle of Spend leaves no permit behind.
func TestDoneWhileReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(steady{1000}, func(time.Duration, float64) {})
		defer stop()
		p, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		another, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Done()
		p.become(another)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.unspent) != 0 {
			t.Errorf("%d permits are unspent", len(b.unspent))
		}
	})
}

// TestAtMostFiveUnspent: permits that nobody spends stop the flow, and expire.
func TestAtMostFiveUnspent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		b, stop := started(steady{1000}, g.note)
		defer stop()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if _, err := b.Take(ctx); err == nil {
					<-ctx.Done() // dialling, or starved
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		pass(t, time.Second)
		for _, at := range g.times() {
			if n := g.within(at, permitLife); n > maxUnspent {
				t.Fatalf("%d permits were out at once", n)
			}
		}
		if n := g.within(begin, time.Second); n < 4*maxUnspent {
			t.Errorf("%d permits in a second: those that expired must make room", n)
		}
		cancel()
		all.Wait()
	})
}

// TestSpentMakesRoomAtOnce: a holder that is done wakes the dispatcher before the
// others expire.
func TestSpentMakesRoomAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := started(steady{10_000}, func(time.Duration, float64) {})
		defer stop()
		var held []*Permit
		for range maxUnspent {
			p, err := b.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, p)
		}
		began := time.Now()
		go func() {
			pass(t, 5*time.Millisecond)
			held[3].Done()
		}()
		p, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 5*time.Millisecond {
			t.Errorf("the next permit came after %v, want 5ms", waited)
		}
		p.Done()
	})
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, demand := range []int{0, 1, 20} {
			ctx, cancel := context.WithCancel(t.Context())
			b := NewBucket(NewLocal(1), func(time.Duration, float64) {})
			ended := make(chan struct{})
			go func() { defer close(ended); b.Run(ctx) }()
			waiters, leave := context.WithCancel(t.Context())
			all := workers(waiters, b, demand, nil)
			pass(t, 1500*time.Millisecond)
			b.Throttled(time.Hour) // and while paused
			pass(t, time.Second)
			cancel()
			<-ended
			leave()
			all.Wait()
		}
	})
}
