package main

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/replay"
)

// DLQDiscardCmd deletes dead letters.
type DLQDiscardCmd struct {
	ClientSettings
	ActorSettings
	LetterSelection
	Why    string `placeholder:"TEXT" help:"Why their usage need not be billed; required, and kept in the audit trail."`
	Output string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// Help shows how the command is used.
func (*DLQDiscardCmd) Help() string {
	return "Takes ids, or filters, or --all. For more than named ids it shows the count and asks, unless --yes. " +
		"The usage of a discarded letter is never billed. The audit trail keeps what it was, without its body; " +
		"`meterworker dlq export` keeps all of it. Exit code 1 if any letter could not be deleted.\n\nExamples:\n\n" +
		"  meterworker dlq export --reason undecodable > kept.jsonl\n" +
		"  meterworker dlq discard --reason undecodable --why \"load test\""
}

// Run discards what was selected.
func (c *DLQDiscardCmd) Run(ctx context.Context, p *process) error {
	ids, filter, err := c.selection(p, time.Now())
	if err == nil && !c.DryRun {
		err = whyMissing(c.Why, "the record of what was discarded")
	}
	if err != nil {
		return &usageError{err}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		reportBrokenPipe()
		r := &letterRun{
			selection: c.LetterSelection, process: p, letters: letters, refusal: conn.refusal, progress: newProgress(p), pace: newPace(0),
			deed: discardDeed(letters),
		}
		r.deed.each = func(result replay.Result) error { return writeResult(p, c.Output, result) }
		if !c.DryRun {
			if r.record, err = beginRecord(ctx, p, conn, c.ActorSettings, audit.Discard, c.Why); err != nil {
				return err
			}
		}
		return r.run(ctx, ids, filter)
	})
}

// discardDeed deletes letters.
func discardDeed(letters *replay.Letters) deed {
	return deed{
		question: "Discard %d dead letters? Their usage will not be billed.", past: "discarded", future: "would discard",
		done: replay.Discarded, possible: replay.PossibleDiscard,
		judge: func(l replay.Letter) replay.Result {
			return replay.Result{ID: l.ID, Outcome: replay.PossibleDiscard, Identifier: l.Identifier}
		},
		do: letters.Discard,
	}
}
