package delivery

import (
	"context"
	"sync"
	"time"
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

// gather is how long a pull waits for more places than one. Three quarters of the
// places are held then, several seconds' worth of work, so that nothing runs dry; and a
// pull for each single place cost the worker and the server more than the message did.
const gather = 250 * time.Millisecond

// free waits until there is a place and returns how many there are. While most are
// held it waits for a quarter of them, though not for long.
func (p *places) free(ctx context.Context) (int, error) {
	var patience <-chan time.Time
	for hasty := false; ; {
		n := p.now()
		if n > 0 && (hasty || n >= p.limit()/4) {
			return n, ctx.Err()
		}
		if n > 0 && patience == nil {
			timer := time.NewTimer(gather)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-p.freed:
		case <-patience:
			hasty = true
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
