package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// Revision is a corrected event that may take a letter's place.
type Revision struct {
	plan plan
	from Letter

	Identifier string // to be billed under
	Subject    string // to be published on
	Timestamp  int64  // Unix seconds
	Warning    string // what the person should know; "" if nothing
}

// Body is what is published.
func (r Revision) Body() []byte { return r.plan.body }

// Revise decides whether the body may be published in the letter's place, and as what. It
// is judged exactly as the worker will judge it. refusal is "" or says why not.
//
// The identifier stays where nothing under it can have been counted. Where Stripe may know
// it, the corrected event needs one of its own, or it would be taken for the old one.
func Revise(l Letter, body []byte, allowed Permission, now time.Time) (r Revision, refusal string) {
	if l.Fault != nil {
		return r, "its headers cannot be read (" + l.Fault.Error() + "); edit it with the version of meterworker that wrote it"
	}
	if l.MayBeCounted() && !allowed.AcceptDoubleBilling {
		return r, "Stripe may have counted it as it is, and the edited event counts in addition; look at the customer's usage at Stripe, and edit with --accept-double-billing if it is missing there"
	}
	identifier, refusal := newIdentifier(l, body)
	if refusal != "" {
		return r, refusal
	}
	event, refusal := parsed(l, body, identifier, now)
	if refusal != "" {
		return r, refusal
	}
	r = Revision{
		from: l, Identifier: event.Identifier(), Subject: usage.ReplaySubject(event.EventName(), event.Customer()), Timestamp: event.Timestamp(),
		plan: plan{body: body, identifier: event.Identifier()},
	}
	r.plan.subject, r.plan.header = r.Subject, headerOf(l, r.Identifier, allowed)
	r.plan.header[deadletter.HeaderTimestamp] = strconv.FormatInt(r.Timestamp, 10)
	if same(l.Body, body) && r.Identifier == l.Identifier {
		return r, "nothing was changed; to publish it as it is, use `meterworker dlq replay`"
	}
	if l.Reason == deadletter.IdentifierConflict {
		r.Warning = "other usage was reported under the identifier; the edited event counts in addition to it"
	}
	return r, ""
}

// MayBeCounted reports whether something under the letter's identifier may count for
// this very usage.
func (l Letter) MayBeCounted() bool {
	if l.Outcome != deadletter.Refused || l.Reason == deadletter.Ambiguous {
		return true
	}
	return l.Reason == deadletter.RejectedLater && !slices.Contains(notCounted, l.Code)
}

// IdentifierIsUsed reports whether Stripe may know the letter's identifier: then an edit gets
// another one.
func (l Letter) IdentifierIsUsed() bool {
	return l.MayBeCounted() || l.Reason == deadletter.RejectedLater || l.Reason == deadletter.IdentifierConflict
}

// newIdentifier is the identifier of the corrected event; "" leaves it to the body, where
// the letter has none.
func newIdentifier(l Letter, body []byte) (identifier, refusal string) {
	before, after := identifierIn(l.Body), identifierIn(body)
	_, unreadable := objectOf(body) // which the worker's own rule will say
	if unreadable == nil && l.Identifier != "" && after != before && after != l.Identifier {
		return "", "the identifier is not for editing: it is kept where nothing was counted under it, and replaced by a derived one where something may have been; put it back to " + strconv.Quote(before)
	}
	switch {
	case !l.IdentifierIsUsed():
		return l.Identifier, ""
	case l.Identifier == "":
		return "", "its identifier is not known, so no new one can be derived; publish the usage as a new event"
	}
	identifier = renamed(l.Identifier, l.Replays)
	if utf8.RuneCountInString(identifier) > usage.MaxIdentifier {
		return "", fmt.Sprintf("the new identifier would have more than %d characters; publish the usage as a new event", usage.MaxIdentifier)
	}
	return identifier, ""
}

// parsed judges the body as the worker will. Where the timestamp was left alone, it is the
// one that was resolved, so that undated usage is not dated by its correction.
func parsed(l Letter, body []byte, identifier string, now time.Time) (usage.Event, string) {
	headers := map[string]string{usage.HeaderIdentifier: identifier}
	seconds := timestampOf(l)
	if seconds != 0 && bytes.Equal(fieldOf(l.Body, "timestamp"), fieldOf(body, "timestamp")) {
		headers[usage.HeaderTimestamp] = strconv.FormatInt(seconds, 10)
	}
	says := glimpseOf(body, "")
	event, err := usage.Parse(usage.Message{
		Subject: usage.ReplaySubject(says.name, says.customer), Header: func(name string) string { return headers[name] },
		Body: body, Sequence: l.Sequence, Epoch: l.Epoch, StoredAt: l.StoredAt,
	}, now)
	if err != nil {
		return usage.Event{}, "the edited event would die again: " + err.Error()
	}
	return event, ""
}

// fieldOf is a top-level field of a JSON object as it is written; nil if there is none.
func fieldOf(body []byte, name string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	return fields[name]
}

func identifierIn(body []byte) string { return rawText(fieldOf(body, "identifier")) }

// same tells whether two bodies say the same, however they are written.
func same(a, b []byte) bool {
	var left, right bytes.Buffer
	if json.Compact(&left, a) != nil || json.Compact(&right, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(left.Bytes(), right.Bytes())
}

// Publish puts the corrected event in the place of the letter, which is deleted once that is
// stored. The letter is read again before: somebody else may have dealt with it.
func (l *Letters) Publish(ctx context.Context, r Revision) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	result := Result{ID: r.from.ID, Identifier: r.Identifier, Detail: r.Warning}
	switch letter, err := l.Get(ctx, r.from.ID); {
	case err != nil:
		result.Outcome, result.Detail = Failed, err.Error()
		return result
	case !bytes.Equal(letter.Body, r.from.Body) || letter.Sequence != r.from.Sequence:
		result.Outcome, result.Detail = Failed, "the dead letter is another one now; look at it again"
		return result
	}
	return l.carryOut(ctx, r.plan, result)
}
