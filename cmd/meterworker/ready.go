package main

import (
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/delivery"
)

// ready is what /readyz shows. It asks nobody.
func (d *daemon) ready() []console.Check {
	d.mu.Lock()
	opening, f, b := d.opening, d.fleet, d.broker
	d.mu.Unlock()
	checks := []console.Check{{Name: "streams", OK: opening == "", Detail: opening}}
	wrong := trouble(b, f)
	checks = append(checks, console.Check{Name: "nats", OK: wrong == "", Detail: wrong})
	owned := f != nil && f.isReady()
	checks = append(checks, console.Check{Name: "ledger", OK: owned, Detail: detail(!owned, "partitions are being taken")})
	checks = append(checks, console.Check{Name: "clock", OK: true, Detail: d.clock.status()})
	state, reason := d.gate.Status()
	return append(checks, console.Check{Name: "breaker", OK: state != delivery.StateHalted, Detail: describeState(state, reason)})
}

// trouble is why nothing can be stored or read, "" while it can: a cluster without a quorum
// answers, and does neither.
func trouble(b *broker, f *fleet) string {
	if b == nil {
		return "not connected"
	}
	if text := b.trouble(); text != "" || f == nil {
		return text
	}
	if err := f.guard.unreachable(); err != nil {
		return "JetStream is out of reach " + err.Error()
	}
	return ""
}

func describeState(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + ": " + reason
}

func detail(wrong bool, text string) string {
	if wrong {
		return text
	}
	return ""
}
