package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/replay"
)

// DLQShowCmd prints one dead letter's case file.
type DLQShowCmd struct {
	ClientSettings
	ID     string `arg:"" name:"id" help:"Id of the dead letter, as the list shows it."`
	Output string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json."`
}

// Help shows how the command is used.
func (*DLQShowCmd) Help() string {
	return "Prints the original body, all headers, how long Stripe still takes the event, and what to do about it.\n\nExample:\n\n" +
		"  meterworker dlq show 17"
}

// Run prints the letter.
func (c *DLQShowCmd) Run(ctx context.Context, p *process) error {
	ids, err := parseIDs([]string{c.ID})
	if err != nil {
		return &usageError{err}
	}
	return withLetters(ctx, p, c, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		letter, err := letters.Get(ctx, ids[0])
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSONLine(p.Out, newCaseObject(letter, time.Now()))
		}
		return printCase(p.Out, letter, time.Now())
	})
}

// caseObject is a case file for programs.
type caseObject struct {
	letterObject

	Outcome string              `json:"outcome"` // refused or unknown: may Stripe have counted it?
	Episode string              `json:"episode"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`             // "" where it is no UTF-8
	Base64  string              `json:"body_base64"`      // always the very bytes
	Left    float64             `json:"expires_in_hours"` // below 0: expired
	Advice  string              `json:"advice"`
}

func newCaseObject(l replay.Letter, now time.Time) caseObject {
	o := caseObject{
		letterObject: newLetterObject(l), Outcome: string(l.Outcome), Episode: l.Episode, Headers: l.Header,
		Base64: base64.StdEncoding.EncodeToString(l.Body), Advice: l.Advice(),
	}
	if utf8.Valid(l.Body) {
		o.Body = string(l.Body)
	}
	if expires := l.ExpiresAt(); !expires.IsZero() {
		o.Left = expires.Sub(now).Hours()
	}
	return o
}

// printCase is the case file for people. Everything in it that came from outside
// is escaped.
func printCase(w io.Writer, l replay.Letter, now time.Time) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s %s\n", name, escapeText(value))
		}
	}
	fmt.Fprintf(&b, "Dead letter %d\n\n", l.ID)
	line("reason", string(l.Reason))
	line("detail", l.Detail)
	line("code", l.Code)
	line("event name", l.EventName())
	line("customer", l.Customer())
	line("value", l.Value())
	line("identifier", l.Identifier)
	line("died", rfc3339(l.DeadAt))
	line("time left", timeLeft(l, now))
	line("may be counted", map[bool]string{true: "no", false: "yes, nobody can tell"}[l.Outcome == "refused"])
	if l.Fault != nil {
		line("unreadable", l.Fault.Error())
	}
	line("advice", l.Advice())
	b.WriteString("\nHeaders\n")
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		for _, value := range l.Header[name] {
			fmt.Fprintf(&b, "  %s: %s\n", escapeText(name), escapeText(value))
		}
	}
	fmt.Fprintf(&b, "\nBody (%d bytes)\n%s\n", len(l.Body), readable(l.Body))
	_, err := io.WriteString(w, b.String())
	return err
}

// timeLeft says how long Stripe still takes the event.
func timeLeft(l replay.Letter, now time.Time) string {
	expires := l.ExpiresAt()
	if expires.IsZero() {
		return "not known"
	}
	left := expires.Sub(now).Truncate(time.Minute)
	if left <= 0 {
		return "none: Stripe takes it no more since " + rfc3339(expires)
	}
	return fmt.Sprintf("%dd %dh %dm, until %s", left/(24*time.Hour), left/time.Hour%24, left/time.Minute%60, rfc3339(expires))
}

// readable is the body as a terminal may show it: JSON indented, unless it is
// nested so deep that the indentation would outgrow it.
func readable(body []byte) string {
	const deepest = 32
	var b bytes.Buffer
	if depth(body) <= deepest && utf8.Valid(body) && json.Indent(&b, body, "", "  ") == nil {
		return string(escapeJSON(b.Bytes()))
	}
	return escapeLines(string(body))
}

// depth is at least how deep a JSON text is nested.
func depth(body []byte) int {
	deepest, now := 0, 0
	for _, c := range body {
		switch c {
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		}
	}
	return deepest
}
