package main

import (
	"github.com/nats-io/nats.go"

	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/delivery"
)

// ready is what /readyz shows. It asks nobody.
func (d *daemon) ready() []console.Check {
	d.mu.Lock()
	opening, f, b := d.opening, d.fleet, d.broker
	d.mu.Unlock()
	checks := []console.Check{{Name: "streams", OK: opening == "", Detail: opening}}
	connected := b != nil && b.conn.Status() == nats.CONNECTED
	checks = append(checks, console.Check{Name: "nats", OK: connected, Detail: detail(!connected, "not connected")})
	owned := f != nil && f.isReady()
	checks = append(checks, console.Check{Name: "ledger", OK: owned, Detail: detail(!owned, "partitions are being taken")})
	checks = append(checks, console.Check{Name: "clock", OK: true, Detail: d.clock.status()})
	state, reason := d.gate.Status()
	return append(checks, console.Check{Name: "breaker", OK: state != delivery.StateHalted, Detail: describeState(state, reason)})
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
