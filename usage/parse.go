package usage

import (
	"strconv"
	"time"
)

// Headers that an operator's replay carries. They win over the body on
// usage.replay.*.* and are ignored everywhere else.
const (
	HeaderIdentifier = "Meterworker-Identifier" // the identifier as it was resolved
	HeaderTimestamp  = "Meterworker-Timestamp"  // the timestamp as it was resolved: Unix seconds or RFC 3339

	headerMessageID = "Nats-Msg-Id"
)

// Message is what [Parse] reads of a stored message.
type Message struct {
	Subject string // as published, before the stream's own transform

	// Header returns the first value of the header of exactly this name, or "".
	// It may be nil: no headers.
	Header func(name string) string

	Body     []byte    // not kept and not changed
	Sequence uint64    // in the stream
	Epoch    string    // tells this stream from an earlier one of its name
	StoredAt time.Time // the server's time
}

func (m Message) header(name string) string {
	if m.Header == nil {
		return ""
	}
	return m.Header(name)
}

// Parse reads a stored message. For the same message it returns the same event
// at any time, or refuses; only the time window depends on now, in whole seconds:
// a timestamp exactly MaxAge old or exactly MaxAhead ahead is fine. The error is
// always a *[Refusal].
func Parse(m Message, now time.Time) (Event, error) {
	e, refusal := parse(m, now)
	if refusal != nil {
		return Event{}, refusal
	}
	return e, nil
}

func parse(m Message, now time.Time) (Event, *Refusal) {
	if len(m.Body) > MaxBody {
		return Event{}, refuse(TooLarge, "the body has "+strconv.Itoa(len(m.Body))+" bytes, at most 65536 are taken; send less in one event")
	}
	b, fault := decode(string(m.Body))
	if fault != "" {
		return Event{}, refuse(Undecodable, fault)
	}
	identifier := resolveIdentifier(m, b)
	when, refusal := resolveTimestamp(m, b)
	if refusal != nil {
		return Event{}, refusal.known(identifier, 0)
	}
	e, refusal := b.event(identifier)
	if refusal == nil {
		refusal = checkWindow(when.resolved, now)
	}
	if refusal == nil {
		refusal = checkSubject(m.Subject, e.eventName, e.customer)
	}
	if refusal != nil {
		return Event{}, refusal.known(identifier, when.resolved)
	}
	e.timestamp, e.published, e.dated = when.resolved, when.published, when.dated
	return e, nil
}

// known adds what was resolved before the refusal.
func (r *Refusal) known(identifier value, timestamp int64) *Refusal {
	if checkIdentifier(identifier) == nil {
		r.Identifier = identifier.text
	}
	r.Timestamp = timestamp
	return r
}

// event applies the rules of event name, identifier, payload, customer and
// value, in this order. The pairs are sorted and without duplicates.
func (b body) event(identifier value) (Event, *Refusal) {
	if refusal := checkEventName(b.eventName); refusal != nil {
		return Event{}, refusal
	}
	if refusal := checkIdentifier(identifier); refusal != nil {
		return Event{}, refusal
	}
	if refusal := checkPayload(b); refusal != nil {
		return Event{}, refusal
	}
	customer := find(b.pairs, customerKey).text
	if customer == "" {
		return Event{}, refuse(NoCustomer, "payload.stripe_customer_id is missing or empty; put the id of the Stripe customer there")
	}
	canonical, units, ok := integer(find(b.pairs, valueKey))
	if !ok {
		return Event{}, refuse(InvalidValue, "payload.value is not an integer of at most 15 digits; send whole units, as a number or a string such as 1024")
	}
	return Event{
		eventName: b.eventName.text, identifier: identifier.text, customer: customer,
		value: canonical, units: units, payload: b.pairs,
	}, nil
}
