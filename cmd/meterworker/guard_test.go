package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/natstest"
	"github.com/meterworker/meterworker/internal/outbox"
)

// guarded is a guard over the streams of a server; store adds messages to USAGE.
func guarded(t *testing.T) (g *guard, store func(n int)) {
	t.Helper()
	js := natstest.Start(t).Connect()
	streams, err := outbox.Open(t.Context(), js, outbox.Settings{Mode: "test", Partitions: 1, Replicas: 1, Manage: true, AckWait: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g = &guard{
		continuity: streams.Continuity(), gate: delivery.NewGate(func(string, string) {}, func() float64 { return 0 }), log: zap.NewNop(),
		reconnects: func() uint64 { return 0 }, stop: func() {},
	}
	return g, func(n int) {
		for range n {
			if _, err := js.Publish(context.Background(), "usage.events.a.b", []byte("x")); err != nil {
				t.Error(err)
			}
		}
	}
}

// An outbox that ends below what the journal mentions is looked at again before the worker
// ends over it: a server that has just become leader may have lagged. One that stays behind
// halts.
func TestHolds(t *testing.T) {
	g, store := guarded(t)
	store(3)
	if err := g.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.holds(t.Context(), 3); err != nil {
		t.Errorf("all that the journal mentions is there: %v", err)
	}
	lags := true
	g.reconnects = func() uint64 { // asked at the beginning of each look
		if lags {
			lags = false
			store(2)
		}
		return 0
	}
	if err := g.holds(t.Context(), 5); err != nil || lags {
		t.Errorf("it has caught up (%v), and the worker would end: %v", !lags, err)
	}
	if err := g.holds(t.Context(), 9); !errors.Is(err, journal.ErrBroken) || !strings.Contains(g.halted(), "stream USAGE") {
		t.Errorf("4 messages are missing: %v; halted: %q", err, g.halted())
	}
}

// A worker is ready through the election of a leader, and not when the streams stay out of
// reach.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guard{}
		g.answered(nil)
		silence := errors.New("stream USAGE has no leader at present")
		for waited := time.Duration(0); waited < silentAfter; waited += time.Second {
			g.answered(silence)
			if err := g.unreachable(); err != nil {
				t.Fatalf("after %s: %v", waited, err)
			}
			<-time.NewTimer(time.Second).C
		}
		if err := g.unreachable(); !errors.Is(err, silence) || !strings.Contains(err.Error(), "for 15s") {
			t.Errorf("after %s: %v", silentAfter, err)
		}
		g.answered(nil)
		if err := g.unreachable(); err != nil {
			t.Errorf("they answer again: %v", err)
		}
		g.answered(silence)
		if err := g.unreachable(); err != nil {
			t.Errorf("a new silence has just begun: %v", err)
		}
	})
}
