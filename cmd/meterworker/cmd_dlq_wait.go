package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/replay"
)

// patience is how long to wait for what becomes of the replays.
func (c *DLQReplayCmd) patience(p *process) time.Duration {
	switch {
	case c.DryRun:
		return 0
	case c.Wait != nil:
		return *c.Wait
	case p.Terminal && isTerminal(p.Out):
		return terminalWait
	default:
		return 0
	}
}

// watch has the run's replays watched; ends waits for what becomes of them.
func (c *DLQReplayCmd) watch(ctx context.Context, p *process, letters *replay.Letters, run *letterRun) (ends func(context.Context) error, err error) {
	patience := c.patience(p)
	if patience == 0 {
		return func(context.Context) error { return nil }, nil
	}
	watch, err := letters.Watch(ctx)
	if err != nil {
		return nil, err
	}
	write := run.deed.each
	var failed error // a replay that cannot be watched was made all the same
	run.deed.each = func(r replay.Result) error {
		if r.Outcome == replay.Replayed && ctx.Err() == nil {
			failed = errors.Join(failed, watch.Add(ctx, r))
		}
		return write(r)
	}
	return func(ctx context.Context) error {
		if over(ctx) { // the run has said so
			return nil
		}
		return worse(failed, c.await(ctx, p, watch, patience))
	}, nil
}

// worse joins two ends of a command; one that has been told already does not silence the
// other.
func worse(a, b error) error {
	if _, told := errors.AsType[*silentError](a); told && b != nil {
		return b
	}
	if _, told := errors.AsType[*silentError](b); told && a != nil {
		return a
	}
	return errors.Join(a, b)
}

// await prints what becomes of each replay, as soon as it is known.
func (c *DLQReplayCmd) await(ctx context.Context, p *process, watch *replay.Watch, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	counts := map[replay.Ending]int{}
	for watch.Left() > 0 && waiting.Err() == nil {
		fates, err := watch.Look(waiting)
		if err := errors.Join(c.writeFates(p, fates, counts), unlessOver(waiting, err)); err != nil {
			return err
		}
		if watch.Left() == 0 {
			break
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
		}
	}
	if err := c.writeFates(p, watch.Rest(), counts); err != nil {
		return err
	}
	if counts[replay.Delivered]+counts[replay.DiedAgain]+counts[replay.Waiting] > 0 {
		_, _ = fmt.Fprintf(p.Err, "meterworker: delivered %d, died again %d, still waiting %d\n",
			counts[replay.Delivered], counts[replay.DiedAgain], counts[replay.Waiting])
	}
	if counts[replay.DiedAgain] > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

func over(ctx context.Context) bool { return ctx.Err() != nil }

// unlessOver leaves out what is only the end of the waiting.
func unlessOver(ctx context.Context, err error) error {
	if over(ctx) {
		return nil
	}
	return err
}

// fateObject is what became of one replay, for programs; every field is always there.
type fateObject struct {
	ID         uint64 `json:"id"`
	Result     string `json:"result"` // delivered, died_again or waiting
	Identifier string `json:"identifier"`
	Sequence   uint64 `json:"sequence"`
	Letter     uint64 `json:"letter"` // the new dead letter; 0: none
	Reason     string `json:"reason"` // its reason
}

func (c *DLQReplayCmd) writeFates(p *process, fates []replay.Fate, counts map[replay.Ending]int) error {
	slices.SortFunc(fates, func(a, b replay.Fate) int { return int(int64(a.ID) - int64(b.ID)) })
	for _, f := range fates {
		counts[f.Ending]++
		var err error
		if c.Output == "json" {
			err = writeJSONLine(p.Out, fateObject{f.ID, string(f.Ending), f.Identifier, f.Sequence, f.Letter, string(f.Reason)})
		} else {
			_, err = fmt.Fprintf(p.Out, "%d: %s\n", f.ID, fateText(f))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func fateText(f replay.Fate) string {
	switch f.Ending {
	case replay.DiedAgain:
		return fmt.Sprintf("died again as %d (%s)", f.Letter, escapeText(string(f.Reason)))
	case replay.Waiting:
		return "still waiting"
	case replay.Delivered:
	}
	return "delivered"
}
