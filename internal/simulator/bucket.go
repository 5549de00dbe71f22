package simulator

import (
	"sync"
	"time"
)

// bucket is a strict token bucket: a call finds its tokens or is refused; nothing
// waits and nothing is borrowed. A negative rate never refuses.
type bucket struct {
	mu     sync.Mutex
	rate   float64 // tokens a second
	burst  float64
	tokens float64
	last   time.Time
}

func newBucket(rate float64, burst int) *bucket {
	return &bucket{rate: rate, burst: float64(burst), tokens: float64(burst)}
}

func (b *bucket) take(n float64, now time.Time) bool {
	if b.rate < 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.last = now
	}
	// Two callers may arrive here in another order than they read the clock.
	if elapsed := now.Sub(b.last); elapsed > 0 {
		b.tokens = min(b.burst, b.tokens+elapsed.Seconds()*b.rate)
		b.last = now
	}
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// arrivals finds the largest number of requests in any sliding second, exactly:
// a ring of the arrivals of the last second and a running maximum. The ring never
// holds more than that maximum.
type arrivals struct {
	mu     sync.Mutex
	ring   []int64 // Unix nanoseconds, ascending from head
	head   int
	length int
	last   int64
	peak   int
	peakAt int64
}

func (a *arrivals) note(at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = max(a.last, at)
	for a.length > 0 && a.last-a.ring[a.head] >= int64(time.Second) {
		a.head = (a.head + 1) % len(a.ring)
		a.length--
	}
	if a.length == len(a.ring) {
		a.grow()
	}
	a.ring[(a.head+a.length)%len(a.ring)] = a.last
	a.length++
	if a.length > a.peak {
		a.peak, a.peakAt = a.length, a.last
	}
}

func (a *arrivals) grow() {
	ring := make([]int64, max(64, 2*len(a.ring)))
	n := copy(ring, a.ring[a.head:])
	copy(ring[n:], a.ring[:a.head])
	a.ring, a.head = ring, 0
}

func (a *arrivals) highest() (requests int, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peak == 0 {
		return 0, time.Time{}
	}
	return a.peak, time.Unix(0, a.peakAt).UTC()
}
