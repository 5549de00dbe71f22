package delivery

import (
	"context"
	"sync"
)

// places bounds the messages of one partition that are in this worker's hands. A
// message that waits for a retry gives its place back, up to as many as there
// are places, so that a few slow customers do not stop the pulling and memory
// stays within twice the limit.
type places struct {
	limit func() int

	mu     sync.Mutex
	held   int
	parked int
	freed  chan struct{} // capacity 1
}

func newPlaces(limit func() int) *places {
	return &places{limit: limit, freed: make(chan struct{}, 1)}
}

// free waits until there is a place and returns how many there are.
func (p *places) free(ctx context.Context) (int, error) {
	for {
		if n := p.now(); n > 0 {
			return n, ctx.Err()
		}
		select {
		case <-p.freed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (p *places) now() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit() - (p.held - p.parked)
}

func (p *places) take() { p.add(1, 0) }
func (p *places) give() { p.add(-1, 0) }

// park gives the place back during a wait; it reports whether it did, and then
// unpark must follow.
func (p *places) park() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked >= p.limit() {
		return false
	}
	p.parked++
	p.signal()
	return true
}

func (p *places) unpark() { p.add(0, -1) }

func (p *places) add(held, parked int) {
	p.mu.Lock()
	p.held += held
	p.parked += parked
	p.mu.Unlock()
	p.signal()
}

func (p *places) signal() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}
