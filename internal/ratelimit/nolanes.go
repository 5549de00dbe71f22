package ratelimit

import (
	"sync"
	"time"
)

// maxIdle is how many goroutines of [NoLanes] wait for more work.
const maxIdle = 1024

// NoLanes runs all work beside each other, for where Stripe takes as many calls for a
// customer and meter as come. It is used as [Lanes] is. Goroutines that have done their work
// take more: their stacks have grown to what it takes, which costs as much as parsing does.
type NoLanes struct {
	mu      sync.Mutex
	idle    []chan func() // the latest last
	ended   bool
	running sync.WaitGroup
}

// Offer runs the work at once.
func (l *NoLanes) Offer(_ string, work func()) (again time.Duration, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := len(l.idle) - 1; last >= 0 {
		l.idle[last] <- work
		l.idle = l.idle[:last]
		return 0, true
	}
	l.running.Go(func() { l.run(work) })
	return 0, true
}

// Wait returns when nothing runs any more. Nothing may be offered meanwhile.
func (l *NoLanes) Wait() {
	l.mu.Lock()
	l.ended = true
	for _, waiting := range l.idle {
		close(waiting)
	}
	l.idle = nil
	l.mu.Unlock()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = false
}

func (l *NoLanes) run(work func()) {
	more := make(chan func(), 1)
	for again := true; again; work, again = <-more {
		work()
		if !l.rest(more) {
			return
		}
	}
}

// rest reports whether more work may come.
func (l *NoLanes) rest(more chan func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.idle) >= maxIdle {
		return false
	}
	l.idle = append(l.idle, more)
	return true
}
