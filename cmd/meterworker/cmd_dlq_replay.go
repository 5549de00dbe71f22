package main

import (
	"context"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/replay"
)

// DLQReplayCmd publishes dead letters again.
type DLQReplayCmd struct {
	ClientSettings
	ActorSettings
	LetterSelection
	AcceptDoubleBilling bool           `help:"Replay also what Stripe may have counted already: the customer may be billed twice."`
	Hopeless            bool           `help:"Replay also what will die again as it stands; implied by --yes, and by naming an id."`
	Rate                int            `default:"100" placeholder:"N" help:"At most so many a second, 0 for as many as go; they share the account's permits with new usage."`
	Wait                *time.Duration `placeholder:"DURATION" help:"How long to wait afterwards for what becomes of them (default 10s on a terminal, else 0s)."`
	Why                 string         `placeholder:"TEXT" help:"The reason, kept in the audit trail."`
	Output              string         `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// terminalWait is enough for a fleet that is not busy: a replay is a pull, a write and a
// request away from its end.
const terminalWait = 10 * time.Second

// Help shows how the command is used.
func (*DLQReplayCmd) Help() string {
	return "Takes ids, or filters, or --all. For more than named ids it shows the count and asks, unless --yes. " +
		"Each letter is published again with its body, identifier and timestamp, and deleted once that is stored; the worker's journal " +
		"knows the earlier attempts. Usage that Stripe rejected after accepting it gets a new identifier. Refused are letters older than 35 days, " +
		"and, without --accept-double-billing, those that may be counted already and are beyond Stripe's memory. " +
		"Interrupted, it finishes the letter in hand. With --wait it says of each whether it was delivered, died again, or still waits. " +
		"Exit code 1 if any letter was refused, failed or died again.\n\nExamples:\n\n" +
		"  meterworker dlq replay 17 18 --wait 30s\n" +
		"  meterworker dlq replay --reason server_error --since 2h --dry-run\n" +
		"  meterworker dlq replay --all --yes --rate 500 --why \"Stripe is back\""
}

// Run replays what was selected.
func (c *DLQReplayCmd) Run(ctx context.Context, p *process) error {
	ids, filter, err := c.selection(p, time.Now())
	switch {
	case err != nil:
		return &usageError{err}
	case c.Rate < 0 || c.Rate > 100_000:
		return &usageError{fmt.Errorf("--rate=%d is not from 0 to 100000", c.Rate)}
	case c.Wait != nil && *c.Wait < 0:
		return &usageError{fmt.Errorf("--wait=%s is below 0", *c.Wait)}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		reportBrokenPipe()
		run, err := c.newRun(ctx, p, conn, letters)
		if err != nil {
			return err
		}
		ends, err := c.watch(ctx, p, letters, run)
		if err != nil {
			return err
		}
		err = run.run(ctx, ids, filter)
		return worse(err, ends(ctx))
	})
}

// newRun prepares the run; a dry one leaves no record.
func (c *DLQReplayCmd) newRun(ctx context.Context, p *process, conn *client, letters *replay.Letters) (*letterRun, error) {
	allowed := replay.Permission{AcceptDoubleBilling: c.AcceptDoubleBilling, Hopeless: c.Hopeless || c.Yes || len(c.IDs) > 0}
	r := &letterRun{
		selection: c.LetterSelection, process: p, letters: letters, refusal: conn.refusal, progress: newProgress(p), pace: newPace(0),
		deed: replayDeed(letters, allowed),
	}
	r.deed.each = func(result replay.Result) error { return c.write(p, result) }
	if c.DryRun {
		return r, nil
	}
	var err error
	r.pace = newPace(c.Rate)
	if r.record, err = beginRecord(ctx, p, conn, c.ActorSettings, audit.Replay, c.Why); err != nil {
		return nil, err
	}
	if !c.AcceptDoubleBilling {
		r.deed.judge, err = unlessEdited(ctx, conn, r.deed.judge)
	}
	return r, err
}

// replayDeed publishes letters again.
func replayDeed(letters *replay.Letters, allowed replay.Permission) deed {
	return deed{
		question: "Replay %d dead letters?", past: "replayed", future: "would replay", done: replay.Replayed, possible: replay.Possible,
		judge: func(l replay.Letter) replay.Result { return replay.Check(l, allowed, time.Now()) },
		do: func(ctx context.Context, id uint64) replay.Result {
			return letters.Replay(ctx, id, allowed, time.Now())
		},
	}
}

// unlessEdited refuses letters of which an edit was begun that may be stored under another
// identifier: it died before it could take the letter out, and both would count.
func unlessEdited(ctx context.Context, conn *client, judge func(replay.Letter) replay.Result) (func(replay.Letter) replay.Result, error) {
	trail, err := audit.Open(ctx, conn.js)
	if err != nil {
		return nil, err
	}
	edits, err := trail.Edits(ctx)
	return func(l replay.Letter) replay.Result {
		result := judge(l)
		r, edited := edits[l.ID]
		if result.Outcome != replay.Possible || !edited || r.Letters[0].Sequence != l.Sequence || r.Letters[0].After == result.Identifier {
			return result
		}
		result.Outcome, result.Detail = replay.Refused, fmt.Sprintf(
			"an edit of it was begun at %s by %s and may be stored under the identifier %s; look at the customer's usage at Stripe, and discard it if that is there, or replay with --accept-double-billing if it is missing",
			r.StoredAt.UTC().Format(time.RFC3339), r.Who.Actor, r.Letters[0].After)
		return result
	}, err
}

// replayObject is the form of one result for programs; every field is always there.
type replayObject struct {
	ID         uint64 `json:"id"`
	Result     string `json:"result"`     // replayed, would_replay, refused, not_found or failed
	Identifier string `json:"identifier"` // that it is billed under
	Sequence   uint64 `json:"sequence"`   // of the replay in USAGE; 0: none
	Duplicate  bool   `json:"duplicate"`  // an earlier try had stored it
	Detail     string `json:"detail"`
}

func (c *DLQReplayCmd) write(p *process, r replay.Result) error { return writeResult(p, c.Output, r) }

func writeResult(p *process, output string, r replay.Result) error {
	if output == "json" {
		return writeJSONLine(p.Out, replayObject{r.ID, string(r.Outcome), r.Identifier, r.Sequence, r.Duplicate, r.Detail})
	}
	_, err := fmt.Fprintf(p.Out, "%d: %s\n", r.ID, resultText(r))
	return err
}

func resultText(r replay.Result) string {
	var text string
	switch r.Outcome {
	case replay.Replayed:
		text = fmt.Sprintf("replayed sequence=%d identifier=%s", r.Sequence, cell(r.Identifier, 2*255))
		if r.Duplicate {
			text += " (an earlier try had stored it)"
		}
	case replay.Possible:
		text = "would replay identifier=" + cell(r.Identifier, 2*255)
	case replay.Missing:
		return escapeText(r.Detail)
	case replay.Refused, replay.Failed:
		return string(r.Outcome) + ": " + escapeText(r.Detail)
	case replay.Discarded, replay.Restored:
		text = string(r.Outcome) + " identifier=" + cell(r.Identifier, 2*255)
	case replay.PossibleDiscard:
		text = "would discard identifier=" + cell(r.Identifier, 2*255)
	case replay.PossibleRestore:
		text = "would import identifier=" + cell(r.Identifier, 2*255)
	case replay.Present:
		text = "already there"
	}
	if r.Detail != "" {
		text += "; " + escapeText(r.Detail)
	}
	return text
}
