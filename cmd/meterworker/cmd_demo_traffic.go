package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

const (
	demoCustomers   = 300
	demoFailing     = "cus_stripe_always_fails"
	demoDeleted     = "cus_deleted_at_stripe"
	demoFailingSize = 6 // events: three attempts each, one after the other, about a second and a half an event
	demoDeletedSize = 3
	demoLater       = "cus_rejected_later"
	demoLaterSize   = 3
)

var demoMeters = []string{"api_calls", "storage_gb", "messages"}

// demoMessage is one message of the traffic and what must become of it.
type demoMessage struct {
	event     usage.Event // the zero Event where the message is none
	label     string      // identifier, or what is wrong with it
	subject   string
	body      []byte
	messageID string // "" for what usage.Publisher publishes
	fate      delivery.Disposition
	reason    deadletter.Reason // of fate Buried

	sequence uint64 // in USAGE, once published
}

// stripeEvent is the message in Stripe's books; the zero value where it is none.
func (m *demoMessage) stripeEvent() simulator.Event {
	return simulator.Event{EventName: m.event.EventName(), Customer: m.event.Customer(), Identifier: m.event.Identifier()}
}

// demoTraffic is the whole plan: every message, the faults that Stripe plays, and
// what must come of it. Faults are bound to one identifier and limited in number,
// or bound to one customer, so that what dies is known beforehand.
type demoTraffic struct {
	now   time.Time
	first []*demoMessage
	// again is published when first is confirmed: what repeats an earlier message.
	again  []*demoMessage
	faults []simulator.Fault
	err    error // the first message that could not be made
}

// planDemo plans n messages in all; n is at least demoLeast.
func planDemo(n int, now time.Time) (*demoTraffic, error) {
	t := &demoTraffic{now: now}
	repeats := max(3, n/20)
	t.bad(max(len(demoFlaws), n/100))
	t.hopeless()
	t.conflicts(max(2, n/250))
	good := t.good(n - repeats - len(t.all()))
	t.repeat(good, repeats)
	t.disturb(good, max(len(demoFaults), min(n/40, 120)))
	order := rand.New(rand.NewPCG(1, 2)) // the same demo every time
	order.Shuffle(len(t.first), func(i, j int) { t.first[i], t.first[j] = t.first[j], t.first[i] })
	order.Shuffle(len(t.again), func(i, j int) { t.again[i], t.again[j] = t.again[j], t.again[i] })
	return t, t.err
}

// all are the messages in no order that matters.
func (t *demoTraffic) all() []*demoMessage {
	return slices.Concat(t.first, t.again)
}

// counted is what Stripe's books must hold: the units of each event.
func (t *demoTraffic) counted() map[simulator.Event]int64 {
	counted := map[simulator.Event]int64{}
	for _, m := range t.all() {
		if m.fate == delivery.Delivered {
			counted[m.stripeEvent()] = m.event.Units()
		}
	}
	return counted
}

func (t *demoTraffic) event(meter, customer, identifier string, value int64, ago time.Duration) *demoMessage {
	e, err := usage.New(usage.Params{
		EventName: meter, Customer: customer, Identifier: identifier, Value: value, Timestamp: t.now.Add(-ago),
		Dimensions: map[string]string{"region": "eu"},
	})
	if err == nil {
		var body []byte
		if body, err = e.MarshalJSON(); err == nil {
			return &demoMessage{event: e, label: identifier, subject: e.Subject(), body: body, fate: delivery.Delivered}
		}
	}
	if t.err == nil {
		t.err = fmt.Errorf("event %s: %w", identifier, err)
	}
	return &demoMessage{}
}

func (t *demoTraffic) good(n int) []*demoMessage {
	messages := make([]*demoMessage, n)
	for i := range n {
		customer := fmt.Sprintf("cus_%03d", i/len(demoMeters)%demoCustomers)
		ago := time.Duration(i%3600) * time.Second
		messages[i] = t.event(demoMeters[i%len(demoMeters)], customer, fmt.Sprintf("req-%06d", i), int64(i%97+1), ago)
	}
	t.first = append(t.first, messages...)
	return messages
}

// hopeless are events of a customer whom Stripe always fails on, of one whom it refuses,
// and of one whom it refuses after it has accepted them.
func (t *demoTraffic) hopeless() {
	add := func(n int, customer string, reason deadletter.Reason) {
		for i := range n {
			m := t.event(demoMeters[i%len(demoMeters)], customer, fmt.Sprintf("%s-%d", customer, i), 1, 0)
			m.fate, m.reason = delivery.Buried, reason
			t.first = append(t.first, m)
		}
	}
	add(demoFailingSize, demoFailing, deadletter.ServerError)
	add(demoDeletedSize, demoDeleted, deadletter.Rejected)
	add(demoLaterSize, demoLater, deadletter.RejectedLater) // 200 first: dead by Stripe's report, seconds later
	t.faults = append(t.faults,
		simulator.Fault{Kind: simulator.Error500, Customer: demoFailing},
		simulator.Fault{Kind: simulator.Refused, Customer: demoDeleted, Status: 404, Code: "resource_missing"},
		simulator.Fault{Kind: simulator.RejectedLater, Customer: demoLater})
}

// conflicts are identifiers that are used for two contents: the first is billed,
// the second goes to a person. Each has a customer of its own, so that its lane
// holds these two only and keeps their order: a full lane would not.
func (t *demoTraffic) conflicts(n int) {
	for i := range n {
		customer, identifier := fmt.Sprintf("cus_conflict_%d", i), fmt.Sprintf("conflict-%d", i)
		meter := demoMeters[i%len(demoMeters)]
		first, second := t.event(meter, customer, identifier, 10, 0), t.event(meter, customer, identifier, 11, 0)
		second.fate, second.reason, second.messageID = delivery.Buried, deadletter.IdentifierConflict, "second-"+identifier
		t.first, t.again = append(t.first, first), append(t.again, second)
	}
}

// repeat publishes some of the messages a second time, as a producer does that
// runs its export again: the message id is new, so that JetStream does not drop
// them, and the worker has to know the identifier.
func (t *demoTraffic) repeat(good []*demoMessage, n int) {
	for i := range n {
		m := *good[i*len(good)/n]
		m.fate, m.messageID = delivery.Duplicated, "again-"+m.label
		t.again = append(t.again, &m)
	}
}

// demoFaults are played on one event each, in turn. None takes more than two of
// the three attempts that a server error leaves an event; contention and an
// answer that does not come take none.
var demoFaults = []simulator.Fault{
	{Kind: simulator.Hang, Recorded: true},
	{Kind: simulator.Hang},
	{Kind: simulator.Error500},
	{Kind: simulator.Error500, Times: 2},
	{Kind: simulator.Error500, Recorded: true},
	{Kind: simulator.Error502HTML, Recorded: true},
	{Kind: simulator.Error503},
	{Kind: simulator.Cut},
	{Kind: simulator.Cut, Recorded: true},
	{Kind: simulator.CutBody, Recorded: true},
	{Kind: simulator.Reset, Recorded: true},
	{Kind: simulator.LockTimeout, Times: 2},
	{Kind: simulator.ConcurrentRequests},
	{Kind: simulator.KeyInUse},
}

// demoHangs are the first faults of the list. They are played once: each costs an
// attempt time-out.
const demoHangs = 2

func (t *demoTraffic) disturb(good []*demoMessage, n int) {
	for i := range n {
		kind := i
		if i >= len(demoFaults) {
			kind = demoHangs + (i-demoHangs)%(len(demoFaults)-demoHangs)
		}
		fault := demoFaults[kind]
		fault.Times = max(1, fault.Times)
		fault.Identifier = good[i*len(good)/n].event.Identifier()
		t.faults = append(t.faults, fault)
	}
}

// demoDraft is a message to be spoilt.
type demoDraft struct {
	subject, name, identifier string
	at                        time.Time
	payload                   string // JSON
}

// demoFlaws are the ways in which a producer gets it wrong, each with its reason.
var demoFlaws = []struct {
	reason deadletter.Reason
	spoil  func(*demoDraft)
}{
	{deadletter.Undecodable, func(d *demoDraft) { d.payload = "" }},
	{deadletter.TooLarge, func(d *demoDraft) {
		d.payload = `{"stripe_customer_id":"cus_001","value":1,"note":"` + strings.Repeat("x", usage.MaxBody) + `"}`
	}},
	{deadletter.SubjectMismatch, func(d *demoDraft) { d.subject = usage.EventsSubject(d.name, "cus_somebody_else") }},
	{deadletter.InvalidEventName, func(d *demoDraft) { d.name = "" }},
	{deadletter.InvalidIdentifier, func(d *demoDraft) { d.identifier += strings.Repeat("x", usage.MaxIdentifier) }},
	{deadletter.InvalidPayload, func(d *demoDraft) { d.payload = `["cus_001",1]` }},
	{deadletter.NoCustomer, func(d *demoDraft) { d.payload = `{"value":1}` }},
	{deadletter.InvalidValue, func(d *demoDraft) { d.payload = `{"stripe_customer_id":"cus_001","value":1.5}` }},
	{deadletter.TimestampTooFarInPast, func(d *demoDraft) { d.at = d.at.Add(-usage.MaxAge - 24*time.Hour) }},
	{deadletter.TimestampInFuture, func(d *demoDraft) { d.at = d.at.Add(usage.MaxAhead + 24*time.Hour) }},
}

func (t *demoTraffic) bad(n int) {
	for i := range n {
		flaw := demoFlaws[i%len(demoFlaws)]
		d := demoDraft{
			name: demoMeters[0], identifier: fmt.Sprintf("bad-%d", i), at: t.now,
			payload: `{"stripe_customer_id":"cus_001","value":1}`,
		}
		label := d.identifier
		d.subject = usage.EventsSubject(d.name, "cus_001")
		flaw.spoil(&d)
		t.first = append(t.first, &demoMessage{
			label: label, subject: d.subject, messageID: label, fate: delivery.Buried, reason: flaw.reason,
			body: fmt.Appendf(nil, `{"event_name":%q,"identifier":%q,"timestamp":%d,"payload":%s}`, d.name, d.identifier, d.at.Unix(), d.payload),
		})
	}
}
