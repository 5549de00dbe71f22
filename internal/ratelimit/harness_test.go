package ratelimit

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"
)

// grants records when permits were granted. It is only used in a bubble.
type grants struct {
	mu sync.Mutex
	at []time.Time
}

func (g *grants) note(time.Duration, float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = append(g.at, time.Now())
}

func (g *grants) times() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]time.Time(nil), g.at...)
}

// within is how many were granted in [from, from+d).
func (g *grants) within(from time.Time, d time.Duration) int {
	n := 0
	for _, at := range g.times() {
		if !at.Before(from) && at.Before(from.Add(d)) {
			n++
		}
	}
	return n
}

// busiest is the largest number in any window of the length.
func busiest(at []time.Time, window time.Duration) int {
	most, from := 0, 0
	for to := range at {
		for at[to].Sub(at[from]) > window {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// bound is the most that may be granted in any window.
func bound(perSecond float64, window time.Duration) int {
	return int(math.Floor(perSecond*Margin*window.Seconds()+1e-6)) + burst(perSecond)
}

// within a bubble: start a bucket that stops with the test's function.
func started(lessor Lessor, granted func(time.Duration, float64)) (*Bucket, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	b := NewBucket(Config{Lessor: lessor, Granted: granted})
	go b.Run(ctx)
	return b, cancel
}

// workers take, spend and finish permits as fast as they get them, until ctx ends.
func workers(ctx context.Context, b *Bucket, n int) *sync.WaitGroup {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for {
				p, err := b.Take(ctx)
				if err != nil {
					return
				}
				_ = p.Spend(ctx) // only the ended context refuses
				p.Done()
			}
		})
	}
	return &all
}

func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d) // virtual
	<-timer.C
}
