package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// expectation is what a message must come to, reckoned without the worker.
type expectation struct {
	content

	event    bool   // it is an event, if only of another day
	key      uint64 // the journal's name for its identity
	units    int64
	accepts  bool // a replay for which a person takes the risk of a double bill
	replayOf uint64
	note     string
}

// draft is a message to be published.
type draft struct {
	subject string
	body    string
	note    string
}

// publish stores the message and reckons what is expected of it. w.mu is held.
func (w *world) publish(subject string, header map[string]string, body []byte, note string) *stored {
	before := len(w.outbox.messages)
	m := w.outbox.publish(stored{subject: subject, header: header, body: body, expect: expectation{note: note}})
	if len(w.outbox.messages) == before {
		return m
	}
	m.expect = expected(m)
	m.expect.note = note
	if m.expect.accepts {
		w.books.forgiven[m.expect.identity()]++
	}
	return m
}

// expected reads the message as of its own timestamp, so that its age does not matter.
func expected(m *stored) expectation {
	var e expectation
	read := usage.Message{
		Subject: m.subject, Header: func(name string) string { return m.header[name] }, Body: m.body,
		Sequence: m.sequence, Epoch: epoch, StoredAt: m.at,
	}
	if strings.HasPrefix(m.subject, "usage.replay.") {
		e.accepts = m.header[deadletter.HeaderAcceptDoubleBilling] == "true"
		number, _, _ := strings.Cut(m.header[deadletter.HeaderReplayOf], " ")
		e.replayOf, _ = strconv.ParseUint(number, 10, 64) // 0: of none
	}
	event, err := usage.Parse(read, m.at)
	if refusal, ok := err.(*usage.Refusal); ok { //nolint:errorlint // Parse returns nothing else, unwrapped
		if event, err = usage.Parse(read, time.Unix(refusal.Timestamp, 0)); err != nil {
			return e
		}
	}
	e.event, e.content, e.key, e.units = true, contentOf(event), event.Key(), event.Units()
	return e
}

// producer writes the messages of a schedule.
type producer struct {
	w         *world
	r         *rand.Rand
	customers int
	names     int
	drafts    []draft
}

// event is a usage event of a fresh identifier.
func (p *producer) event(n int, now time.Time) draft {
	customer, name := fmt.Sprintf("cus_%d", 1+p.r.IntN(p.customers)), one(p.r, []string{"api_calls", "storage"}[:p.names]...)
	identifier := fmt.Sprintf(`"identifier":"id-%d",`, n)
	note := fmt.Sprintf("id-%d", n)
	if p.w.met[unnamed] && p.r.IntN(4) == 0 {
		p.w.seen.note(string(unnamed))
		identifier, note = "", "unnamed"
	}
	dated := ""
	if p.r.IntN(3) > 0 || p.w.met[shortMemory] { // undated, it is of a new day when it is published again
		dated = fmt.Sprintf(`"timestamp":%d,`, now.Unix()-int64(p.r.IntN(3600)))
	}
	if p.w.met[wrongDate] && p.r.IntN(4) == 0 {
		p.w.seen.note(string(wrongDate))
		wrong := one(p.r, -36*24*time.Hour, -usage.MaxAge, -usage.MaxAge+between(p.r, time.Second, 10*time.Second), -usage.MaxAge+10*time.Minute, time.Hour, 5*time.Minute+30*time.Second)
		dated = fmt.Sprintf(`"timestamp":%d,`, now.Add(wrong).Unix())
	}
	return draft{
		subject: usage.EventsSubject(name, customer), note: note,
		body: fmt.Sprintf(`{"event_name":%q,%s%s"payload":{"stripe_customer_id":%q,"value":%d}}`, name, identifier, dated, customer, 1+p.r.IntN(9)),
	}
}

// bad is a message that is no event.
func (p *producer) bad() draft {
	p.w.seen.note(string(badInput))
	const subject = "usage.events.api_calls.cus_1"
	d := one(p.r,
		draft{subject: subject, body: ``},
		draft{subject: subject, body: `{"event_name":`},
		draft{subject: subject, body: strings.Repeat("x", usage.MaxBody+1)},
		draft{subject: subject, body: `{"identifier":"b","payload":{"stripe_customer_id":"cus_1","value":1}}`},
		draft{subject: subject, body: `{"event_name":"api_calls","identifier":"","payload":{"stripe_customer_id":"cus_1","value":1}}`},
		draft{subject: subject, body: `{"event_name":"api_calls","identifier":"b","payload":{"stripe_customer_id":"cus_1","value":1,"region":{}}}`},
		draft{subject: subject, body: `{"event_name":"api_calls","identifier":"b","payload":{"value":1}}`},
		draft{subject: subject, body: `{"event_name":"api_calls","identifier":"b","payload":{"stripe_customer_id":"cus_1","value":1.5}}`},
		draft{subject: "usage.events.storage.cus_1", body: `{"event_name":"api_calls","identifier":"b","payload":{"stripe_customer_id":"cus_1","value":1}}`},
	)
	d.note = "bad"
	return d
}

// plan draws the messages and when they are published.
func (w *world) traffic(span time.Duration) {
	r := w.dice.draw("traffic")
	p := &producer{w: w, r: r, customers: 1 + r.IntN(4), names: 1 + r.IntN(2)}
	n := 6 + r.IntN(14)
	for i := range n {
		at := between(r, 0, 3*time.Second)
		if r.IntN(3) == 0 {
			at = between(r, 0, span)
		}
		d := p.event(i, w.began.Add(at))
		w.at(at, "publishes", func() { w.send(d) })
		w.again(r, p, d, at, span)
	}
	if w.met[badInput] {
		for range 1 + r.IntN(3) {
			d := p.bad()
			w.at(between(r, 0, span/2), "publishes", func() { w.send(d) })
		}
	}
	w.outbox.planned, w.drafts = n, p.drafts
}

// again plans what the producer does with the same identifier later on.
func (w *world) again(r *rand.Rand, p *producer, d draft, at, span time.Duration) {
	if w.met[publishedTwice] && r.IntN(3) == 0 {
		w.seen.note(string(publishedTwice))
		w.at(at+between(r, time.Second, 5*time.Minute), "publishes again", func() { w.send(d) })
	}
	if w.met[publishedLater] && r.IntN(3) == 0 {
		w.seen.note(string(publishedLater))
		w.at(at+between(r, 0, span), "publishes again", func() { w.send(d) })
		if r.IntN(2) == 0 { // past Stripe's memory
			w.at(at+between(r, memory, memory+6*time.Hour), "publishes again", func() { w.send(d) })
		}
	}
	if w.met[otherContent] && strings.Contains(d.body, "identifier") && r.IntN(3) == 0 {
		w.seen.note(string(otherContent))
		other := d
		other.body = strings.Replace(d.body, `"value":`, `"value":7`, 1)
		other.note += ", other content"
		w.at(at+between(r, 0, 2*time.Minute), "publishes other content", func() { w.send(other) })
	}
	if w.met[otherContent] && w.met[publishedLater] && r.IntN(3) == 0 {
		w.at(at+between(r, 0, span), "publishes again", func() { w.send(p.drafts[r.IntN(len(p.drafts))]) })
	}
	p.drafts = append(p.drafts, d)
}

// send publishes as the Publisher does, with a hash of subject and body for an id.
func (w *world) send(d draft) {
	header := map[string]string{}
	if strings.Contains(d.body, `"identifier"`) {
		header["Nats-Msg-Id"] = strconv.FormatUint(hashOf(d.subject+d.body), 36)
	}
	w.lock(func() { w.publish(d.subject, header, []byte(d.body), d.note) })
}

// partitions of a world: one for even halves of the seeds, two for the others.
const partitions = 2

// partitionOf is the stream's own mapping: by event name and customer.
func partitionOf(subject string) int {
	tokens := strings.SplitN(subject, ".", 3)
	return int(hashOf(tokens[len(tokens)-1]) % partitions)
}
