package replay

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// Letter is one dead letter as it is stored.
type Letter struct {
	deadletter.Letter

	ID       uint64              // its sequence in USAGE_DLQ
	Epoch    string              // stamp of the USAGE stream that it came from
	Header   map[string][]string // all of them, as stored
	Body     []byte              // the original's, byte for byte
	BuriedAt time.Time           // when USAGE_DLQ stored it
	Fault    error               // a header that cannot be read; the other fields hold what can

	event glimpse
}

// glimpse is what can be told of the event without judging it.
type glimpse struct{ name, customer, value string }

func newLetter(id uint64, epoch, subject string, header map[string][]string, body []byte, buriedAt time.Time) Letter {
	get := func(name string) string {
		if values := header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	read, err := deadletter.Read(get)
	if read.Reason == "" {
		read.Reason = deadletter.ReasonOf(subject)
	}
	return Letter{
		Letter: read, ID: id, Epoch: epoch, Header: header, Body: body, BuriedAt: buriedAt, Fault: err,
		event: glimpseOf(body, read.Subject),
	}
}

// EventName is the body's, else the subject's, else "".
func (l Letter) EventName() string { return l.event.name }

// Customer is the body's, else the subject's, else "".
func (l Letter) Customer() string { return l.event.customer }

// Value is the body's as written there, not checked; "" if there is none.
func (l Letter) Value() string { return l.event.value }

// Died is when it died, or where that is not known, when it was buried.
func (l Letter) Died() time.Time {
	if l.DeadAt.IsZero() {
		return l.BuriedAt
	}
	return l.DeadAt
}

// SafeUntil is until when the same identifier cannot count twice: the safe window after the
// first attempt. It is zero where no attempt can have been counted, or none is known.
func (l Letter) SafeUntil(window time.Duration) time.Time {
	if l.Outcome == deadletter.Refused || l.FirstAttempt.IsZero() {
		return time.Time{}
	}
	return l.FirstAttempt.Add(window)
}

// ExpiresAt is when Stripe stops to take the event: 35 days after its timestamp,
// or after it was stored where the timestamp is not known. It is zero where neither is.
func (l Letter) ExpiresAt() time.Time {
	seconds := l.happened()
	if seconds == 0 || seconds > math.MaxInt64-int64(usage.MaxAge/time.Second) {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC().Add(usage.MaxAge)
}

// happened is when the usage happened, in Unix seconds; 0 if nothing tells.
func (l Letter) happened() int64 {
	if l.Timestamp != 0 || l.StoredAt.IsZero() {
		return l.Timestamp
	}
	return l.StoredAt.Unix()
}

// expired applies the worker's own rule, in whole seconds.
func (l Letter) expired(now time.Time) bool {
	seconds := l.happened()
	return seconds != 0 && seconds < now.Add(-usage.MaxAge).Unix()
}

// glimpseOf reads what it can: a letter is dead often enough because its body
// breaks the rules.
func glimpseOf(body []byte, subject string) glimpse {
	var read struct {
		EventName any                        `json:"event_name"`
		Payload   map[string]json.RawMessage `json:"payload"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	_ = decoder.Decode(&read) // what a wrong type or the end leaves unread stays empty
	g := glimpse{
		name:     textOf(read.EventName),
		customer: rawText(read.Payload["stripe_customer_id"]),
		value:    rawText(read.Payload["value"]),
	}
	name, customer, ok := tokensOf(subject)
	if g.name == "" && ok {
		g.name = decoded(name)
	}
	if g.customer == "" && ok {
		g.customer = decoded(customer)
	}
	return g
}

func rawText(raw json.RawMessage) string {
	var v any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	_ = decoder.Decode(&v)
	return textOf(v)
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func decoded(token string) string {
	if text, err := usage.DecodeToken(token); err == nil {
		return text
	}
	return token
}

// tokensOf takes the encoded event name and customer out of a subject
// usage.events.*.* or usage.replay.*.*; ok is false for one on which nothing can
// be published again.
func tokensOf(subject string) (name, customer string, ok bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 || tokens[0] != "usage" || tokens[1] != "events" && tokens[1] != "replay" {
		return "", "", false
	}
	for _, token := range tokens[2:] {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
			return "", "", false
		}
	}
	return tokens[2], tokens[3], true
}
