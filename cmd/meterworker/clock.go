package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
)

// How far our wall clock may be from Stripe's. The safe window leaves an hour for clocks
// that disagree; half of it is where ages are no longer trusted. Each limit is left
// at half of it, so that a clock at the limit does not flutter.
const (
	skewWarned = time.Minute
	skewHalted = 30 * time.Minute

	// skewAnswers in a row must show the fault, since one may be a cache's; but the first
	// answer of a life is enough: a clock that was set while the worker was down makes
	// old attempts look young, and each further request might bill one of them again.
	skewAnswers = 3

	clockHold = "clock"
)

// clockWatch compares our wall clock with the Date of Stripe's answers: it warns, and
// halts while ages cannot be trusted.
//
//	right ── over 1 min ──▶ warned ── over 30 min, the first answer or three in a row ──▶ halted
//	  ▲                       │                                                              │
//	  └──── below 30 s ───────┘◀──────────── the clock was set, below 15 min ────────────────┘
//
// While halted nothing is sent and no answer comes; what the clock was set by then shows
// against the monotonic clock, which setting does not touch.
type clockWatch struct {
	delivery.Sender

	gate *delivery.Gate
	log  *zap.Logger

	mu      sync.Mutex
	skew    time.Duration // ours minus Stripe's, at the last answer; 0: within what can be seen
	local   time.Time     // reading of both clocks at that answer
	warned  bool
	faults  int // answers in a row beyond the limit
	seen    bool
	stopped bool
}

// Send implements delivery.Sender.
func (c *clockWatch) Send(ctx context.Context, attempt delivery.Attempt) delivery.Answer {
	began := time.Now()
	answer := c.Sender.Send(ctx, attempt)
	if answer.RequestID != "" && !answer.Date.IsZero() { // Stripe's own, not a proxy's
		c.note(began, time.Now(), answer.Date)
	}
	return answer
}

// skewOf is the least by which our clock is ahead (positive) or behind, if the date was
// written between the two readings; it has whole seconds.
func skewOf(began, received, date time.Time) time.Duration {
	if ahead := began.Round(0).Sub(date.Add(time.Second)); ahead > 0 {
		return ahead
	}
	if behind := date.Sub(received.Round(0)); behind > 0 {
		return -behind
	}
	return 0
}

func (c *clockWatch) note(began, received, date time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew, c.local = skewOf(began, received, date), received
	c.judge(c.skew)
	first := !c.seen
	c.seen = true
	if c.skew.Abs() <= skewHalted {
		c.faults = 0
		return
	}
	if c.faults++; (first || c.faults >= skewAnswers) && !c.stopped {
		c.stopped = true
		c.gate.Hold(clockHold, delivery.StateHalted, describeSkew(c.skew)+": ages cannot be trusted; set this machine's clock, or restart the worker after it was set")
	}
}

// judge warns once each time the limit is passed. c.mu is held.
func (c *clockWatch) judge(skew time.Duration) {
	switch {
	case skew.Abs() > skewWarned && !c.warned:
		c.warned = true
		c.log.Warn("this machine's clock and Stripe's differ; set it", zap.Duration("ahead_by", skew))
	case skew.Abs() < skewWarned/2:
		c.warned = false
	}
}

// tick looks whether the clock was set while nothing is sent.
func (c *clockWatch) tick(now time.Time) {
	c.mu.Lock()
	local := c.local
	c.mu.Unlock()
	c.wasSet(now.Round(0).Sub(local.Round(0)) - now.Sub(local))
}

// wasSet takes note that the clock was set by so much since the last answer.
func (c *clockWatch) wasSet(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if skew := c.skew + by; c.stopped && skew.Abs() < skewHalted/2 {
		c.stopped, c.faults = false, 0
		c.log.Info("this machine's clock was set; going on", zap.Duration("by", by))
		c.gate.Lift(clockHold)
	}
}

// status is for /readyz: whether ages can be trusted, and what is to be known.
func (c *clockWatch) status() (ok bool, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned || c.stopped {
		text = describeSkew(c.skew)
	}
	return !c.stopped, text
}

func describeSkew(skew time.Duration) string {
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	return fmt.Sprintf("this machine's clock is at least %s %s Stripe's", skew.Abs().Round(time.Second), word)
}
