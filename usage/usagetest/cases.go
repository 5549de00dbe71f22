// Package usagetest is a corpus of messages, good and bad, each with the reason
// for which it must be refused. The parser, its schema and the whole worker are
// held against the same corpus.
//
// Invariants:
//
//   - Every subject is one that the stream of a worker takes.
//   - The deliverable cases are different events: no two share event name, customer
//     and identifier, also across calls with different times.
package usagetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// Case is one message.
type Case struct {
	Name    string // unique in the corpus
	Subject string
	Headers map[string][]string // nil: none

	// Body may exceed NATS's default max_payload of 1 MiB; the server then
	// refuses the producer.
	Body []byte

	Reason string // for which it must be refused; "" where it is deliverable
}

// Cases returns the corpus as of now. Read within minutes of now, each case keeps
// its reason; [EdgeOfWindow] has those for which every second counts.
func Cases(now time.Time) []Case {
	b := builder{now: now}
	return slices.Concat(
		b.notEvents(), b.escapes(), b.sizes(), b.keys(),
		b.eventNames(), b.identifiers(), b.customers(), b.values(), b.dimensions(),
		b.timestamps(), b.subjects(), b.headers(), b.replays(),
	)
}

const subject = "usage.events.api_calls.cus_123"

// builder makes cases that are valid but for what each is about.
type builder struct{ now time.Time }

// event is a body in parts, each raw JSON. "-" leaves a key out, "" stands for
// something valid.
type event struct{ name, identifier, timestamp, customer, value, more string }

func (b builder) body(caseName string, e event) []byte {
	var members, pairs []string
	add := func(to *[]string, key, raw, valid string) {
		switch raw {
		case "-":
			return
		case "":
			raw = valid
		}
		*to = append(*to, `"`+key+`":`+raw)
	}
	add(&pairs, "stripe_customer_id", e.customer, `"cus_123"`)
	add(&pairs, "value", e.value, "1024")
	if e.more != "" {
		pairs = append(pairs, e.more)
	}
	add(&members, "event_name", e.name, `"api_calls"`)
	add(&members, "identifier", e.identifier, strconv.Quote(b.identifier(caseName)))
	add(&members, "timestamp", e.timestamp, fmt.Sprint(b.now.Unix()))
	add(&members, "payload", "{"+strings.Join(pairs, ",")+"}", "")
	return []byte("{" + strings.Join(members, ",") + "}")
}

// identifier is unique for the case and the time.
func (b builder) identifier(caseName string) string {
	return fmt.Sprintf("case %d %s", b.now.Unix(), caseName)
}

func (b builder) is(name string, e event, reason usage.Reason) Case {
	return Case{Name: name, Subject: subject, Body: b.body(name, e), Reason: string(reason)}
}

func (b builder) on(subject, name string, e event, reason usage.Reason) Case {
	c := b.is(name, e, reason)
	c.Subject = subject
	return c
}

func (b builder) with(headers map[string][]string, name string, e event, reason usage.Reason) Case {
	c := b.is(name, e, reason)
	c.Headers = headers
	return c
}

func raw(name, body string, reason usage.Reason) Case {
	return Case{Name: name, Subject: subject, Body: []byte(body), Reason: string(reason)}
}

// deliverable is no reason to refuse.
const deliverable usage.Reason = ""

// characters returns a JSON string of n characters.
func characters(n int, character string) string {
	return `"` + strings.Repeat(character, n) + `"`
}
