package usage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	customerKey = "stripe_customer_id"
	valueKey    = "value"
)

// Params is what [New] makes an event of.
type Params struct {
	EventName string // names the meter; at most MaxEventName characters

	// Identifier is unique for the event name and customer, at most
	// MaxIdentifier characters. Give the same one whenever the same usage is
	// reported again: it is what keeps usage from being billed twice. Empty,
	// New makes a random one, which protects this Event's own retries only.
	Identifier string

	Timestamp  time.Time         // when the usage happened, cut to seconds; zero means now
	Customer   string            // Stripe's customer id; at most MaxDimension characters
	Value      int64             // units; at most 15 digits; negative takes back
	Dimensions map[string]string // further payload pairs
}

// Field is one pair of an event's payload.
type Field struct{ Key, Value string }

// Event is a usage event. One that [New] or [Parse] returned is valid and never
// changes; the zero Event is none.
type Event struct {
	eventName  string
	identifier string
	customer   string
	value      string // canonical: -?(0|[1-9][0-9]*), never -0
	units      int64
	timestamp  int64  // resolved, Unix seconds
	payload    []pair // sorted by key, customer and value included, each as published

	published int64 // timestamp in the body as published, Unix seconds; see dated
	dated     bool  // whether the body had a timestamp
}

// New makes a valid event of p. The error is always a *[Refusal], for the same
// reasons as [Parse]'s, with the time window checked against the clock.
func New(p Params) (Event, error) {
	now := time.Now()
	if p.Identifier == "" {
		p.Identifier = rand.Text()
	}
	if p.Timestamp.IsZero() {
		p.Timestamp = now
	}
	seconds := p.Timestamp.Unix()
	e, refusal := assemble(p, seconds)
	if refusal == nil {
		refusal = checkWindow(seconds, now)
	}
	if refusal != nil {
		return Event{}, refusal.known(value{kindText, p.Identifier}, seconds)
	}
	return e, nil
}

func assemble(p Params, seconds int64) (Event, *Refusal) {
	b := body{
		eventName: value{kindText, p.EventName},
		payload:   kindObject,
		pairs: []pair{
			{customerKey, value{kindText, p.Customer}},
			{valueKey, value{kindNumber, strconv.FormatInt(p.Value, 10)}},
		},
	}
	for key, dimension := range p.Dimensions {
		b.pairs = append(b.pairs, pair{key, value{kindText, dimension}})
	}
	if key, twice := sortPairs(b.pairs); twice {
		return Event{}, refuse(InvalidPayload, "a dimension is named "+quote(key)+"; use the field of Params for it")
	}
	e, refusal := b.event(value{kindText, p.Identifier})
	if refusal != nil {
		return Event{}, refusal
	}
	e.timestamp, e.published, e.dated = seconds, seconds, true
	if len(e.appendBody(nil)) > MaxBody {
		return Event{}, refuse(TooLarge, "the event takes more than 64 KiB as JSON; give it fewer dimensions")
	}
	return e, nil
}

// EventName names the meter.
func (e Event) EventName() string { return e.eventName }

// Identifier is unique for the event name and customer.
func (e Event) Identifier() string { return e.identifier }

// Customer is payload.stripe_customer_id.
func (e Event) Customer() string { return e.customer }

// Value is payload.value as a canonical decimal integer.
func (e Event) Value() string { return e.value }

// Units is Value as a number, within ±999,999,999,999,999.
func (e Event) Units() int64 { return e.units }

// Timestamp is when the usage happened, in Unix seconds.
func (e Event) Timestamp() int64 { return e.timestamp }

// Payload returns all pairs of the payload, customer and value included, sorted
// by key. The slice is the caller's.
func (e Event) Payload() []Field {
	fields := make([]Field, len(e.payload))
	for i, p := range e.payload {
		fields[i] = Field{p.key, e.textOf(p)}
	}
	return fields
}

func (e Event) textOf(p pair) string {
	if p.key == valueKey {
		return e.value
	}
	return p.value.text
}

// Subject is where producers publish the event.
func (e Event) Subject() string { return EventsSubject(e.eventName, e.customer) }

// Key is the first 64 bits of the SHA-256 of event name, customer and
// identifier, each preceded by its length in bytes as 8 bytes, big-endian: which
// event this is. It depends on the identifier byte for byte.
func (e Event) Key() uint64 {
	var room [256]byte
	b := appendPart(room[:0], e.eventName)
	b = appendPart(b, e.customer)
	b = appendPart(b, e.identifier)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// Fingerprint is the first 32 bits of the SHA-256 of what the event says as
// published: event name, customer, canonical value, timestamp in Unix seconds or
// "absent" where the body had none, and the further payload pairs sorted by key,
// each preceded by its length like those of Key. The identifier is no part of it, and
// the headers of a replay do not change it.
func (e Event) Fingerprint() uint32 {
	var room [512]byte
	b := appendPart(room[:0], e.eventName)
	b = appendPart(b, e.customer)
	b = appendPart(b, e.value)
	if e.dated {
		var digits [20]byte
		b = appendPart(b, string(strconv.AppendInt(digits[:0], e.published, 10)))
	} else {
		b = appendPart(b, "absent")
	}
	for _, p := range e.payload {
		if p.key != customerKey && p.key != valueKey {
			b = appendPart(appendPart(b, p.key), p.value.text)
		}
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint32(sum[:])
}

func appendPart(b []byte, part string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
	return append(b, part...)
}

var errNoEvent = errors.New("usage: the zero Event is no event; make one with New or Parse")

// MarshalJSON returns the message body in its canonical form: value as a number,
// identifier always present. The body of an event from [New] always has a
// timestamp in Unix seconds; the body of one from [Parse] has the timestamp it was
// published with, and none where it had none, so that it keeps its fingerprint.
// ([Publisher.Publish] always sends the timestamp that the event was given.)
func (e Event) MarshalJSON() ([]byte, error) {
	if e.eventName == "" {
		return nil, errNoEvent
	}
	return e.appendBody(make([]byte, 0, 256)), nil
}

func (e Event) appendBody(b []byte) []byte {
	b = appendText(append(b, `{"event_name":`...), e.eventName)
	b = appendText(append(b, `,"identifier":`...), e.identifier)
	if e.dated {
		b = strconv.AppendInt(append(b, `,"timestamp":`...), e.published, 10)
	}
	b = append(b, `,"payload":`...)
	opening := byte('{')
	for _, p := range e.payload {
		b = append(appendText(append(b, opening), p.key), ':')
		opening = ','
		if p.key == valueKey {
			b = append(b, e.value...)
		} else {
			b = appendText(b, p.value.text)
		}
	}
	return append(b, '}', '}')
}

// appendText writes a JSON string. The texts of an event hold no control
// characters, so that two characters need escaping.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			return append(append(b, s...), '"')
		}
		b = append(append(b, s[:i]...), '\\', s[i])
		s = s[i+1:]
	}
}
