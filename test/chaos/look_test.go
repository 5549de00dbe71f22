//go:build chaos

package chaos

import (
	"fmt"
	"strings"

	"github.com/meterworker/meterworker/internal/simulator"
)

// units are those billed, by meter.
func units(books simulator.Books) map[string]int64 {
	sums := map[string]int64{}
	for _, e := range books.Events {
		sums[e.EventName] += e.Units
	}
	return sums
}

func (b *broker) restart() {
	b.t.Helper()
	b.kill()
	b.start()
}

// seen is every overlap so far.
func (s *stripe) seen() []overlap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]overlap{}, s.overlaps...)
}

// metric is one sample of /metrics, by its full name with labels; 0 if absent.
func (p *worker) metric(sample string) float64 {
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		var value float64
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == sample {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				p.world.t.Errorf("metric line %q: %v", line, err)
			}
			return value
		}
	}
	return 0
}
