package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
)

// AuditCmd lists what people did by hand.
type AuditCmd struct {
	ClientSettings
	Action  []string `sep:"none" placeholder:"ACTION" choices:"replay,edit,discard,import,pause,resume,accept-restored" help:"What was done; repeatable, or separated by commas. A wrong action lists the right ones." group:"Filter:"`
	By      *string  `name:"actor" placeholder:"NAME" help:"Who did it: the name that was given, the user of the system or of NATS." group:"Filter:"`
	Since   *string  `placeholder:"TIME" help:"Recorded then or later: RFC 3339, or how long ago, such as 90m, 2h or 7d." group:"Filter:"`
	Until   *string  `placeholder:"TIME" help:"Recorded before then, in the same forms." group:"Filter:"`
	Follow  bool     `short:"f" help:"Go on with what is recorded from now on, until interrupted."`
	Letters bool     `help:"In the table, name each dead letter too."`
	Output  string   `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json, one record a line."`
}

// Help shows how the command is used.
func (*AuditCmd) Help() string {
	return "Each command that changes something leaves an intent before it does so and a result afterwards; of many letters, both " +
		"for each hundred. An intent without a result says that the command died in between. Records never expire.\n\nExamples:\n\n" +
		"  meterworker audit --since 7d --letters\n" +
		"  meterworker audit --action discard -o json | jq -r '.letters[]?.identifier'\n" +
		"  meterworker audit --follow"
}

// Run prints the records.
func (c *AuditCmd) Run(ctx context.Context, p *process) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return &usageError{err}
	}
	return withClient(ctx, p, c, roleOperator, func(ctx context.Context, conn *client) error {
		trail, err := audit.Open(ctx, conn.js)
		if err != nil {
			return err
		}
		rows := 0
		err = trail.Each(ctx, filter, c.Follow, func(r audit.Record) error {
			rows++
			if c.Output == "json" {
				return writeJSONLine(p.Out, newRecordObject(r))
			}
			return printRecord(p.Out, r, rows, c.Letters)
		})
		if err == nil && rows == 0 && c.Output == "table" {
			_, _ = fmt.Fprintln(p.Err, "meterworker: no records match")
		}
		return interruptedQuietly(ctx, err)
	})
}

func (c *AuditCmd) filter(now time.Time) (audit.Filter, error) {
	f := audit.Filter{Actor: text(c.By)}
	if c.By != nil && *c.By == "" {
		return f, fmt.Errorf("--actor is empty; give a value, or leave it out")
	}
	for _, words := range c.Action {
		for word := range strings.SplitSeq(words, ",") {
			if !audit.Action(word).Valid() {
				return f, fmt.Errorf("--action=%q is none of %s", word, joined(audit.Actions()))
			}
			f.Actions = append(f.Actions, audit.Action(word))
		}
	}
	var err error
	if f.Since, err = parseMoment("--since", c.Since, now); err != nil {
		return f, err
	}
	f.Until, err = parseMoment("--until", c.Until, now)
	return f, err
}

func joined[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = string(word)
	}
	return strings.Join(texts, ", ")
}

// recordObject is a record for programs.
type recordObject struct {
	Sequence uint64 `json:"sequence"`  // in USAGE_AUDIT
	StoredAt string `json:"stored_at"` // by the server's clock
	audit.Record
}

func newRecordObject(r audit.Record) recordObject {
	return recordObject{r.Sequence, rfc3339(r.StoredAt), r}
}

const recordColumns = "%-20s  %-16s  %-7s  %-8s  %-24s  %-40s  %s\n"

// printRecord prints the heading before the first row.
func printRecord(w io.Writer, r audit.Record, row int, letters bool) error {
	var b strings.Builder
	if row == 1 {
		fmt.Fprintf(&b, recordColumns, "RECORDED AT", "ACTION", "STAGE", "RUN", "ACTOR", "WHAT", "WHY")
	}
	const wide = 64
	fmt.Fprintf(&b, recordColumns, r.StoredAt.UTC().Format(time.RFC3339), cell(string(r.Action), wide), cell(string(r.Stage), wide),
		cell(r.Run, 8), cell(r.Who.Actor, wide), cell(recordText(r), 2*wide), cell(r.Why, 2*wide))
	if letters {
		for _, l := range r.Letters {
			fmt.Fprintf(&b, "    %d %s\n", l.ID, recordedLetterText(l))
		}
		for _, field := range slices.Sorted(maps.Keys(r.Changes)) {
			fmt.Fprintf(&b, "    %s: %s → %s\n", escapeText(field), cell(r.Changes[field].From, 2*wide), cell(r.Changes[field].To, 2*wide))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// recordText says what a record is about in one line.
func recordText(r audit.Record) string {
	var parts []string
	switch {
	case r.Stage == audit.Result:
		for _, outcome := range slices.Sorted(maps.Keys(r.Counts)) {
			parts = append(parts, fmt.Sprintf("%s %d", outcome, r.Counts[outcome]))
		}
	case len(r.Letters) == 1:
		parts = append(parts, fmt.Sprintf("letter %d", r.Letters[0].ID))
	case len(r.Letters) > 1:
		parts = append(parts, fmt.Sprintf("%d letters, %d to %d, of %d", len(r.Letters), r.Letters[0].ID, r.Letters[len(r.Letters)-1].ID, r.Total))
	}
	if r.Note != "" {
		parts = append(parts, r.Note)
	}
	return strings.Join(parts, "; ")
}

func recordedLetterText(l audit.Letter) string {
	text := l.Reason + " " + l.EventName + " " + l.Customer + " " + l.Before
	if l.After != "" && l.After != l.Before {
		text += " → " + l.After
	}
	parts := slices.DeleteFunc([]string{text, l.Outcome, l.Detail}, func(part string) bool { return part == "" })
	return escapeText(strings.Join(parts, "; "))
}
