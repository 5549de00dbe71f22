package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/simulator"
)

// demoLetter is one dead letter as it is stored.
type demoLetter struct {
	deadletter.Letter
	body []byte
}

// demoEvidence is what was found at the end, each from where it is kept: Stripe's
// books, the streams, and of the duplicates, which leave no trace in either, the
// workers' own count.
type demoEvidence struct {
	stripe     simulator.Books
	letters    []demoLetter
	stored     int // messages in USAGE
	unsettled  int // of these, not acked
	duplicates int
}

// demoMeter is what Stripe counted on one meter.
type demoMeter struct {
	Events int   `json:"events"`
	Units  int64 `json:"units"`
}

// demoBooks is the judgement. They balance when every message has come to the end
// that was planned for it and nothing else has happened.
type demoBooks struct {
	Balanced   bool `json:"balanced"`
	Published  int  `json:"published"`
	Delivered  int  `json:"delivered"`
	Duplicates int  `json:"duplicates"`
	Dead       int  `json:"dead"`
	Lost       int  `json:"lost"`   // neither delivered nor dead, nor the duplicate of one
	Double     int  `json:"double"` // billed more than once

	Requests      int64 `json:"requests"`
	PeakPerSecond int   `json:"peak_per_second"`
	RateLimited   int64 `json:"rate_limited"` // 429 for the rate
	Contended     int64 `json:"contended"`    // 429 and 409 for one object
	Violations    int64 `json:"violations"`   // calls for a customer and meter that had one under way

	DeadLetters map[deadletter.Reason]int `json:"dead_letters"`
	Meters      map[string]demoMeter      `json:"meters"`
	Faults      map[simulator.Kind]int64  `json:"faults"`

	Replicas int     `json:"replicas"`
	Seconds  float64 `json:"seconds"` // from the first message to the last settlement

	Differences []string `json:"differences"` // each names what it is about
}

// audit holds the evidence against the plan.
func (t *demoTraffic) audit(e demoEvidence) demoBooks {
	totals := e.stripe.Totals
	b := demoBooks{
		Published: len(t.all()), Duplicates: e.duplicates, Dead: len(e.letters),
		Requests: totals.Requests, PeakPerSecond: totals.PeakPerSecond, RateLimited: totals.RateLimited,
		Contended: totals.Contended, Violations: totals.Violations, Faults: totals.Faults,
		DeadLetters: map[deadletter.Reason]int{}, Meters: map[string]demoMeter{}, Differences: []string{},
	}
	for _, c := range e.stripe.Events {
		meter := b.Meters[c.EventName]
		b.Meters[c.EventName] = demoMeter{meter.Events + c.Times, meter.Units + c.Units}
	}
	astray := b.judgeLetters(t, e)
	b.judgeDeliveries(e.stripe.CheckEvents(t.counted()), astray)
	b.judgeSums(t, e)
	b.Balanced = len(b.Differences) == 0
	return b
}

func (b *demoBooks) differ(format string, args ...any) {
	b.Differences = append(b.Differences, fmt.Sprintf(format, args...))
}

// judgeLetters wants each planned dead letter once, with its reason and the
// original bytes, and no other. It returns the events that have one and should
// have been delivered.
func (b *demoBooks) judgeLetters(t *demoTraffic, e demoEvidence) (astray map[simulator.Event]bool) {
	published, found := map[uint64]*demoMessage{}, map[uint64]bool{}
	for _, m := range t.all() {
		published[m.sequence] = m
	}
	astray = map[simulator.Event]bool{}
	for _, l := range e.letters {
		b.DeadLetters[l.Reason]++
		m := published[l.Sequence]
		switch {
		case m == nil:
			b.differ("dead letter %q (%s): sequence %d was never published", l.Identifier, l.Reason, l.Sequence)
			continue
		case found[l.Sequence]:
			b.differ("dead letter %q (%s): stored twice", m.label, l.Reason)
		case m.fate != delivery.Buried:
			astray[m.stripeEvent()] = true
			b.differ("dead letter %q (%s): expected to be %s", m.label, l.Reason, expectedEnd(m.fate))
		default:
			b.judgeLetter(m, l)
		}
		found[l.Sequence] = true
	}
	b.missingLetters(t, e, found)
	return astray
}

func expectedEnd(fate delivery.Disposition) string {
	if fate == delivery.Duplicated {
		return "recognised as a duplicate"
	}
	return string(fate)
}

func (b *demoBooks) judgeLetter(m *demoMessage, l demoLetter) {
	outcome := deadletter.Refused
	if m.reason == deadletter.ServerError { // Stripe may have counted what it answered with a 500
		outcome = deadletter.Unknown
	}
	if l.Reason != m.reason {
		b.differ("dead letter %q: reason %s, expected %s", m.label, l.Reason, m.reason)
	} else if l.Outcome != outcome {
		b.differ("dead letter %q (%s): outcome %s, expected %s", m.label, l.Reason, l.Outcome, outcome)
	}
	if !bytes.Equal(l.body, m.body) {
		b.differ("dead letter %q (%s): the body is not the one that was published", m.label, l.Reason)
	}
}

// missingLetters are lost, unless Stripe has counted them: then judgeDeliveries
// names them.
func (b *demoBooks) missingLetters(t *demoTraffic, e demoEvidence, found map[uint64]bool) {
	billed := map[simulator.Event]bool{}
	for _, c := range e.stripe.Events {
		billed[c.Event] = true
	}
	for _, m := range t.all() {
		if m.fate != delivery.Buried || found[m.sequence] {
			continue
		}
		if m.reason == deadletter.IdentifierConflict || !billed[m.stripeEvent()] {
			b.Lost++
		}
		b.differ("dead letter %q: missing, expected with reason %s", m.label, m.reason)
	}
}

func (b *demoBooks) judgeDeliveries(r simulator.Report, astray map[simulator.Event]bool) {
	b.Delivered, b.Double = r.Counted, len(r.Doubled)
	name := func(kind string, f simulator.Finding, what string) {
		b.differ("%s %q (%s, %s): %s", kind, f.Identifier, f.EventName, f.Customer, what)
	}
	for _, f := range r.Lost {
		if astray[f.Event] {
			continue // named by its dead letter
		}
		b.Lost++
		name("lost", f, "published, and neither at Stripe nor a dead letter")
	}
	for _, f := range r.Doubled {
		name("billed twice", f, fmt.Sprintf("counted %d times, %d units of %d", f.Times, f.CountedUnits, f.ExpectedUnits))
	}
	for _, f := range r.Unexpected {
		name("billed", f, "Stripe counted what should not have been delivered")
	}
	for _, f := range r.Different {
		name("units", f, fmt.Sprintf("Stripe counted %d units, expected %d", f.CountedUnits, f.ExpectedUnits))
	}
}

// judgeSums looks at what has no name of its own.
func (b *demoBooks) judgeSums(t *demoTraffic, e demoEvidence) {
	duplicates := 0
	for _, m := range t.all() {
		if m.fate == delivery.Duplicated {
			duplicates++
		}
	}
	if e.duplicates != duplicates {
		b.differ("duplicates: %d recognised, %d published", e.duplicates, duplicates)
	}
	if e.stored != b.Published {
		b.differ("stream USAGE: %d messages, %d published", e.stored, b.Published)
	}
	if e.unsettled != 0 {
		b.differ("stream USAGE: %d messages are not settled", e.unsettled)
	}
	if sum := b.Delivered + b.Duplicates + b.Dead; sum != b.Published {
		b.differ("sum: delivered + duplicates + dead is %d, published %d", sum, b.Published)
	}
	slices.Sort(b.Differences)
}
