package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	demoLiveEvery  = 200 * time.Millisecond // a line that is rewritten
	demoPlainEvery = 2 * time.Second        // a line of its own
)

// demoScreen shows progress: one line, rewritten, where it is live; else a new
// line each time. The log goes through it, so that neither spoils the other.
type demoScreen struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	shown bool
}

// Write implements io.Writer for the log.
func (s *demoScreen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.out.Write(lines)
}

func (s *demoScreen) every() time.Duration {
	if s.live {
		return demoLiveEvery
	}
	return demoPlainEvery
}

func (s *demoScreen) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	if s.shown = s.live; !s.live {
		text += "\n"
	}
	_, _ = io.WriteString(s.out, text) // progress that nobody can read is no failure
}

// end writes the last line and leaves it there.
func (s *demoScreen) end(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	_, _ = io.WriteString(s.out, text+"\n\n")
}

func (s *demoScreen) clear() {
	if s.shown {
		_, _ = io.WriteString(s.out, "\r\x1b[K")
		s.shown = false
	}
}

// demoCounts is how far the traffic has come, by the workers' own counters.
type demoCounts struct{ delivered, duplicates, dead int }

func (c demoCounts) settled() int { return c.delivered + c.duplicates + c.dead }

func (d *demo) counts() (c demoCounts) {
	into := map[string]*int{"delivered": &c.delivered, "duplicate": &c.duplicates, "dead": &c.dead}
	for _, worker := range d.stage.daemons {
		families, err := worker.metrics.Registry.Gather()
		if err != nil {
			continue // the next look may succeed
		}
		for _, family := range families {
			if family.GetName() != "meterworker_settled_total" {
				continue
			}
			for _, sample := range family.GetMetric() {
				if count := into[sample.GetLabel()[0].GetValue()]; count != nil {
					*count += int(sample.GetCounter().GetValue())
				}
			}
		}
	}
	return c
}

// watch shows the progress until ctx ends.
func (d *demo) watch(ctx context.Context) {
	ticker := time.NewTicker(d.screen.every())
	defer ticker.Stop()
	pace := demoPace{at: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			rate := pace.note(now, d.stage.stripe.Totals().Requests)
			if text := d.line(); rate == 0 {
				d.screen.show(text)
			} else {
				d.screen.show(text + fmt.Sprintf("   %s/s", thousands(rate)))
			}
		}
	}
}

func (d *demo) line() string {
	published := int(d.published.Load())
	if published == 0 {
		return fmt.Sprintf("starting (workers: %d)", d.command.Replicas)
	}
	c := d.counts()
	return fmt.Sprintf("published %s   delivered %s   duplicates %s   dead %s",
		thousands(published), thousands(c.delivered), thousands(c.duplicates), thousands(c.dead))
}

// demoPace is the number of requests a second over the last second.
type demoPace struct {
	at       time.Time
	requests int64
	rate     int
}

func (p *demoPace) note(now time.Time, requests int64) int {
	if past := now.Sub(p.at); past >= time.Second {
		p.rate = int(float64(requests-p.requests)/past.Seconds() + 0.5)
		p.at, p.requests = now, requests
	}
	return p.rate
}
