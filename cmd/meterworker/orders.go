package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

// pauseHold is the name under which the gate is held while the fleet is paused.
const pauseHold = "pause"

// orders follows what people have told the fleet, and what the other workers find out
// about Stripe.
type orders struct {
	open func(context.Context) (jetstream.KeyValue, error)
	gate *delivery.Gate
	log  *zap.Logger

	kv      jetstream.KeyValue
	known   bool // the orders have been read once: before that nothing is pulled
	resumed int
	others  map[string]string // states of the other workers at the last look
}

// follow reads the orders and obeys them. While they cannot be read, the last ones
// hold.
func (o *orders) follow(ctx context.Context) error {
	if o.kv == nil {
		kv, err := o.open(ctx)
		if err != nil {
			return err
		}
		o.kv = kv
	}
	now, err := outbox.ReadOrders(ctx, o.kv)
	if err != nil {
		return err
	}
	if now.Paused {
		o.gate.Hold(pauseHold, delivery.StatePaused, pausedBy(now))
	} else {
		o.gate.Lift(pauseHold)
	}
	if o.known && now.Resumed != o.resumed {
		o.log.Info("told to resume", zap.String("by", now.By), zap.String("why", now.Why))
		o.gate.Resume()
	}
	o.known, o.resumed = true, now.Resumed
	return nil
}

func pausedBy(o outbox.Orders) string {
	text := fmt.Sprintf("by %s at %s; `meterworker resume` ends it", o.By, o.At.UTC().Format("2006-01-02 15:04:05Z"))
	if o.Why != "" {
		text += "; why: " + o.Why
	}
	return text
}

// hear tells the gate when another worker has found Stripe to be back.
func (o *orders) hear(others map[string]string) {
	for name, state := range others {
		before := o.others[name]
		wasDown := before == delivery.StateOpen || before == delivery.StateHalfOpen
		if wasDown && (state == delivery.StateRamp || state == delivery.StateClosed) {
			o.gate.Recovered()
		}
	}
	o.others = others
}
