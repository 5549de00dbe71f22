package main

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/replay"
)

const (
	// expiresSoon is how long before Stripe refuses a dead letter's event it is told.
	expiresSoon = 24 * time.Hour

	// lettersAStep bounds what one step reads, one call each: at a step every 5 s it is 40 a
	// second, so that 100,000 letters are gone through in 42 minutes, little beside a day.
	lettersAStep = 200
)

// nextLetter reads one dead letter after the other.
type nextLetter interface {
	Next(ctx context.Context, from uint64) (replay.Letter, error)
}

// expiring counts the units of the dead letters whose time ends within a day. It goes
// through them again and again, a step at a time, and tells when it has seen them all.
type expiring struct {
	open    func(context.Context) (nextLetter, error)
	metrics *metrics.Set

	letters nextLetter
	next    uint64
	units   map[string]float64 // of this pass so far
	told    bool
}

// step reads on. One worker speaks for the fleet; where it is not this one, nothing is told.
func (e *expiring) step(ctx context.Context, mine bool, now time.Time) error {
	if !mine {
		e.hush()
		return nil
	}
	if e.letters == nil {
		letters, err := e.open(ctx)
		if err != nil {
			return err
		}
		e.letters, e.units = letters, map[string]float64{}
	}
	for range lettersAStep {
		letter, err := e.letters.Next(ctx, e.next)
		if errors.Is(err, replay.ErrNotFound) {
			e.tell()
			return nil
		}
		if err != nil {
			e.letters, e.next = nil, 0 // begin again, also where the stream was made anew
			return err
		}
		e.next = letter.ID + 1
		if left := letter.ExpiresAt().Sub(now); left > 0 && left <= expiresSoon {
			e.units[letter.EventName()] += unitsOf(letter)
		}
	}
	return nil
}

// unitsOf is the magnitude of the value, 0 where it is none: such a letter must be mended
// first, and what it is worth nobody knows.
func unitsOf(letter replay.Letter) float64 {
	value, err := strconv.ParseInt(letter.Value(), 10, 64)
	if err != nil {
		return 0
	}
	return math.Abs(float64(value))
}

// tell publishes the pass that has come to its end, and begins the next.
func (e *expiring) tell() {
	e.metrics.Expiring(e.units)
	e.next, e.units, e.told = 0, map[string]float64{}, true
}

func (e *expiring) hush() {
	if e.told {
		e.metrics.Expiring(nil)
	}
	e.letters, e.next, e.units, e.told = nil, 0, nil, false
}
