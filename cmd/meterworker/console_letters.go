package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/replay"
)

// pageWords puts what refusals and advice say for a terminal into words for a page.
var pageWords = strings.NewReplacer(
	"; name it by its id, or give --yes, to replay it all the same", "",
	"replay with --accept-double-billing if", "replay it, accepting that the customer may be billed twice, if",
	"edit with --accept-double-billing if", "edit it, accepting that the customer may be billed twice, if",
	"; to publish it as it is, use `meterworker dlq replay`", "; to publish it as it is, replay it",
)

// withLetters connects and opens the dead letters.
func (k *desk) withLetters(ctx context.Context, work func(context.Context, *client, *replay.Letters) error) error {
	return k.with(ctx, func(ctx context.Context, conn *client) error {
		letters, err := replay.Open(ctx, conn.js)
		if err != nil {
			return err // names the stream
		}
		return work(ctx, conn, letters)
	})
}

// filterOf reads a query as the commands read their flags.
func filterOf(q console.Query, now time.Time) (replay.Filter, error) {
	given := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	flags := LetterFilter{
		Reason: q.Reasons, EventName: given(q.EventName), Customer: given(q.Customer), Code: given(q.Code),
		Episode: given(q.Episode), Since: given(q.Since), Until: given(q.Until),
	}
	f, err := flags.filter(now)
	if err != nil {
		return f, errors.New(strings.ReplaceAll(err.Error(), "--", ""))
	}
	f.Text, f.From, f.Through, f.Limit = q.Text, q.From, q.Through, q.Limit
	return f, nil
}

// Resolve implements console.Operator.
func (k *desk) Resolve(q console.Query) (console.Query, error) {
	f, err := filterOf(q, time.Now())
	q.Since, q.Until = rfc3339(f.Since), rfc3339(f.Until)
	return q, err
}

// Letters implements console.Operator.
func (k *desk) Letters(ctx context.Context, q console.Query, visit func(console.Letter) error) error {
	f, err := filterOf(q, time.Now())
	if err != nil {
		return err
	}
	return k.withLetters(ctx, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		return letters.Each(ctx, f, func(l replay.Letter) error { return visit(console.Letter(newLetterObject(l))) })
	})
}

// Groups implements console.Operator.
func (k *desk) Groups(ctx context.Context, q console.Query) (groups []console.Group, err error) {
	f, err := filterOf(q, time.Now())
	if err != nil {
		return nil, err
	}
	err = k.withLetters(ctx, func(ctx context.Context, _ *client, letters *replay.Letters) error {
		found, err := letters.Groups(ctx, f)
		for _, g := range found {
			groups = append(groups, console.Group(newGroupObject(g)))
		}
		return err
	})
	return groups, err
}

// Case implements console.Operator.
func (k *desk) Case(ctx context.Context, id uint64) (found *console.Case, err error) {
	err = k.withLetters(ctx, func(ctx context.Context, conn *client, letters *replay.Letters) error {
		letter, err := letters.Get(ctx, id)
		if errors.Is(err, replay.ErrNotFound) {
			return fmt.Errorf("dead letter %d: %w", id, console.ErrNotFound)
		}
		if err != nil {
			return err
		}
		lineage, err := letters.Lineage(ctx, letter)
		if err != nil {
			return err
		}
		if found, err = newCase(letter, lineage, time.Now()); err != nil {
			return err
		}
		return addHistory(ctx, conn, found, letter, lineage)
	})
	return found, err
}

// mostHistory bounds the records that are looked at for one case file.
const mostHistory = 500

// addHistory finds what people did about the letter, and about those before it.
func addHistory(ctx context.Context, conn *client, c *console.Case, l replay.Letter, lineage []replay.Ancestor) error {
	trail, err := audit.Open(ctx, conn.js)
	if err != nil {
		return err
	}
	ids, since, looked := []uint64{l.ID}, l.StoredAt, 0
	for _, a := range lineage {
		ids, since = append(ids, a.ReplayOf), a.StoredAt
	}
	errFar := errors.New("far enough")
	err = trail.Back(ctx, audit.Filter{Since: since}, 0, func(r audit.Record) error {
		if looked++; looked > mostHistory {
			c.HistoryCut = true
			return errFar
		}
		if i := slices.IndexFunc(r.Letters, func(named audit.Letter) bool { return named.ID != 0 && slices.Contains(ids, named.ID) }); i >= 0 {
			of := r.Letters[i]
			r.Letters = []audit.Letter{of} // a record of many is about this one here
			c.History = append(c.History, newConsoleRecord(r))
		}
		return nil
	})
	if errors.Is(err, errFar) {
		return nil
	}
	return err
}

// newCase is the case file without its history.
func newCase(l replay.Letter, lineage []replay.Ancestor, now time.Time) (*console.Case, error) {
	object := newCaseObject(l, lineage, now)
	document, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("dead letter %d: %w", l.ID, err)
	}
	c := &console.Case{
		Letter: console.Letter(newLetterObject(l)), Document: document,
		Body: readable(l.Body), Bytes: len(l.Body), Digest: audit.Digest(l.Body), Unreadable: object.Unreadable,
		Counted: l.MayBeCounted(), AttemptsAs: attemptsText(l), TimeLeft: timeLeft(l, now), SafeWindow: safeText(l, now),
		Advice: pageWords.Replace(l.Advice()), Commands: object.NextSteps,
		MayEdit: l.Fault == nil, EditRisk: l.MayBeCounted(), BilledAs: l.Identifier, NewIdentifier: l.IdentifierIsUsed(),
	}
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		for _, value := range l.Header[name] {
			c.Headers = append(c.Headers, console.Field{Name: name, Value: value})
		}
	}
	for _, a := range lineage {
		c.Lineage = append(c.Lineage, console.Ancestor{StoredAt: rfc3339(a.StoredAt), Sequence: a.Sequence, ReplayOf: a.ReplayOf, Identifier: a.Identifier, Edited: a.Edited})
	}
	addChoices(c, l, now)
	addEditable(c, l)
	return c, nil
}

// addChoices says what a replay would be.
func addChoices(c *console.Case, l replay.Letter, now time.Time) {
	plain := replay.Check(l, replay.Permission{Hopeless: true}, now)
	risky := replay.Check(l, replay.Permission{Hopeless: true, AcceptDoubleBilling: true}, now)
	c.MayReplay = plain.Outcome == replay.Possible
	c.NeedsRisk = !c.MayReplay && risky.Outcome == replay.Possible
	if c.MayReplay {
		c.Hopeless = plain.Detail
		return
	}
	c.Refusal = pageWords.Replace(plain.Detail)
}

// editableText is a body as a text field shows it and gives it back; "" for one that such a
// field would change.
func editableText(body []byte) string {
	hidden := func(r rune) bool { return !visible(r) && r != '\n' && r != '\t' }
	switch {
	case depth(body) > deepest || !utf8.Valid(body):
		return ""
	case json.Valid(body):
		return readable(body)
	case bytes.ContainsFunc(body, hidden):
		return ""
	}
	return string(body)
}

// eventOf is the object that a body is; nil for anything else.
func eventOf(body []byte) map[string]any {
	var event map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if depth(body) > deepest || !utf8.Valid(body) || !json.Valid(body) || decoder.Decode(&event) != nil {
		return nil
	}
	return event
}

// addEditable offers the body for editing: as fields where it is an event, and as a whole
// where it is text. A field with what a form would change (breaks, invisible characters) is
// to be edited in the whole, where it stands as an escape.
func addEditable(c *console.Case, l replay.Letter) {
	c.Editable = editableText(l.Body)
	event := eventOf(l.Body)
	if event == nil {
		return
	}
	add := func(name string, value any) {
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		default:
			return
		}
		if !strings.ContainsFunc(name+text, func(r rune) bool { return !visible(r) }) {
			const line = 80
			c.Fields = append(c.Fields, console.EditField{Name: name, Value: text, Long: len(text) > line})
		}
	}
	if l.Identifier == "" { // else it is not for editing
		add("identifier", cmp.Or[any](event["identifier"], ""))
	}
	add("event_name", cmp.Or[any](event["event_name"], ""))
	add("timestamp", cmp.Or[any](event["timestamp"], ""))
	payload, _ := event["payload"].(map[string]any)
	for _, key := range []string{"stripe_customer_id", "value"} {
		add("payload."+key, cmp.Or[any](payload[key], ""))
	}
	for _, key := range slices.Sorted(maps.Keys(payload)) {
		if key != "stripe_customer_id" && key != "value" && key != "" {
			add("payload."+key, payload[key])
		}
	}
}
