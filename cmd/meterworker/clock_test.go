package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/meterworker/meterworker/internal/delivery"
)

// dated answers with a Date that is so far from our clock.
type dated struct {
	ahead time.Duration // of us
	id    string
}

// Send implements delivery.Sender.
func (d *dated) Send(context.Context, delivery.Attempt) delivery.Answer {
	answer := delivery.Answer{Class: delivery.Accepted, RequestID: d.id, Date: time.Now().Add(-d.ahead).Truncate(time.Second)}
	if d.ahead == noDate {
		answer.Date = time.Time{}
	}
	return answer
}

const noDate = 1<<63 - 1

func TestClockOfStripe(t *testing.T) {
	tests := []struct {
		name    string
		answers []time.Duration // how far our clock is ahead, by each of them
		halted  bool
		warned  int
		detail  string
	}{
		{"the same", []time.Duration{0, 500 * time.Millisecond, -500 * time.Millisecond}, false, 0, ""},
		{"a minute", []time.Duration{time.Minute, -time.Minute}, false, 0, ""},
		{"ahead", []time.Duration{2 * time.Minute, 2 * time.Minute}, false, 1, "ahead of Stripe's"},
		{"behind", []time.Duration{-2 * time.Minute, -2 * time.Minute}, false, 1, "behind Stripe's"},
		{"around the limit", []time.Duration{62 * time.Second, 58 * time.Second, 62 * time.Second}, false, 1, "ahead"},
		{"mended", []time.Duration{2 * time.Minute, 10 * time.Second}, false, 1, ""},
		{"again", []time.Duration{2 * time.Minute, 10 * time.Second, 2 * time.Minute}, false, 2, "ahead"},
		{"hours ahead, from the first answer", []time.Duration{3 * time.Hour}, true, 1, "2h59m59s ahead"},
		{"hours behind, from the first answer", []time.Duration{-3 * time.Hour}, true, 1, "3h0m0s behind"},
		{"two strange answers later", []time.Duration{0, 3 * time.Hour, 3 * time.Hour, 0}, false, 1, ""},
		{"three later", []time.Duration{0, 3 * time.Hour, 3 * time.Hour, 3 * time.Hour}, true, 1, "ahead"},
		{"not three in a row", []time.Duration{0, 3 * time.Hour, 3 * time.Hour, 0, 3 * time.Hour}, false, 2, "ahead"},
		{"half an hour", []time.Duration{30 * time.Minute, -30 * time.Minute}, false, 1, "behind"},
		{"no date", []time.Duration{noDate, noDate, noDate}, false, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stripe, logs := watchClock()
				for _, ahead := range tt.answers {
					stripe.ahead = ahead
					c.Send(t.Context(), delivery.Attempt{})
				}
				state, reason := c.gate.Status()
				if halted := state == delivery.StateHalted; halted != tt.halted || halted && !strings.Contains(reason, "set this machine's clock") {
					t.Errorf("%s (%s), want halted: %v", state, reason, tt.halted)
				}
				ok, detail := c.status()
				if ok == tt.halted || !strings.Contains(detail, tt.detail) || tt.detail == "" && detail != "" {
					t.Errorf("status %v %q, want %q", ok, detail, tt.detail)
				}
				if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != tt.warned {
					t.Errorf("%d warnings, want %d", n, tt.warned)
				}
			})
		})
	}
}

func watchClock() (*clockWatch, *dated, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	stripe := &dated{id: "req_1"}
	gate := delivery.NewGate(func(string, string) {}, func() float64 { return 0 })
	return &clockWatch{Sender: stripe, gate: gate, log: zap.New(core)}, stripe, logs
}

// The Date of a proxy's answer says nothing.
func TestClockOfAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stripe, logs := watchClock()
		*stripe = dated{ahead: 5 * time.Hour}
		c.Send(t.Context(), delivery.Attempt{})
		if state, _ := c.gate.Status(); state != delivery.StateClosed || logs.Len() > 0 {
			t.Errorf("%s, %d lines", state, logs.Len())
		}
	})
}

// While halted no answer comes: the worker goes on by itself once its clock was set.
func TestClockIsSet(t *testing.T) {
	for name, row := range map[string]struct {
		ahead, set time.Duration
		goesOn     bool
	}{
		"set right":          {3 * time.Hour, -3 * time.Hour, true},
		"set nearly right":   {3 * time.Hour, -3*time.Hour + 14*time.Minute, true},
		"not far enough":     {3 * time.Hour, -2 * time.Hour, false},
		"too far":            {3 * time.Hour, -4 * time.Hour, false},
		"the wrong way":      {3 * time.Hour, 3 * time.Hour, false},
		"not set":            {-3 * time.Hour, 0, false},
		"was behind":         {-3 * time.Hour, 3 * time.Hour, true},
		"within the flutter": {31 * time.Minute, -10 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stripe, _ := watchClock()
				stripe.ahead = row.ahead
				c.Send(t.Context(), delivery.Attempt{})
				<-time.After(time.Hour) // in the bubble both clocks go on alike
				c.tick(time.Now())
				if state, _ := c.gate.Status(); state != delivery.StateHalted {
					t.Fatalf("%s by the mere passing of time", state)
				}
				c.wasSet(row.set)
				if state, _ := c.gate.Status(); state == delivery.StateHalted == row.goesOn {
					t.Errorf("%s, want to go on: %v", state, row.goesOn)
				}
			})
		})
	}
}
