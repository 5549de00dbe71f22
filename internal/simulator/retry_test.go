package simulator

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestBooksBalanceUnderFaultsAndRetries is a correct sender in small: every lane
// retries with the same identifier until it is accepted or a duplicate. Whatever
// strikes, nothing may be lost or doubled in the books.
func TestBooksBalanceUnderFaultsAndRetries(t *testing.T) {
	const lanes, events = 8, 40
	b := newBench(t, Config{Seed: 3})
	for _, kind := range []Kind{Error500, Error503, Reset, Cut, CutBody, NoContent, OtherIdentifier} {
		b.inject(Fault{Kind: kind, Probability: 0.08, Recorded: true}, Fault{Kind: kind, Probability: 0.08})
	}
	expected := make(map[Event]int64)
	var group sync.WaitGroup
	for lane := range lanes {
		customer := fmt.Sprintf("cus_%d", lane)
		for i := range events {
			expected[Event{EventName: "api_calls", Customer: customer, Identifier: fmt.Sprint(i)}] = 1
		}
		group.Go(func() {
			for i := range events {
				b.persist(customer, fmt.Sprint(i))
			}
		})
	}
	group.Wait()
	books := b.Books()
	if report := books.CheckEvents(expected); !report.Balanced() {
		t.Error(report)
	}
	if books.Violations != 0 || books.ChangedContent != 0 || books.Duplicates == 0 || len(books.Faults) != 7 {
		t.Errorf("totals %+v", books.Totals)
	}
}

// persist sends one event until Stripe has it, with a fresh Idempotency-Key each
// time.
func (b *bench) persist(customer, identifier string) {
	form := b.form(identifier)
	form.Set("payload[stripe_customer_id]", customer)
	for attempt := range 100 {
		r := b.request(http.MethodPost, pathEvents, formType, form.Encode())
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%s-%d", customer, identifier, attempt))
		o := b.outcome(r)
		_, _, message := testReply{body: o.body}.failure()
		accepted := o.status == 200 && o.bodyErr == nil && (testReply{body: o.body}).object(b.t)["identifier"] == identifier
		if accepted || message == "An event already exists with identifier "+identifier {
			return
		}
	}
	b.t.Errorf("%s of %s was never accepted", identifier, customer)
}
