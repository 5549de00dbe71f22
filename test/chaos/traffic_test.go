package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// fate is what must become of a message once it is stored.
type fate uint8

const (
	billed    fate = iota
	repeated       // another message has the same identifier and content: one of them is billed
	contested      // its rival has the same identifier and other content: one is billed, the other buried
	buried         // no event: a dead letter with its reason
)

// knowledge is what the producer knows of a message's storing.
type knowledge uint8

const (
	unpublished knowledge = iota
	confirmed
	unconfirmed // it may be stored: the producer gave up
)

// message is one message of a producer.
type message struct {
	event   usage.Event // the zero Event for buried
	subject string
	body    []byte
	id      string // "": published by usage.Publisher, which makes its own
	fate    fate
	reason  string   // of the dead letter; "" for billed and repeated
	rival   *message // of contested

	hasty bool // its producer gives up soon, and does not publish it again
	known knowledge
}

// entry is the message in Stripe's books.
func (m *message) entry() simulator.Event {
	return simulator.Event{EventName: m.event.EventName(), Customer: m.event.Customer(), Identifier: m.event.Identifier()}
}

// traffic is the messages of a test.
type traffic struct {
	t         testing.TB
	random    *rand.Rand
	label     string // part of every identifier: those of two traffics differ
	customers int
	messages  []*message
	confirmed atomic.Int64
}

func newTraffic(t testing.TB, label string, seed uint64, customers int) *traffic {
	t.Helper()
	return &traffic{t: t, label: label, customers: customers, random: rand.New(rand.NewPCG(seed, 1))}
}

func (tr *traffic) event(customer, identifier string, value int64) *message {
	tr.t.Helper()
	meter := []string{"api_calls", "storage_gb", "messages"}[len(identifier)%3]
	e, err := usage.New(usage.Params{
		EventName: meter, Customer: customer, Identifier: tr.label + "-" + identifier, Value: value, Timestamp: time.Now(),
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		tr.t.Fatal(err)
	}
	return &message{event: e, subject: e.Subject(), body: body}
}

func (tr *traffic) add(m *message) *message {
	tr.messages = append(tr.messages, m)
	return m
}

// good adds n events of random customers; one in hasty, if it is not 0, of a producer
// that gives up soon.
func (tr *traffic) good(n, hasty int) {
	for i := range n {
		m := tr.add(tr.event(fmt.Sprintf("cus_%d", tr.random.IntN(tr.customers)), fmt.Sprintf("good-%d", i), int64(1+tr.random.IntN(99))))
		m.hasty = hasty > 0 && tr.random.IntN(hasty) == 0
	}
}

// again adds copies of n events under message ids of their own, which JetStream
// takes for new.
func (tr *traffic) again(n int) {
	originals := tr.messages
	for i := range n {
		m := *originals[tr.random.IntN(len(originals))]
		m.fate, m.id, m.hasty = repeated, fmt.Sprintf("%s-again-%d", tr.label, i), false
		tr.add(&m)
	}
}

// rerun adds copies of n earlier events, as an export does that is run again days later,
// when neither JetStream nor Stripe remembers them: only the workers' journal does.
func (tr *traffic) rerun(earlier []*message, n int) {
	var sure []*message
	for _, m := range earlier {
		if m.fate == billed && m.known == confirmed {
			sure = append(sure, m)
		}
	}
	tr.random.Shuffle(len(sure), func(i, j int) { sure[i], sure[j] = sure[j], sure[i] })
	for i, original := range sure[:min(n, len(sure))] {
		m := *original
		m.fate, m.id, m.hasty, m.known = repeated, fmt.Sprintf("%s-rerun-%d", tr.label, i), false, unpublished
		tr.add(&m)
	}
}

// conflicts adds n pairs of events with one identifier and two contents.
func (tr *traffic) conflicts(n int) {
	for i := range n {
		customer, identifier := fmt.Sprintf("cus_torn_%d", i), fmt.Sprintf("torn-%d", i)
		a, b := tr.event(customer, identifier, 10), tr.event(customer, identifier, 11)
		a.fate, a.reason, a.rival = contested, "identifier_conflict", b
		b.fate, b.reason, b.rival = contested, "identifier_conflict", a
		tr.add(a)
		tr.add(b)
	}
}

// flaws are ways in which a producer gets it wrong.
var flaws = []struct{ reason, format string }{
	{"undecodable", `{"event_name":"api_calls","identifier":%q`},
	{"invalid_payload", `{"event_name":"api_calls","identifier":%q,"payload":[]}`},
	{"meter_event_no_customer_defined", `{"event_name":"api_calls","identifier":%q,"payload":{"value":1}}`},
	{"meter_event_invalid_value", `{"event_name":"api_calls","identifier":%q,"payload":{"stripe_customer_id":"cus_bad","value":1.5}}`},
	{"timestamp_too_far_in_past", `{"event_name":"api_calls","identifier":%q,"timestamp":1000000000,"payload":{"stripe_customer_id":"cus_bad","value":1}}`},
	{"subject_mismatch", `{"event_name":"api_calls","identifier":%q,"payload":{"stripe_customer_id":"cus_other","value":1}}`},
}

// bad adds n messages that no attempt is made for.
func (tr *traffic) bad(n int) {
	for i := range n {
		flaw, id := flaws[i%len(flaws)], fmt.Sprintf("%s-bad-%d", tr.label, i)
		tr.add(&message{
			subject: usage.EventsSubject("api_calls", "cus_bad"), body: fmt.Appendf(nil, flaw.format, id), id: id,
			fate: buried, reason: flaw.reason,
		})
	}
}

// hot adds n events of one customer, more than a lane holds.
func (tr *traffic) hot(n int) {
	for i := range n {
		tr.add(tr.event("cus_hot", fmt.Sprintf("hot-%03d", i), 1))
	}
}

func (tr *traffic) shuffle() {
	tr.random.Shuffle(len(tr.messages), func(i, j int) {
		tr.messages[i], tr.messages[j] = tr.messages[j], tr.messages[i]
	})
}

// publish stores every message and returns when each is confirmed or given up. side is
// how many are under way at once; pace, if it is not nil, holds each one back.
func (tr *traffic) publish(js jetstream.JetStream, side int, pace func()) {
	publisher := usage.NewPublisher(js)
	ctx := tr.t.Context() // as long as the test lasts
	var wait sync.WaitGroup
	slots := make(chan struct{}, side)
	for _, m := range tr.messages {
		slots <- struct{}{}
		if pace != nil {
			pace()
		}
		wait.Go(func() {
			defer func() { <-slots }()
			tr.store(ctx, publisher, js, m)
		})
	}
	wait.Wait()
}

// haste is when a hasty producer gives up: less than a restart of the server takes.
const haste = 100 * time.Millisecond

func (tr *traffic) store(ctx context.Context, publisher *usage.Publisher, js jetstream.JetStream, m *message) {
	if m.hasty {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, haste)
		defer cancel()
	}
	var err error
	if m.id == "" {
		_, err = publisher.Publish(ctx, m.event)
	} else {
		err = insist(ctx, js, m)
	}
	switch {
	case err == nil:
		m.known = confirmed
		tr.confirmed.Add(1)
	case m.hasty && errors.Is(err, usage.ErrUnconfirmed):
		m.known = unconfirmed
	default:
		tr.t.Errorf("publish %s: %v", m.body, err)
	}
}

// insist publishes under the message's own id until it is confirmed.
func insist(ctx context.Context, js jetstream.JetStream, m *message) error {
	for {
		trying, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := js.PublishMsg(trying, &nats.Msg{Subject: m.subject, Data: m.body}, jetstream.WithMsgID(m.id), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}
