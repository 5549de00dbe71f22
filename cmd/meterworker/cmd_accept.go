package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/outbox"
)

// AcceptRestoredCmd is a person's word on streams that are not what they were.
type AcceptRestoredCmd struct {
	ClientSettings
	ActorSettings
	Stream []string `placeholder:"NAME" help:"Stream or bucket to declare; may be repeated. Without it the command only looks."`
	Why    string   `placeholder:"TEXT" help:"What happened; kept with the declaration."`
	Unseen bool     `help:"Declare a copy that cannot be seen: the whole store was put back while no worker ran."`
	Yes    bool     `help:"Do not ask."`
}

// Help shows how the command is used.
func (*AcceptRestoredCmd) Help() string {
	return "When an old copy of a stream was put back, or a stream was made anew, the workers halt: what was sent " +
		"in the meantime may be forgotten, and sending it again would bill it twice. The best remedy is the right copy. Where there is none, " +
		"look with this command, then declare with it. Workers go on by themselves within seconds; what is in doubt is sent again only " +
		"while Stripe surely remembers it, and goes to the dead letters as ambiguous after that. A declaration cannot be taken back. " +
		"A whole store that was put back while no worker ran looks like one that was not used since: nobody can see it, so keep the workers " +
		"stopped until you have declared it with --unseen.\n\nExamples:\n\n" +
		"  meterworker accept-restored\n" +
		"  meterworker accept-restored --stream USAGE_JOURNAL --why \"disk lost, snapshot of 04:00 restored\"\n" +
		"  meterworker accept-restored --unseen --stream USAGE --stream USAGE_JOURNAL --why \"volume restored\""
}

// Run shows what was found, and writes down what is declared. Without a declaration
// the exit code is 1 while there is something to declare.
func (c *AcceptRestoredCmd) Run(ctx context.Context, p *process) error {
	if len(c.Stream) > 0 && strings.TrimSpace(c.Why) == "" {
		return &usageError{errors.New("--why is missing: say what happened, it is kept with the declaration")}
	}
	return withClient(ctx, p, c, roleOperator, func(ctx context.Context, conn *client) error { return c.look(ctx, p, conn) })
}

func (c *AcceptRestoredCmd) look(ctx context.Context, p *process, conn *client) error {
	streams, err := outbox.Inspect(ctx, conn.js)
	if err != nil {
		return err
	}
	findings, err := streams.Findings(ctx)
	if err != nil {
		return err
	}
	if c.Unseen {
		if findings, err = c.unseen(ctx, streams, findings); err != nil {
			return err
		}
	}
	chosen, err := c.choose(findings)
	if err != nil {
		return err
	}
	show(p, findings)
	if len(chosen) == 0 {
		return undeclared(findings)
	}
	if err := c.ask(ctx, p, chosen); err != nil {
		return err
	}
	return c.declare(ctx, p, conn, streams, chosen)
}

// unseen adds a finding for each named stream that has none.
func (c *AcceptRestoredCmd) unseen(ctx context.Context, streams *outbox.Streams, findings []outbox.Finding) ([]outbox.Finding, error) {
	for _, name := range c.Stream {
		if slices.ContainsFunc(findings, func(f outbox.Finding) bool { return f.Stream == name }) {
			continue
		}
		f, err := streams.Unseen(ctx, name)
		if err != nil {
			return nil, err
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// choose takes the findings that are named, and refuses a name without a finding.
func (c *AcceptRestoredCmd) choose(findings []outbox.Finding) ([]outbox.Finding, error) {
	var chosen []outbox.Finding
	for _, name := range c.Stream {
		i := slices.IndexFunc(findings, func(f outbox.Finding) bool { return f.Stream == name })
		if i < 0 {
			return nil, fmt.Errorf("--stream=%s: nothing is to be declared about it; run `meterworker accept-restored` to see what is", name)
		}
		if err := findings[i].Declarable(); err != nil {
			return nil, err
		}
		chosen = append(chosen, findings[i])
	}
	return chosen, nil
}

func show(p *process, findings []outbox.Finding) {
	if len(findings) == 0 {
		_, _ = fmt.Fprintln(p.Out, "All streams hold what they are known to have held: nothing is to be declared.")
	}
	for _, f := range findings {
		_, _ = fmt.Fprintf(p.Out, "%s\n  if declared: %s\n", escapeLines(f.String()), escapeLines(consequence(f)))
	}
}

// consequence says what a declaration of the finding gives up.
func consequence(f outbox.Finding) string {
	ends := f.Now.Stored.UTC().Format(time.RFC3339)
	switch {
	case f.Declarable() != nil:
		return "it cannot be; " + f.Declarable().Error()
	case f.Stream == outbox.UsageStream:
		return "usage that was stored after the copy was made and not delivered is lost: publish it again with its identifiers, and what was delivered " +
			"is recognised (usage without identifiers would be billed twice); numbers of messages go on from beyond all that were given"
	case f.Stream == outbox.JournalStream && f.Break == outbox.Behind:
		return "what was recorded after " + ends + " is forgotten: an event that is not known is sent again, under its identifier, inside the safe window of that moment; " +
			"later it becomes a dead letter (ambiguous)"
	case f.Stream == outbox.JournalStream:
		return "everything that was recorded is in doubt: each event from before now that is not known becomes a dead letter (ambiguous)"
	case f.Stream == outbox.DLQStream:
		return fmt.Sprintf("dead letters after number %d are lost, and their messages are never sent: look for them in the logs of the workers (disposition dead) "+
			"and in USAGE, which keeps them for the retention; letters that were replayed or discarded since may be there again: replaying them bills nothing twice", f.Now.Sequence)
	default:
		return "pause orders are forgotten (pause the fleet first if it was paused), and if declarations were made before, the whole journal is in doubt"
	}
}

func undeclared(findings []outbox.Finding) error {
	if len(findings) > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

func (c *AcceptRestoredCmd) ask(ctx context.Context, p *process, chosen []outbox.Finding) error {
	if c.Yes {
		return nil
	}
	if !isTerminal(p.In) {
		return errors.New("there is no terminal to ask on; give --yes, or leave --stream out to look first")
	}
	return confirm(ctx, p, fmt.Sprintf("Declare %d of them? It cannot be taken back.", len(chosen)))
}

func (c *AcceptRestoredCmd) declare(ctx context.Context, p *process, conn *client, streams *outbox.Streams, chosen []outbox.Finding) error {
	run, err := beginRecord(ctx, p, conn, c.ActorSettings, audit.AcceptRestored, c.Why)
	if err != nil {
		return err
	}
	for _, f := range chosen {
		var d outbox.Declaration
		err := recorded(ctx, run, f.String(), func() (string, error) {
			var err error
			d, err = streams.Declare(ctx, f, c.who(p, conn).Actor, c.Why)
			return "declared: " + f.Stream, err
		})
		if err != nil {
			return fmt.Errorf("declare %s: %w", f.Stream, err)
		}
		_, _ = fmt.Fprintf(p.Out, "declared: %s by %s at %s\n", f.Stream, escapeText(d.Who), d.At.Format(time.RFC3339))
	}
	return nil
}
