package ratelimit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPermitExpires(t *testing.T) {
	life := permitLife - lateness(1000)/2 // the first permit's time is as long past
	for _, c := range []struct {
		held  time.Duration
		taken int // permits in the end
	}{{0, 1}, {life, 1}, {life + 1, 2}, {time.Hour, 2}} {
		t.Run(c.held.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{}
				b, stop := started(NewLocal(1000), g.note)
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

// TestSpendAfterFreeze: a process that stood still while its new permit was granted
// takes yet another one.
func TestSpendAfterFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		var b *Bucket
		var stop context.CancelFunc
		b, stop = started(NewLocal(1000), func(waited time.Duration, rate float64) {
			g.note(waited, rate)
			if len(g.times()) == 2 {
				b.unspent[0].until = time.Now().Add(-time.Second)
			}
		})
		defer stop()
		p, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pass(t, time.Second)
		if err := p.Spend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := g.times(); len(at) != 3 {
			t.Errorf("granted at %v: the second had expired too", at)
		}
		p.Done()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.unspent) != 0 {
			t.Errorf("%d permits are unspent", len(b.unspent))
		}
	})
}

func TestSpendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := NewBucket(Config{Lessor: NewLocal(1000), Granted: func(time.Duration, float64) {}})
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
		b, stop := started(NewLocal(1000), func(time.Duration, float64) {})
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
		b, stop := started(NewLocal(1000), g.note)
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
			if n := g.within(at, leastLife); n > maxUnspent {
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
		b, stop := started(NewLocal(1000), func(time.Duration, float64) {})
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
			b := NewBucket(Config{Lessor: NewLocal(1), Granted: func(time.Duration, float64) {}})
			ended := make(chan struct{})
			go func() { defer close(ended); b.Run(ctx) }()
			waiters, leave := context.WithCancel(t.Context())
			all := workers(waiters, b, demand)
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
