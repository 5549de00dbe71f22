package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// failuresInARow is when a run stops: NATS is away, or the credentials lack a
// permission, and each further letter would wait for its time-out.
const failuresInARow = 3

var errFailing = fmt.Errorf("stopped after %d failures in a row", failuresInARow)

// deed is what a run does to each letter.
type deed struct {
	question     string // with a place for the count
	past, future string // of the summary
	done         replay.Outcome
	possible     replay.Outcome
	judge        func(replay.Letter) replay.Result // what would come of it; pure
	do           func(ctx context.Context, id uint64) replay.Result
	each         func(replay.Result) error // hears of each result
}

// letterRun does one deed to many letters: those named, or those that a filter selects. Letters
// are taken in parts: a part is recorded as intended, done letter by letter, and
// recorded as done, so that memory stays flat and the audit trail names each letter
// before it is touched.
type letterRun struct {
	deed      deed
	selection LetterSelection
	process   *process
	letters   *replay.Letters
	record    *audit.Run
	refusal   func() error // of the server, nil while there is none
	progress  *progress
	pace      *pace

	selected int // how many letters it is about
	done     int // how many it has dealt with
	row      int // failures in a row
	counts   map[replay.Outcome]int
	part     []entry
}

// entry is one letter of the present part, without its body.
type entry struct {
	result   replay.Result // before: what would come of it
	recorded audit.Letter
}

// run does it all, and says what was done.
func (r *letterRun) run(ctx context.Context, ids []uint64, filter replay.Filter) error {
	r.counts = map[replay.Outcome]int{}
	if len(ids) > 0 {
		r.selected = len(ids)
		return r.conclude(ctx, r.named(ctx, ids))
	}
	return r.bulk(ctx, filter)
}

// named deals with letters by their ids.
func (r *letterRun) named(ctx context.Context, ids []uint64) error {
	for _, id := range ids {
		letter, err := r.letters.Get(ctx, id)
		e := entry{result: replay.Result{ID: id, Outcome: replay.Failed}}
		switch {
		case errors.Is(err, replay.ErrNotFound):
			e.result.Outcome, e.result.Detail = replay.Missing, replay.ErrNotFound.Error()
		case err != nil:
			e.result.Detail = err.Error()
		default:
			e = r.entry(letter)
		}
		if err := r.add(ctx, e); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

// bulk counts, asks, and deals with what was counted: letters that die in between
// are left for the next time.
func (r *letterRun) bulk(ctx context.Context, filter replay.Filter) error {
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
	if !r.selection.Yes && !r.selection.DryRun {
		if err := confirm(ctx, r.process, fmt.Sprintf(r.deed.question, r.selected)); err != nil {
			return err
		}
	}
	filter.Through = last
	err = r.letters.Each(ctx, filter, func(l replay.Letter) error { return r.add(ctx, r.entry(l)) })
	if err == nil {
		err = r.flush(ctx)
	}
	return r.conclude(ctx, err)
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

func (r *letterRun) entry(l replay.Letter) entry {
	result := r.deed.judge(l)
	e := entry{result, recordedLetter(l)}
	if result.Outcome == replay.Possible {
		e.recorded.After = result.Identifier
	}
	return e
}

// add takes a letter into the present part.
func (r *letterRun) add(ctx context.Context, e entry) error {
	r.part = append(r.part, e)
	if len(r.part) < audit.PartSize && !r.selection.DryRun {
		return ctx.Err()
	}
	return r.flush(ctx)
}

// flush deals with the present part. An error ends the run.
func (r *letterRun) flush(ctx context.Context) error {
	part := r.part
	r.part = nil
	if err := ctx.Err(); err != nil {
		return err
	}
	intent := r.intent(part)
	if len(intent.Letters) == 0 || r.selection.DryRun {
		return r.work(ctx, part)
	}
	if err := r.record.Intent(ctx, intent); err != nil {
		return err
	}
	err := r.work(ctx, part)
	result := outcomeOf(part)
	result.Note = stoppedBy(ctx)
	return errors.Join(err, r.record.Result(ctx, result))
}

// intent names the letters that will be touched.
func (r *letterRun) intent(part []entry) audit.Record {
	record := audit.Record{Total: r.selected}
	for _, e := range part {
		if e.result.Outcome == r.deed.possible {
			record.Letters = append(record.Letters, e.recorded)
		}
	}
	return record
}

// outcomeOf is the result of a part; a letter that was not begun has no outcome.
func outcomeOf(part []entry) audit.Record {
	record := audit.Record{Counts: map[string]int{}}
	for _, e := range part {
		outcome := e.recorded.Outcome
		if outcome == "" {
			outcome = "not_begun"
		}
		record.Counts[outcome]++
		record.Letters = append(record.Letters, audit.Letter{
			ID: e.result.ID, Before: e.recorded.Before, After: e.recorded.After, Outcome: outcome, Published: e.result.Sequence, Detail: e.result.Detail,
		})
	}
	return record
}

// work deals with the letters of a part one by one.
func (r *letterRun) work(ctx context.Context, part []entry) error {
	for i := range part {
		if err := r.pace.wait(ctx); err != nil {
			return err
		}
		if err := r.one(ctx, &part[i]); err != nil {
			return err
		}
	}
	return nil
}

// one deals with one letter. An error ends the run.
func (r *letterRun) one(ctx context.Context, e *entry) error {
	if e.result.Outcome == r.deed.possible && !r.selection.DryRun {
		e.result = r.deed.do(ctx, e.result.ID)
	}
	refusal := r.refusal()
	if e.result.Outcome == replay.Failed && refusal != nil {
		e.result.Detail = denied(refusal, e.result.Detail)
	}
	e.recorded.Outcome = string(e.result.Outcome)
	r.done++
	r.counts[e.result.Outcome]++
	if r.row++; e.result.Outcome != replay.Failed {
		r.row = 0
	}
	if err := r.deed.each(e.result); err != nil {
		return err
	}
	r.progress.show(func() string {
		return fmt.Sprintf("%d of %d%s", r.done, r.selected, r.pace.left(r.done, r.selected))
	})
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
func (r *letterRun) conclude(ctx context.Context, err error) error {
	r.progress.clear()
	verb, n := r.deed.past, r.counts[r.deed.done]
	if r.selection.DryRun {
		verb, n = "dry run, nothing was changed: "+r.deed.future, r.counts[r.deed.possible]
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
	missing := r.counts[replay.Missing] > 0 && len(r.selection.IDs) > 0
	if missing || r.counts[replay.Refused]+r.counts[replay.Failed] > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

func (r *letterRun) say(format string, values ...any) {
	_, _ = fmt.Fprintf(r.process.Err, "meterworker: "+format+"\n", values...)
}

// pace spreads letters over time; the zero pace does not.
type pace struct {
	every time.Duration
	began time.Time
	next  time.Time
}

func newPace(perSecond int) *pace {
	p := &pace{began: time.Now()}
	if perSecond > 0 {
		p.every = time.Second / time.Duration(perSecond)
	}
	return p
}

// wait returns when the next letter may go. What was missed is not caught up with.
func (p *pace) wait(ctx context.Context) error {
	if p.every == 0 || !time.Now().Before(p.next) {
		p.next = time.Now().Add(p.every)
		return ctx.Err()
	}
	timer := time.NewTimer(time.Until(p.next))
	defer timer.Stop()
	select {
	case <-timer.C:
		p.next = p.next.Add(p.every)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// left is how long the rest takes at the speed so far.
func (p *pace) left(done, all int) string {
	if done == 0 || done >= all {
		return ""
	}
	each := time.Since(p.began) / time.Duration(done)
	return fmt.Sprintf(", about %s left", (each * time.Duration(all-done)).Round(time.Second))
}
