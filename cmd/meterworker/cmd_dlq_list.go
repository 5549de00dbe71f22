package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/replay"
)

// DLQListCmd lists dead letters.
type DLQListCmd struct {
	ClientSettings
	LetterFilter
	Groups bool   `help:"Only the counts by reason and code."`
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json, one object a line."`
}

// Help shows how the command is used.
func (*DLQListCmd) Help() string {
	return "First come the counts by reason and code, then all that match, as they are read; what dies meanwhile is left out. " +
		"In JSON only the letters are printed, or with --groups only the counts. Every field is always there: " +
		"a text that is not known is \"\", a number 0. value is a text, as it stands in the body; event_name and customer are the body's, " +
		"or where that cannot be read the subject's; expires_at is 35 days after the event's timestamp, when Stripe stops to take it. " +
		"The counts name event names by the subject.\n\nExamples:\n\n" +
		"  meterworker dlq list --since 2h\n" +
		"  meterworker dlq list --groups\n" +
		"  meterworker dlq list --reason rejected -o json | jq -r .code | sort | uniq -c"
}

// Run prints the letters.
func (c *DLQListCmd) Run(ctx context.Context, p *process) error {
	filter, err := c.filter(time.Now())
	switch {
	case err != nil:
		return &usageError{err}
	case c.Groups && filter.Limit > 0:
		return &usageError{errors.New("--groups counts all that match; leave --limit out")}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		return interruptedQuietly(ctx, c.print(ctx, p, letters, filter))
	})
}

// print fixes the last letter before it counts, so that counts and entries are of the same.
func (c *DLQListCmd) print(ctx context.Context, p *process, letters *replay.Letters, filter replay.Filter) error {
	var err error
	if filter.Through, err = letters.Last(ctx); err != nil {
		return err
	}
	table := c.Output == "table"
	if c.Groups || table {
		found, err := c.printGroups(ctx, p, letters, filter)
		if err != nil || c.Groups || !found {
			return err
		}
	}
	row, rows := printLetterRow, 0
	if !table {
		row = printLetterJSON
	}
	return letters.Each(ctx, filter, func(l replay.Letter) error {
		rows++
		return row(p.Out, l, rows)
	})
}

// interruptedQuietly turns the end by a signal into an exit code: who pressed
// Ctrl-C needs no explanation.
func interruptedQuietly(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return &silentError{exitFailed}
	}
	return err
}

func printLetterJSON(w io.Writer, l replay.Letter, _ int) error {
	return writeJSONLine(w, newLetterObject(l))
}

// The columns have fixed widths, so that the first row need not wait for the last.
const letterColumns = "%-8v  %-20s  %-20s  %-16s  %-20s  %10s  %-24s  %-20s  %s\n"

// printLetterRow prints the heading before the first row.
func printLetterRow(w io.Writer, l replay.Letter, row int) error {
	var b strings.Builder
	if row == 1 {
		fmt.Fprintf(&b, letterColumns, "ID", "DEAD AT", "REASON", "EVENT NAME", "CUSTOMER", "VALUE", "IDENTIFIER", "CODE", "DETAIL")
	}
	died := l.Died()
	code := l.Code
	if code == "" && l.Status != 0 {
		code = fmt.Sprintf("HTTP %d", l.Status)
	}
	detail := l.Detail
	if l.Fault != nil {
		detail = l.Fault.Error()
	}
	const wide = 64
	fmt.Fprintf(&b, letterColumns, l.ID, died.UTC().Format(time.RFC3339), cell(string(l.Reason), wide), cell(l.EventName(), wide),
		cell(l.Customer(), wide), cell(l.Value(), wide), cell(l.Identifier, wide), cell(code, wide), cell(detail, 2*wide))
	_, err := io.WriteString(w, b.String())
	return err
}

// letterObject is the form of a dead letter for programs. Every field is always
// there: a text that is not known is "", a number 0. Times are RFC 3339 in UTC.
type letterObject struct {
	ID           uint64 `json:"id"` // sequence in USAGE_DLQ
	Reason       string `json:"reason"`
	Code         string `json:"code"`
	Status       int    `json:"status"`
	Detail       string `json:"detail"`
	Identifier   string `json:"identifier"`
	EventName    string `json:"event_name"`
	Customer     string `json:"customer"`
	Value        string `json:"value"` // as it stands in the body: it may be no number at all
	Attempts     int    `json:"attempts"`
	FirstAttempt string `json:"first_attempt"`
	LastAttempt  string `json:"last_attempt"`
	DeadAt       string `json:"dead_at"`
	StoredAt     string `json:"stored_at"` // the original, in USAGE
	Subject      string `json:"subject"`   // as published
	Sequence     uint64 `json:"sequence"`  // in USAGE
	RequestID    string `json:"request_id"`
	Replays      int    `json:"replays"`
	ExpiresAt    string `json:"expires_at"` // 35 days after the event's timestamp
}

func newLetterObject(l replay.Letter) letterObject {
	return letterObject{
		ID: l.ID, Reason: string(l.Reason), Code: l.Code, Status: l.Status, Detail: l.Detail, Identifier: l.Identifier,
		EventName: l.EventName(), Customer: l.Customer(), Value: l.Value(), Attempts: l.Attempts,
		FirstAttempt: rfc3339(l.FirstAttempt), LastAttempt: rfc3339(l.LastAttempt), DeadAt: rfc3339(l.DeadAt),
		StoredAt: rfc3339(l.StoredAt), Subject: l.Subject, Sequence: l.Sequence, RequestID: l.RequestID,
		Replays: l.Replays, ExpiresAt: rfc3339(l.ExpiresAt()),
	}
}

// rfc3339 is "" for no time, and for one outside of the four-digit years.
func rfc3339(t time.Time) string {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}
