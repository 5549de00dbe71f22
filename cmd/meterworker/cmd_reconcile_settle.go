package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/reconcile"
	"github.com/meterworker/meterworker/internal/replay"
)

// settlementObject is the form of one settlement for programs; every field is always there.
type settlementObject struct {
	Type       string   `json:"type"`
	Letter     uint64   `json:"letter"`
	Identifier string   `json:"identifier"`
	Sequence   uint64   `json:"sequence"`
	EventName  string   `json:"event_name"`
	Customer   string   `json:"customer"`
	Hour       string   `json:"hour"`
	Units      int64    `json:"units"`
	Finding    string   `json:"finding"` // counted or not_counted
	Action     string   `json:"action"`  // discard or replay
	Result     string   `json:"result"`  // proposed, discarded, replayed, refused, not_found or failed
	Detail     string   `json:"detail"`
	Delivered  int64    `json:"delivered"`
	Counted    int64    `json:"counted"`
	Assignment []uint64 `json:"counted_letters"` // of the cell's open ones
	Others     int      `json:"other_letters"`
	Looks      []string `json:"looks"`
}

// proposed is the result of a settlement that was not applied.
const proposed = "proposed"

// settle shows what the sums prove of ambiguous letters, and does it with --apply.
func (c *ReconcileCmd) settle(ctx context.Context, p *process, conn *client, work *reconciling, r reconcile.Report) error {
	if len(r.Settlements) == 0 {
		return nil
	}
	if !c.Apply {
		for _, s := range r.Settlements {
			if err := c.showSettlement(p, s, replay.Result{Outcome: proposed}); err != nil {
				return err
			}
		}
		return nil
	}
	if !c.Yes {
		if err := confirm(ctx, p, fmt.Sprintf("Settle %d ambiguous dead letters by these sums?", len(r.Settlements))); err != nil {
			return err
		}
	}
	failed := false
	for _, s := range r.Settlements {
		result, err := c.apply(ctx, p, conn, work.letters, s)
		if err != nil {
			return err
		}
		failed = failed || result.Outcome != replay.Discarded && result.Outcome != replay.Replayed
		if err := c.showSettlement(p, s, result); err != nil {
			return err
		}
	}
	if failed {
		return &silentError{exitFailed}
	}
	return nil
}

// apply does what one settlement proves, between its two records.
func (c *ReconcileCmd) apply(ctx context.Context, p *process, conn *client, letters *replay.Letters, s reconcile.Settlement) (replay.Result, error) {
	if err := ctx.Err(); err != nil {
		return replay.Result{}, interruptedQuietly(ctx, err)
	}
	letter, err := letters.Get(ctx, s.Letter.Letter)
	switch {
	case errors.Is(err, replay.ErrNotFound):
		return replay.Result{ID: s.Letter.Letter, Outcome: replay.Missing, Detail: replay.ErrNotFound.Error()}, nil
	case err != nil:
		return replay.Result{}, err
	case letter.Sequence != s.Letter.Sequence || letter.Identifier != s.Letter.Identifier:
		return replay.Result{ID: s.Letter.Letter, Outcome: replay.Failed, Detail: "the dead letter is another one now; look at it again"}, nil
	}
	action := audit.Replay
	if s.Counted {
		action = audit.Discard
	}
	run, err := beginRecord(ctx, p, conn, c.ActorSettings, action, c.Why)
	if err != nil {
		return replay.Result{}, err
	}
	named := recordedLetter(letter)
	if !s.Counted {
		named.After = letter.Identifier
	}
	if err := run.Intent(ctx, audit.Record{Total: 1, Letters: []audit.Letter{named}, Note: evidence(s)}); err != nil {
		return replay.Result{}, err
	}
	result := carryOut(ctx, letters, s)
	named.Outcome, named.Published, named.Detail = string(result.Outcome), result.Sequence, result.Detail
	return result, run.Result(ctx, audit.Record{Counts: map[string]int{string(result.Outcome): 1}, Letters: []audit.Letter{named}, Note: evidence(s)})
}

// carryOut discards what was counted. What was not counted goes out again under its own
// identifier, which the sums show to be free: the earlier attempts are forgiven.
func carryOut(ctx context.Context, letters *replay.Letters, s reconcile.Settlement) replay.Result {
	if !s.Counted {
		return letters.Replay(ctx, s.Letter.Letter, replay.Permission{AcceptDoubleBilling: true}, time.Now())
	}
	result := letters.Discard(ctx, s.Letter.Letter)
	if result.Outcome == replay.Discarded {
		result.Detail = countedMark
	}
	return result
}

// evidence is what a settlement rests on, in one line.
func evidence(s reconcile.Settlement) string {
	word := "not counted"
	if s.Counted {
		word = "counted"
	}
	return fmt.Sprintf("letter %d was %s: meter %s (%s), customer %s, hour %s: delivered %d, at Stripe %d, read at %s and %s; units %d; of %d open letters only these make the sums meet: %v",
		s.Letter.Letter, word, s.EventName, s.ByFormula, s.Customer, rfc3339(s.Start()), s.Delivered, s.AtStripe, rfc3339(s.FirstRead), rfc3339(s.ReadAt),
		s.Letter.Units, s.Others+1, s.Assignment)
}

func (c *ReconcileCmd) showSettlement(p *process, s reconcile.Settlement, r replay.Result) error {
	finding, action := "not_counted", "replay"
	if s.Counted {
		finding, action = "counted", "discard"
	}
	if c.Output == "json" {
		return writeJSONLine(p.Out, settlementObject{
			Type: lineSettlement, Letter: s.Letter.Letter, Identifier: s.Letter.Identifier, Sequence: s.Letter.Sequence, EventName: s.EventName,
			Customer: s.Customer, Hour: rfc3339(s.Start()), Units: s.Letter.Units, Finding: finding, Action: action, Result: string(r.Outcome),
			Detail: r.Detail, Delivered: s.Delivered, Counted: s.AtStripe, Assignment: append([]uint64{}, s.Assignment...), Others: s.Others,
			Looks: []string{rfc3339(s.FirstRead), rfc3339(s.ReadAt)},
		})
	}
	text := string(r.Outcome)
	if r.Outcome == proposed {
		text = "would " + action + " with --apply"
	}
	if r.Detail != "" && r.Outcome != replay.Discarded {
		text += "; " + r.Detail
	}
	_, err := fmt.Fprintf(p.Out, "%s: %s\n", escapeText(strings.TrimSpace(evidence(s))), escapeText(text))
	return err
}
