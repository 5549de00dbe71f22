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
// that disagree: half of it is where they are reckoned with. Each limit is left at half
// of it, so that a clock at the limit does not flutter.
const (
	skewWarned  = time.Minute
	skewCounted = 30 * time.Minute

	// skewAnswers in a row must show the fault, since one may be a cache's; but the first
	// answer of a life is enough: a clock that was set while the worker was down makes
	// old attempts look young, and each further request might bill one of them again.
	skewAnswers = 3
)

// clockWatch compares our wall clock with the Date of Stripe's answers. It warns, and
// where Stripe's is far ahead, earlier attempts are taken for as much older: see
// [delivery.Skew]. Stripe's being behind endangers nothing.
//
//	right ── over 1 min ──▶ warned ── over 30 min, the first answer or three in a row ──▶ counted
//	  ▲                       │                                                              │
//	  └──── below 30 s ───────┘◀────────────────────── below 15 min ─────────────────────────┘
type clockWatch struct {
	delivery.Sender

	counts *delivery.Skew
	log    *zap.Logger

	mu      sync.Mutex
	skew    time.Duration // ours minus Stripe's, at the last answer; 0: within what can be seen
	warned  bool
	faults  int // answers in a row beyond the limit
	seen    bool
	counted time.Duration // what is reckoned with; 0: nothing
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
	c.skew = skewOf(began, received, date)
	c.judge(c.skew)
	first := !c.seen
	c.seen = true
	// What is reckoned with already is no fault, unless it has changed.
	if parted := (c.skew + c.counted).Abs(); c.counted != 0 && parted <= skewWarned || c.skew.Abs() <= skewCounted {
		c.faults = 0
		if c.counted != 0 && c.skew.Abs() < skewCounted/2 {
			c.count(0, received)
		}
		return
	}
	if c.faults++; first || c.faults >= skewAnswers {
		c.faults = 0
		c.count(max(-c.skew, 0), received)
	}
}

// count has attempts from before now taken for so much older. c.mu is held.
func (c *clockWatch) count(ahead time.Duration, now time.Time) {
	if ahead == c.counted {
		return
	}
	c.counted = ahead
	c.counts.Set(ahead, now)
	if ahead > 0 {
		c.log.Error("Stripe's clock is far ahead of this machine's: earlier attempts are taken for as much older, and those that Stripe may have counted become ambiguous; set this machine's clock",
			zap.Duration("ahead_by", ahead))
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

// status is for /readyz: what is to be known of the clock, "" for nothing.
func (c *clockWatch) status() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.warned {
		return ""
	}
	return describeSkew(c.skew)
}

func describeSkew(skew time.Duration) string {
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	return fmt.Sprintf("this machine's clock is at least %s %s Stripe's; set it", skew.Abs().Round(time.Second), word)
}
