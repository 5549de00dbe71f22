package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/replay"
)

// DLQReplayCmd publishes dead letters again.
type DLQReplayCmd struct {
	ClientSettings
	LetterFilter
	IDs                 []string `arg:"" name:"id" optional:"" help:"Ids of dead letters, as the list shows them."`
	All                 bool     `help:"All dead letters."`
	DryRun              bool     `help:"Say what would be done, and change nothing."`
	Yes                 bool     `short:"y" help:"Do not ask; and replay also what will die again as it stands."`
	AcceptDoubleBilling bool     `help:"Replay also what Stripe may have counted already: the customer may be billed twice."`
	Output              string   `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// Help shows how the command is used.
func (*DLQReplayCmd) Help() string {
	return "Takes ids, or filters, or --all. For more than named ids it shows the count and asks, unless --yes. " +
		"Each letter is published again with its body, identifier and timestamp, and deleted once that is stored; the worker's journal " +
		"knows the earlier attempts. Usage that Stripe rejected after accepting it gets a new identifier. Refused are letters older than 35 days, " +
		"and, without --accept-double-billing, those that may be counted already and are beyond Stripe's memory. " +
		"Interrupted, it finishes the letter in hand. Exit code 1 if any letter was refused or failed.\n\nExamples:\n\n" +
		"  meterworker dlq replay 17 18\n" +
		"  meterworker dlq replay --reason server_error --since 2h --dry-run\n" +
		"  meterworker dlq replay --all --yes"
}

// Run replays what was selected.
func (c *DLQReplayCmd) Run(ctx context.Context, p *process) error {
	ids, filter, err := c.selection(p, time.Now())
	if err != nil {
		return &usageError{err}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		reportBrokenPipe()
		r := &replayRun{command: c, process: p, letters: letters, refusal: conn.refusal, progress: newProgress(p)}
		if len(ids) > 0 {
			r.selected = len(ids)
			return r.conclude(ctx, r.named(ctx, ids))
		}
		return r.bulk(ctx, filter)
	})
}

// selection refuses what is not clearly meant.
func (c *DLQReplayCmd) selection(p *process, now time.Time) ([]uint64, replay.Filter, error) {
	ids, err := parseIDs(c.IDs)
	if err != nil {
		return nil, replay.Filter{}, err
	}
	filter, err := c.filter(now)
	bulk := c.All || c.given()
	switch {
	case err != nil:
		return nil, replay.Filter{}, err
	case len(ids) > 0 && (bulk || c.Limit != nil):
		return nil, replay.Filter{}, errors.New("give ids, or filters, or --all; not ids with others")
	case len(ids) == 0 && !bulk:
		return nil, replay.Filter{}, errors.New("nothing is selected; give ids, a filter, or --all")
	case bulk && !c.Yes && !c.DryRun && (!isTerminal(p.In) || !p.Terminal):
		return nil, replay.Filter{}, errors.New("there is no terminal to ask on; give --yes, or --dry-run to look first")
	}
	return ids, filter, nil
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

func (c *DLQReplayCmd) write(p *process, r replay.Result) error {
	if c.Output == "json" {
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
	}
	if r.Detail != "" {
		text += "; " + escapeText(r.Detail)
	}
	return text
}
