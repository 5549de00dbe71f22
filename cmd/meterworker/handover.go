package main

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// handOverEvery is how often a worker looks whether a partition that it waits for has been
// given up: nobody serves it in between.
const handOverEvery = 200 * time.Millisecond

// handOver has partitions change hands until it is time for the next beat: the others are
// told at once what was given up, and what they give up is claimed soon.
func (f *fleet) handOver(stop context.Context, until time.Time, waiting bool) {
	for left := time.Until(until); left > 0 && stop.Err() == nil; left = time.Until(until) {
		if waiting {
			left = min(left, handOverEvery)
		}
		timer := time.NewTimer(left)
		select {
		case <-stop.Done():
		case <-f.given:
			f.note(f.members.Tell(stop))
			waiting = f.rebalance(stop)
		case <-timer.C:
			if waiting {
				f.note(f.members.Look(stop))
				waiting = f.rebalance(stop)
			}
		}
		timer.Stop()
	}
}

// note logs what the next beat will try again.
func (f *fleet) note(err error) {
	if err != nil {
		f.log.Debug("members cannot be read or told", zap.Error(err))
	}
}

// leave waits for everything that is in hand, and has each partition taken over as soon as
// it is given up.
func (f *fleet) leave() {
	ended := make(chan struct{})
	go func() {
		f.serving.Wait()
		close(ended)
	}()
	f.members.Retire()
	for {
		f.tell()
		select {
		case <-f.given:
		case <-ended:
			return
		}
	}
}

// tell does not hold a drain up while NATS is out of reach.
func (f *fleet) tell() {
	ctx, cancel := context.WithTimeout(f.cut, time.Second)
	defer cancel()
	f.note(f.members.Tell(ctx))
}

// tellSoon has the others told that a partition was given up.
func (f *fleet) tellSoon() {
	select {
	case f.given <- struct{}{}:
	default:
	}
}
