package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/replay"
)

// DLQExportCmd writes dead letters with everything that is known of them.
type DLQExportCmd struct {
	ClientSettings
	LetterFilter
	Format string `enum:"json,csv" default:"json" placeholder:"FORMAT" help:"json, one object a line, which import takes; or csv, for a spreadsheet."`
}

// Help shows how the command is used.
func (*DLQExportCmd) Help() string {
	return "Writes all that match to standard output and changes nothing. JSON lines hold the body as text and as base64, and all headers: " +
		"`meterworker dlq import` puts such letters back. In CSV every field is quoted, control characters are escaped, and a text that a " +
		"spreadsheet would run as a formula gets an apostrophe before it.\n\nExamples:\n\n" +
		"  meterworker dlq export > letters.jsonl\n" +
		"  meterworker dlq export --since 7d --format csv > letters.csv"
}

// Run writes the letters.
func (c *DLQExportCmd) Run(ctx context.Context, p *process) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return &usageError{err}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		write := func(l replay.Letter) error { return writeJSONLine(p.Out, newExportObject(l)) }
		if c.Format == "csv" {
			if err := writeCSVLine(p.Out, exportColumns); err != nil {
				return err
			}
			write = func(l replay.Letter) error { return writeCSVLine(p.Out, csvFields(l)) }
		}
		return interruptedQuietly(ctx, letters.Each(ctx, filter, write))
	})
}

// exportObject is a letter with everything that is needed to put it back.
type exportObject struct {
	letterObject

	Outcome   string              `json:"outcome"` // refused or unknown: may Stripe have counted it?
	Episode   string              `json:"episode"`
	Timestamp int64               `json:"timestamp"` // of the event, Unix seconds; 0: not known
	Headers   map[string][]string `json:"headers"`
	Body      string              `json:"body"`        // "" where it is no UTF-8
	Base64    string              `json:"body_base64"` // always the very bytes
}

func newExportObject(l replay.Letter) exportObject {
	o := exportObject{
		letterObject: newLetterObject(l), Outcome: string(l.Outcome), Episode: l.Episode, Timestamp: l.Timestamp,
		Headers: l.Header, Base64: base64.StdEncoding.EncodeToString(l.Body),
	}
	if utf8.Valid(l.Body) {
		o.Body = string(l.Body)
	}
	return o
}

var exportColumns = []string{
	"id", "reason", "code", "status", "detail", "identifier", "event_name", "customer", "value", "attempts", "first_attempt",
	"last_attempt", "dead_at", "stored_at", "subject", "sequence", "request_id", "replays", "expires_at", "outcome", "episode", "body",
}

func csvFields(l replay.Letter) []string {
	o := newExportObject(l)
	return []string{
		strconv.FormatUint(o.ID, 10), o.Reason, o.Code, strconv.Itoa(o.Status), o.Detail, o.Identifier, o.EventName, o.Customer, o.Value,
		strconv.Itoa(o.Attempts), o.FirstAttempt, o.LastAttempt, o.DeadAt, o.StoredAt, o.Subject, strconv.FormatUint(o.Sequence, 10), o.RequestID,
		strconv.Itoa(o.Replays), o.ExpiresAt, o.Outcome, o.Episode, string(l.Body),
	}
}

// writeCSVLine writes one line as RFC 4180 has it. All fields are quoted: where a spreadsheet
// takes another separator, an unquoted one would begin a field in the middle of a text.
func writeCSVLine(w io.Writer, fields []string) error {
	quoted := make([]string, len(fields))
	for i, field := range fields {
		quoted[i] = `"` + strings.ReplaceAll(harmless(field), `"`, `""`) + `"`
	}
	_, err := fmt.Fprintf(w, "%s\r\n", strings.Join(quoted, ","))
	return err
}

var plainNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// harmless is a text as a spreadsheet may show it: no control characters, and nothing that
// it would run. Some look behind blanks, and take the wide forms of the signs too.
func harmless(text string) string {
	text = escapeText(text)
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, " \u00a0\u3000"))
	if strings.ContainsRune("=+-@|%＝＋－＠", first) && !plainNumber.MatchString(text) {
		return "'" + text
	}
	return text
}
