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
	const h, m = time.Hour, time.Minute
	tests := []struct {
		name    string
		answers []time.Duration // how far our clock is ahead, by each of them
		counted time.Duration   // how much older earlier attempts are taken for in the end
		warned  int
		detail  string
	}{
		{"the same", []time.Duration{0, 500 * time.Millisecond, -500 * time.Millisecond}, 0, 0, ""},
		{"a minute", []time.Duration{m, -m}, 0, 0, ""},
		{"ahead", []time.Duration{2 * m, 2 * m}, 0, 1, "ahead of Stripe's"},
		{"behind", []time.Duration{-2 * m, -2 * m}, 0, 1, "behind Stripe's"},
		{"around the limit", []time.Duration{62 * time.Second, 58 * time.Second, 62 * time.Second}, 0, 1, "ahead"},
		{"mended", []time.Duration{2 * m, 10 * time.Second}, 0, 1, ""},
		{"again", []time.Duration{2 * m, 10 * time.Second, 2 * m}, 0, 2, "ahead"},
		{"hours ahead endanger nothing", []time.Duration{3 * h, 3 * h, 3 * h, 3 * h}, 0, 1, "2h59m59s ahead"},
		{"hours behind, from the first answer", []time.Duration{-3 * h}, 3 * h, 1, "3h0m0s behind"},
		{"two strange answers later", []time.Duration{0, -3 * h, -3 * h, 0}, 0, 1, ""},
		{"three later", []time.Duration{0, -3 * h, -3 * h, -3 * h}, 3 * h, 1, "behind"},
		{"not three in a row", []time.Duration{0, -3 * h, -3 * h, 0, -3 * h}, 0, 2, "behind"},
		{"half an hour", []time.Duration{-30 * m, 30 * m}, 0, 1, "ahead"},
		{"it has become more", []time.Duration{-3 * h, -3 * h, -8 * h, -8 * h, -8 * h}, 8 * h, 1, "behind"},
		{"less, but still much", []time.Duration{-3 * h, -20 * m, -20 * m, -20 * m}, 3 * h, 1, "behind"},
		{"set right", []time.Duration{-3 * h, 0}, 0, 1, ""},
		{"no date", []time.Duration{noDate, noDate, noDate}, 0, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stripe, logs := watchClock()
				for _, ahead := range tt.answers {
					stripe.ahead = ahead
					c.Send(t.Context(), delivery.Attempt{})
				}
				if c.counted != tt.counted {
					t.Errorf("attempts are taken for %s older, want %s", c.counted, tt.counted)
				}
				if detail := c.status(); !strings.Contains(detail, tt.detail) || tt.detail == "" && detail != "" {
					t.Errorf("status %q, want %q", detail, tt.detail)
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
	return &clockWatch{Sender: stripe, counts: &delivery.Skew{}, log: zap.New(core)}, stripe, logs
}

// The Date of a proxy's answer says nothing.
func TestClockOfAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stripe, logs := watchClock()
		*stripe = dated{ahead: -5 * time.Hour}
		c.Send(t.Context(), delivery.Attempt{})
		if c.counted != 0 || logs.Len() > 0 {
			t.Errorf("%s counted, %d lines", c.counted, logs.Len())
		}
	})
}
