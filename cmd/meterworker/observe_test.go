package main

import (
	"testing"

	"github.com/meterworker/meterworker/internal/delivery"
)

// TestReadyBacklog: what Stripe keeps back is no reason for more workers.
func TestReadyBacklog(t *testing.T) {
	for name, c := range map[string]struct {
		rate float64 // in force, of 1,000
		hold string
		want int
	}{
		"all is well":               {1000, "", 7},
		"a few 429s":                {950, "", 7},
		"throttled":                 {500, "", 0},
		"halted":                    {1000, delivery.StateHalted, 0},
		"paused":                    {1000, delivery.StatePaused, 0},
		"both throttled and paused": {500, delivery.StatePaused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{cfg: Config{Rate: 1000}, gate: delivery.NewGate(func(string, string) {}, func() float64 { return 0.5 })}
			d.fleet = &fleet{rate: func() float64 { return c.rate }}
			if c.hold != "" {
				d.gate.Hold("test", c.hold, "")
			}
			if got := d.readyBacklog(7); got != c.want {
				t.Errorf("%d of 7 are ready, want %d", got, c.want)
			}
		})
	}
}
