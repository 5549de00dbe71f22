package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/simulator"
)

// perfect is the evidence of a run in which everything went by the plan.
func perfect(t *testing.T, n int) (*demoTraffic, demoEvidence) {
	t.Helper()
	traffic, err := planDemo(n, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var e demoEvidence
	for i, m := range traffic.all() {
		m.sequence = uint64(i + 1)
		e.stored++
		switch m.fate {
		case delivery.Delivered:
			e.stripe.Events = append(e.stripe.Events, simulator.Counted{Event: m.stripeEvent(), Times: 1, Units: m.event.Units()})
		case delivery.Duplicated:
			e.duplicates++
		case delivery.Buried:
			e.letters = append(e.letters, letterFor(m, m.reason))
		case delivery.Released:
			t.Fatalf("%s is planned to be released", m.label)
		}
	}
	return traffic, e
}

func letterFor(m *demoMessage, reason deadletter.Reason) demoLetter {
	outcome := deadletter.Refused
	if reason == deadletter.ServerError {
		outcome = deadletter.Unknown
	}
	return demoLetter{deadletter.Letter{Sequence: m.sequence, Reason: reason, Outcome: outcome, Identifier: m.label}, m.body}
}

func find(traffic *demoTraffic, wanted func(*demoMessage) bool) *demoMessage {
	all := traffic.all()
	return all[slices.IndexFunc(all, wanted)]
}

func delivered(m *demoMessage) bool {
	return m.fate == delivery.Delivered && strings.HasPrefix(m.label, "req-")
}

func (e *demoEvidence) counted(m *demoMessage) *simulator.Counted {
	return &e.stripe.Events[slices.IndexFunc(e.stripe.Events, func(c simulator.Counted) bool { return c.Event == m.stripeEvent() })]
}

func (e *demoEvidence) letter(m *demoMessage) *demoLetter {
	return &e.letters[slices.IndexFunc(e.letters, func(l demoLetter) bool { return l.Sequence == m.sequence })]
}

func (e *demoEvidence) uncount(m *demoMessage) {
	e.stripe.Events = slices.DeleteFunc(e.stripe.Events, func(c simulator.Counted) bool { return c.Event == m.stripeEvent() })
}

func (e *demoEvidence) unbury(m *demoMessage) {
	e.letters = slices.DeleteFunc(e.letters, func(l demoLetter) bool { return l.Sequence == m.sequence })
}

func diedOf(reason deadletter.Reason) func(*demoMessage) bool {
	return func(m *demoMessage) bool { return m.fate == delivery.Buried && m.reason == reason }
}

// Each way in which a run can go wrong must be seen, and named.
func TestDemoBooksNameEachDifference(t *testing.T) {
	tests := []struct {
		name         string
		about        func(*demoMessage) bool
		tamper       func(*demoEvidence, *demoMessage)
		want         string // with %s for the label
		lost, double int
	}{
		{"lost", delivered, (*demoEvidence).uncount, `lost "%s"`, 1, 0},
		{"billed twice", delivered, func(e *demoEvidence, m *demoMessage) {
			c := e.counted(m)
			c.Times, c.Units = 2, 2*c.Units
		}, `billed twice "%s"`, 0, 1},
		{"other units", delivered, func(e *demoEvidence, m *demoMessage) { e.counted(m).Units++ }, `units "%s"`, 0, 0},
		{"dead instead of delivered", delivered, func(e *demoEvidence, m *demoMessage) {
			e.uncount(m)
			e.letters = append(e.letters, letterFor(m, deadletter.Ambiguous))
		}, `dead letter "%s" (ambiguous): expected to be delivered`, 0, 0},
		{"delivered and dead", delivered, func(e *demoEvidence, m *demoMessage) {
			e.letters = append(e.letters, letterFor(m, deadletter.ServerError))
		}, `dead letter "%s" (server_error): expected to be delivered`, 0, 0},
		{"billed instead of dead", diedOf(deadletter.ServerError), func(e *demoEvidence, m *demoMessage) {
			e.unbury(m)
			e.stripe.Events = append(e.stripe.Events, simulator.Counted{Event: m.stripeEvent(), Times: 1, Units: 1})
		}, `billed "%s"`, 0, 0},
		{"letter lost", diedOf(deadletter.Undecodable), (*demoEvidence).unbury, `dead letter "%s": missing, expected with reason undecodable`, 1, 0},
		{"conflict lost", diedOf(deadletter.IdentifierConflict), (*demoEvidence).unbury, `dead letter "%s": missing`, 1, 0},
		{"letter twice", diedOf(deadletter.Rejected), func(e *demoEvidence, m *demoMessage) {
			e.letters = append(e.letters, *e.letter(m))
		}, `dead letter "%s" (rejected): stored twice`, 0, 0},
		{"other reason", diedOf(deadletter.ServerError), func(e *demoEvidence, m *demoMessage) {
			e.letter(m).Reason = deadletter.Ambiguous
		}, `dead letter "%s": reason ambiguous, expected server_error`, 0, 0},
		{"other outcome", diedOf(deadletter.ServerError), func(e *demoEvidence, m *demoMessage) {
			e.letter(m).Outcome = deadletter.Refused
		}, `dead letter "%s" (server_error): outcome refused, expected unknown`, 0, 0},
		{"other body", diedOf(deadletter.InvalidValue), func(e *demoEvidence, m *demoMessage) {
			e.letter(m).body = []byte("{}")
		}, `dead letter "%s" (meter_event_invalid_value): the body`, 0, 0},
		{"letter from nowhere", delivered, func(e *demoEvidence, m *demoMessage) {
			stray := letterFor(m, deadletter.Panic)
			stray.Sequence = 1 << 40
			e.letters = append(e.letters, stray)
		}, `dead letter "%s" (panic): sequence 1099511627776 was never published`, 0, 0},
		{"stranger at Stripe", delivered, func(e *demoEvidence, m *demoMessage) {
			stranger := m.stripeEvent()
			stranger.Customer = "cus_stranger"
			e.stripe.Events = append(e.stripe.Events, simulator.Counted{Event: stranger, Times: 1, Units: 1})
		}, `billed "%s" (api_calls, cus_stranger)`, 0, 0},
		{"duplicate not recognised", delivered, func(e *demoEvidence, _ *demoMessage) { e.duplicates-- }, "duplicates:", 0, 0},
		{"message not stored", delivered, func(e *demoEvidence, _ *demoMessage) { e.stored-- }, "stream USAGE: ", 0, 0},
		{"message not settled", delivered, func(e *demoEvidence, _ *demoMessage) { e.unsettled = 1 }, "1 messages are not settled", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			traffic, e := perfect(t, 200)
			m := find(traffic, func(m *demoMessage) bool { return tt.about(m) && (!delivered(m) || m.event.EventName() == "api_calls") })
			tt.tamper(&e, m)
			b := traffic.audit(e)
			want := strings.ReplaceAll(tt.want, "%s", m.label)
			if named := strings.Join(b.Differences, "\n"); b.Balanced || !strings.Contains(named, want) {
				t.Errorf("balanced %v, differences %q, want %q", b.Balanced, named, want)
			}
			if b.Lost != tt.lost || b.Double != tt.double {
				t.Errorf("lost %d, billed twice %d, want %d, %d", b.Lost, b.Double, tt.lost, tt.double)
			}
			if verdict := b.verdict(); !strings.Contains(verdict, want) || strings.Contains(verdict, "The books balance") {
				t.Errorf("verdict %q", verdict)
			}
		})
	}
}

// The plan must add up for every size, and must leave no doubt about who dies.
func TestDemoPlan(t *testing.T) {
	for _, n := range []int{demoLeast, 101, 300, 5000, 20000} {
		traffic, e := perfect(t, n)
		if b := traffic.audit(e); !b.Balanced || b.Published != n {
			t.Errorf("%d messages: published %d, differences %v", n, b.Published, b.Differences)
		}
		ids, faulted := map[string]bool{}, map[string]int{}
		for _, m := range traffic.all() {
			if id := m.subject + m.messageID + m.label; ids[id] {
				t.Errorf("%d messages: %s is planned twice", n, id)
			} else {
				ids[id] = true
			}
		}
		for _, f := range traffic.faults {
			faulted[f.Identifier]++
			if f.Identifier == "" && f.Customer == "" || f.Identifier != "" && (f.Times < 1 || f.Times >= delivery.MaxAttempts) {
				t.Errorf("%d messages: fault without a bound: %+v", n, f)
			}
		}
		delete(faulted, "")
		for identifier, faults := range faulted {
			if faults != 1 || strings.HasPrefix(identifier, "conflict-") {
				t.Errorf("%d messages: %d faults on %s", n, faults, identifier)
			}
		}
	}
}
