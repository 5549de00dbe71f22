package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
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
	return "Prints the original body, all headers, what is known of the attempts, where it came from, how long Stripe still takes the event, " +
		"what to do about it, and the commands for that.\n\nExample:\n\n" +
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
		lineage, err := letters.Lineage(ctx, letter)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSONLine(p.Out, newCaseObject(letter, lineage, time.Now()))
		}
		return printCase(p.Out, letter, lineage, time.Now())
	})
}

// caseObject is a case file for programs.
type caseObject struct {
	exportObject

	Left       float64          `json:"expires_in_hours"` // below 0: expired
	SafeUntil  string           `json:"safe_until"`       // end of the safe window; "" where nothing can have been counted
	MayReplay  bool             `json:"replayable"`       // as it stands, without taking a risk
	Refusal    string           `json:"refusal"`          // why not
	Lineage    []ancestorObject `json:"lineage"`          // newest first; as far back as USAGE holds it
	Advice     string           `json:"advice"`
	NextSteps  []string         `json:"next"` // command lines
	Unreadable string           `json:"unreadable"`
}

// ancestorObject is one message that came before the letter.
type ancestorObject struct {
	Sequence   uint64 `json:"sequence"`
	StoredAt   string `json:"stored_at"`
	ReplayOf   uint64 `json:"replay_of"` // the letter; 0: it was published by a producer
	Identifier string `json:"identifier"`
	Edited     bool   `json:"edited"`
}

func newCaseObject(l replay.Letter, lineage []replay.Ancestor, now time.Time) caseObject {
	check := replay.Check(l, replay.Permission{}, now)
	o := caseObject{
		exportObject: newExportObject(l), SafeUntil: rfc3339(l.SafeUntil(safeWindow)), Advice: l.Advice(), Lineage: []ancestorObject{}, NextSteps: nextSteps(l, now),
		MayReplay: check.Outcome == replay.Possible,
	}
	if !o.MayReplay {
		o.Refusal = check.Detail
	}
	if l.Fault != nil {
		o.Unreadable = l.Fault.Error()
	}
	for _, a := range lineage {
		o.Lineage = append(o.Lineage, ancestorObject{a.Sequence, rfc3339(a.StoredAt), a.ReplayOf, a.Identifier, a.Edited})
	}
	if expires := l.ExpiresAt(); !expires.IsZero() {
		o.Left = expires.Sub(now).Hours()
	}
	return o
}

// safeWindow is the default of METERWORKER_SAFE_WINDOW; the workers' own is not known here.
const safeWindow = 23 * time.Hour

// nextSteps are the command lines that may help.
func nextSteps(l replay.Letter, now time.Time) []string {
	id := strconv.FormatUint(l.ID, 10)
	var steps []string
	check := replay.Check(l, replay.Permission{}, now)
	risky := replay.Check(l, replay.Permission{AcceptDoubleBilling: true}, now)
	switch {
	case check.Outcome == replay.Possible:
		steps = append(steps, "meterworker dlq replay "+id+" --wait 30s")
	case risky.Outcome == replay.Possible:
		steps = append(steps, "meterworker dlq replay "+id+" --accept-double-billing --wait 30s")
	}
	if l.Fault == nil {
		edit := "meterworker dlq edit " + id
		if l.MayBeCounted() {
			edit += " --accept-double-billing"
		}
		steps = append(steps, edit)
	}
	return append(steps, "meterworker dlq discard "+id+` --why "…"`)
}

// printCase is the case file for people. Everything in it that came from outside
// is escaped.
func printCase(w io.Writer, l replay.Letter, lineage []replay.Ancestor, now time.Time) error {
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
	line("stored", rfc3339(l.StoredAt))
	line("attempts", attemptsText(l))
	line("died", rfc3339(l.DeadAt))
	line("outage", l.Episode)
	line("time left", timeLeft(l, now))
	line("may be counted", map[bool]string{true: "no", false: "yes, nobody can tell"}[!l.MayBeCounted()])
	line("safe window", safeText(l, now))
	if l.Fault != nil {
		line("unreadable", l.Fault.Error())
	}
	writeLineage(&b, l, lineage)
	line("advice", l.Advice())
	b.WriteString("\nNext\n")
	for _, step := range nextSteps(l, now) {
		fmt.Fprintf(&b, "  %s\n", step)
	}
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

// attemptsText is what is known of the requests that were made: how many, the first and
// the last, and the last answer.
func attemptsText(l replay.Letter) string {
	if l.Attempts == 0 {
		return "none: nothing was sent"
	}
	text := fmt.Sprintf("%d, first %s, last %s", l.Attempts, rfc3339(l.FirstAttempt), rfc3339(l.LastAttempt))
	if l.Status != 0 {
		text += fmt.Sprintf(", answered HTTP %d", l.Status)
	}
	if l.RequestID != "" {
		text += " as " + l.RequestID
	}
	return text
}

// safeText says how long the same identifier cannot count twice.
func safeText(l replay.Letter, now time.Time) string {
	until := l.SafeUntil(safeWindow)
	switch {
	case until.IsZero():
		return ""
	case now.Before(until):
		return fmt.Sprintf("until %s, %s left: a replay cannot count twice", rfc3339(until), until.Sub(now).Truncate(time.Minute))
	default:
		return "over since " + rfc3339(until) + ": a replay dies as ambiguous, or counts twice where that is accepted"
	}
}

func writeLineage(b *strings.Builder, l replay.Letter, lineage []replay.Ancestor) {
	fmt.Fprintf(b, "%-14s %d\n", "replays", l.Replays)
	for _, a := range lineage {
		text := "published by a producer"
		if a.ReplayOf != 0 {
			text = fmt.Sprintf("replay of dead letter %d as %s", a.ReplayOf, cell(a.Identifier, 255))
			if a.Edited {
				text += ", edited"
			}
		}
		fmt.Fprintf(b, "%-14s %s, message %d: %s\n", "", rfc3339(a.StoredAt), a.Sequence, text)
	}
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

// deepest is how deep JSON may be nested to be indented: deeper, the indentation would
// outgrow it.
const deepest = 32

// readable is the body as a terminal may show it: JSON indented, other text as it is, and
// what is no text as a hex dump.
func readable(body []byte) string {
	var b bytes.Buffer
	if depth(body) <= deepest && utf8.Valid(body) && json.Indent(&b, body, "", "  ") == nil {
		return string(escapeJSON(b.Bytes()))
	}
	if utf8.Valid(body) && !bytes.ContainsFunc(body, func(r rune) bool { return !visible(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return escapeLines(string(body))
	}
	return hex.Dump(body)
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
