package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// failuresInARow is when a replay stops: NATS is away, or the credentials lack a
// permission, and each further letter would wait for its time-out.
const failuresInARow = 3

var errFailing = fmt.Errorf("stopped after %d failures in a row", failuresInARow)

// replayRun is one run of the replay command.
type replayRun struct {
	command  *DLQReplayCmd
	process  *process
	letters  *replay.Letters
	refusal  func() error // of the server, nil while there is none
	progress *progress

	selected int // how many letters it is about
	done     int // how many it has dealt with
	row      int // failures in a row
	counts   map[replay.Outcome]int
}

// named replays letters by their ids.
func (r *replayRun) named(ctx context.Context, ids []uint64) error {
	for _, id := range ids {
		if err := r.one(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// bulk counts, asks, and replays what was counted: letters that die in between
// are left for the next time.
func (r *replayRun) bulk(ctx context.Context, filter replay.Filter) error {
	reasons := map[deadletter.Reason]int{}
	last := uint64(0)
	err := r.letters.Each(ctx, filter, func(l replay.Letter) error {
		r.selected++
		reasons[l.Reason]++
		last = l.ID
		return nil
	})
	if err != nil {
		return interruptedQuietly(ctx, err)
	}
	r.say("%d dead letters match%s", r.selected, breakdown(reasons))
	if r.selected == 0 {
		return nil
	}
	if !r.command.Yes && !r.command.DryRun {
		if err := confirm(ctx, r.process, fmt.Sprintf("Replay %d dead letters?", r.selected)); err != nil {
			return err
		}
	}
	filter.Through = last
	return r.conclude(ctx, r.letters.Each(ctx, filter, func(l replay.Letter) error { return r.one(ctx, l.ID) }))
}

func breakdown(reasons map[deadletter.Reason]int) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, fmt.Sprintf("%s %d", escapeText(string(reason)), reasons[reason]))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// one deals with one letter. An error ends the run.
func (r *replayRun) one(ctx context.Context, id uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := r.command
	allowed := replay.Permission{AcceptDoubleBilling: c.AcceptDoubleBilling, Hopeless: c.Yes || len(c.IDs) > 0}
	var result replay.Result
	if c.DryRun {
		result = r.letters.Check(ctx, id, allowed, time.Now())
	} else {
		result = r.letters.Replay(ctx, id, allowed, time.Now())
	}
	refusal := r.refusal()
	if result.Outcome == replay.Failed && refusal != nil {
		result.Detail = denied(refusal, result.Detail)
	}
	if r.done++; r.counts == nil {
		r.counts = map[replay.Outcome]int{}
	}
	r.counts[result.Outcome]++
	if r.row++; result.Outcome != replay.Failed {
		r.row = 0
	}
	if err := c.write(r.process, result); err != nil {
		return err
	}
	r.progress.show(func() string { return fmt.Sprintf("%d of %d", r.done, r.selected) })
	switch {
	case refusal != nil:
		return refusal
	case r.row >= failuresInARow:
		return errFailing
	}
	return nil
}

// denied is why a letter's replay failed. Of a publish that the server refuses nothing is
// stored; whatever else it refuses comes after that, and detail says how far it got.
func denied(refusal error, detail string) string {
	if d, ok := errors.AsType[*denial](refusal); ok && strings.HasPrefix(d.subject, "usage.replay.") {
		return d.Error()
	}
	return refusal.Error() + "; " + detail
}

// conclude says what was done and what was not. err is what ended the run early.
func (r *replayRun) conclude(ctx context.Context, err error) error {
	r.progress.clear()
	verb, n := "replayed", r.counts[replay.Replayed]
	if r.command.DryRun {
		verb, n = "dry run, nothing was changed: would replay", r.counts[replay.Possible]
	}
	r.say("%s %d, refused %d, failed %d, not found %d", verb, n, r.counts[replay.Refused], r.counts[replay.Failed], r.counts[replay.Missing])
	if left := r.selected - r.done; left > 0 && err != nil {
		r.say("not begun: %d, which wait as before", left)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		r.say("interrupted")
		return &silentError{exitFailed}
	}
	if err != nil {
		return err
	}
	// Of letters by filter, one that is gone was dealt with by somebody else.
	missing := r.counts[replay.Missing] > 0 && len(r.command.IDs) > 0
	if missing || r.counts[replay.Refused]+r.counts[replay.Failed] > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

func (r *replayRun) say(format string, values ...any) {
	_, _ = fmt.Fprintf(r.process.Err, "meterworker: "+format+"\n", values...)
}

// confirm asks a person; anything but yes is no.
func confirm(ctx context.Context, p *process, question string) error {
	_, _ = fmt.Fprintf(p.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		const longest = 64
		line, _ := bufio.NewReader(io.LimitReader(p.In, longest)).ReadString('\n') // an end without an answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
	case <-ctx.Done():
		_, _ = fmt.Fprintln(p.Err)
	}
	_, _ = fmt.Fprintln(p.Err, "meterworker: nothing was done")
	return &silentError{exitFailed}
}
