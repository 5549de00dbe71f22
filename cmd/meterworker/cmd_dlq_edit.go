package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/replay"
)

// DLQEditCmd corrects the event of one dead letter.
type DLQEditCmd struct {
	ClientSettings
	ActorSettings
	ID                  string   `arg:"" name:"id" help:"Id of the dead letter, as the list shows it."`
	Set                 []string `sep:"none" placeholder:"FIELD=VALUE" help:"Set event_name, timestamp or payload.<key>, instead of opening an editor; repeatable."`
	Unset               []string `sep:"none" placeholder:"FIELD" help:"Take out such a field; repeatable."`
	DryRun              bool     `help:"Show what would be published, and change nothing."`
	Yes                 bool     `short:"y" help:"Do not ask."`
	AcceptDoubleBilling bool     `help:"Edit also what Stripe may have counted as it is: the customer may be billed twice."`
	Why                 string   `placeholder:"TEXT" help:"The reason, kept in the audit trail."`
	Output              string   `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json."`
}

// Help shows how the command is used.
func (*DLQEditCmd) Help() string {
	return "Opens the body in $VISUAL or $EDITOR, or changes it by --set and --unset; judges the result as the worker will, shows what " +
		"changes, asks, and publishes it in the letter's place. The subject follows the event name and the customer. The identifier stays " +
		"where nothing under it can have been counted; otherwise the event gets a new one, <identifier>~r<n>. What Stripe may have counted " +
		"as it is needs --accept-double-billing. A letter without an identifier takes that of the body.\n\nExamples:\n\n" +
		"  meterworker dlq edit 17\n" +
		"  meterworker dlq edit 17 --set payload.value=3 --unset payload.note --yes --why \"producer sent 3.0\""
}

// Run edits the letter.
func (c *DLQEditCmd) Run(ctx context.Context, p *process) error {
	ids, err := parseIDs([]string{c.ID})
	if err == nil && !c.Yes && !c.DryRun && !canAsk(p) {
		err = errNobodyToAsk
	}
	if err == nil { // wrong fields, before anything is read
		_, err = replay.Assign([]byte("{}"), c.Set, nil)
	}
	if err != nil {
		return &usageError{err}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		letter, err := letters.Get(ctx, ids[0])
		if err != nil {
			return err
		}
		revision, err := c.revise(ctx, p, letter)
		if err != nil {
			return err
		}
		if err := printRevision(p.Err, letter, revision); err != nil || c.DryRun {
			return err
		}
		if !c.Yes {
			if err := confirm(ctx, p, fmt.Sprintf("Publish it in the place of dead letter %d?", letter.ID)); err != nil {
				return err
			}
		}
		return c.publish(ctx, p, conn, letters, letter, revision)
	})
}

// revise has the body edited until it would live, or the person gives up.
func (c *DLQEditCmd) revise(ctx context.Context, p *process, l replay.Letter) (replay.Revision, error) {
	allowed := replay.Permission{AcceptDoubleBilling: c.AcceptDoubleBilling}
	if len(c.Set)+len(c.Unset) > 0 {
		body, err := replay.Assign(l.Body, c.Set, c.Unset)
		if err != nil {
			return replay.Revision{}, err
		}
		return judgeEdit(l, body, allowed)
	}
	e, err := newEditor(p, l)
	if err != nil {
		return replay.Revision{}, err
	}
	defer e.discard()
	for {
		body, err := e.edit(ctx)
		if err != nil {
			return replay.Revision{}, err
		}
		revision, err := judgeEdit(l, body, allowed)
		if err == nil || !canAsk(p) {
			return revision, err
		}
		_, _ = fmt.Fprintf(p.Err, "meterworker: %s\n", escapeText(err.Error()))
		if err := confirm(ctx, p, "Edit it again?"); err != nil {
			return replay.Revision{}, err
		}
	}
}

func judgeEdit(l replay.Letter, body []byte, allowed replay.Permission) (replay.Revision, error) {
	revision, refusal := replay.Revise(l, body, allowed, time.Now())
	if refusal != "" {
		return revision, errors.New("refused: " + refusal)
	}
	return revision, nil
}

// printRevision shows what changes, field by field.
func printRevision(w io.Writer, l replay.Letter, r replay.Revision) error {
	var b strings.Builder
	line := func(name, from, to string) {
		if from == to {
			return
		}
		if from != "" {
			fmt.Fprintf(&b, "- %s: %s\n", escapeText(name), escapeText(from))
		}
		if to != "" {
			fmt.Fprintf(&b, "+ %s: %s\n", escapeText(name), escapeText(to))
		}
	}
	for _, change := range replay.Changes(l.Body, r.Body()) {
		line(change.Field, change.From, change.To)
	}
	line("(billed as)", l.Identifier, r.Identifier)
	line("(dated)", unixText(l.Timestamp), unixText(r.Timestamp))
	fmt.Fprintf(&b, "on %s\n", escapeText(r.Subject))
	if r.Warning != "" {
		fmt.Fprintf(&b, "warning: %s\n", escapeText(r.Warning))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func unixText(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return rfc3339(time.Unix(seconds, 0))
}

// publish records the intent, publishes, and records what came of it.
func (c *DLQEditCmd) publish(ctx context.Context, p *process, conn *client, letters *replay.Letters, l replay.Letter, r replay.Revision) error {
	reportBrokenPipe()
	run, err := beginRecord(ctx, p, conn, c.ActorSettings, audit.Edit, c.Why)
	if err != nil {
		return err
	}
	result, err := publishEdit(ctx, conn, run, letters, l, r)
	if result.Outcome == "" {
		return err // nothing was done
	}
	if err := errors.Join(err, writeResult(p, c.Output, result)); err != nil {
		return err
	}
	if result.Outcome != replay.Replayed {
		return &silentError{exitFailed}
	}
	return nil
}

// publishEdit publishes a revision between its two records. Without an outcome nothing was
// done.
func publishEdit(ctx context.Context, conn *client, run *audit.Run, letters *replay.Letters, l replay.Letter, r replay.Revision) (replay.Result, error) {
	recorded := recordedLetter(l)
	recorded.After, recorded.NewBody = r.Identifier, audit.Digest(r.Body())
	changes := map[string]audit.Change{}
	for _, change := range replay.Changes(l.Body, r.Body()) {
		changes[change.Field] = audit.Change{From: change.From, To: change.To}
	}
	if err := run.Intent(ctx, audit.Record{Total: 1, Letters: []audit.Letter{recorded}, Changes: changes, Note: "published on " + r.Subject}); err != nil {
		return replay.Result{}, err
	}
	result := letters.Publish(ctx, r)
	recorded.Outcome, recorded.Published, recorded.Detail = string(result.Outcome), result.Sequence, result.Detail
	err := run.Result(ctx, audit.Record{Total: 1, Counts: map[string]int{string(result.Outcome): 1}, Letters: []audit.Letter{recorded}})
	if refusal := conn.refusal(); refusal != nil && result.Outcome == replay.Failed {
		result.Detail = denied(refusal, result.Detail)
	}
	return result, err
}
