package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// traffic is what producers publish, at a steady pace, until they are told to stop. An
// event of which the outcome is not known is published again by [usage.Publisher], which
// is the same for as long as the test lasts.
type traffic struct {
	t         testing.TB
	publisher *usage.Publisher
	side      chan struct{} // how many publishes may be under way at once

	mu         sync.Mutex
	published  int
	want       map[simulator.Event]int64
	confirmed  map[string]time.Time        // by identifier
	duplicates int                         // stored by an earlier try, of which the answer was lost
	took       map[time.Time]time.Duration // of the publishes, by their beginning

	stop chan struct{}
	wait sync.WaitGroup
}

// customers spread over all partitions.
const customers = 180

func newTraffic(t testing.TB, js jetstream.JetStream) *traffic {
	t.Helper()
	return &traffic{
		t: t, publisher: usage.NewPublisher(js), side: make(chan struct{}, 256), stop: make(chan struct{}),
		want: map[simulator.Event]int64{}, confirmed: map[string]time.Time{}, took: map[time.Time]time.Duration{},
	}
}

// flow publishes that many events a second.
func (tr *traffic) flow(perSecond int) {
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	tr.wait.Go(func() {
		defer ticker.Stop()
		for {
			select {
			case <-tr.stop:
				return
			case <-ticker.C:
			}
			tr.side <- struct{}{}
			tr.wait.Go(func() {
				defer func() { <-tr.side }()
				tr.publish(fmt.Sprintf("cus_%d", tr.next()%customers))
			})
		}
	})
}

// cease stops the flow and returns when everything is confirmed.
func (tr *traffic) cease() {
	close(tr.stop)
	tr.wait.Wait()
}

func (tr *traffic) next() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.published++
	return tr.published
}

// publish stores one event of a customer and returns its identifier and sequence.
func (tr *traffic) publish(customer string) (identifier string, sequence uint64) {
	n := tr.next()
	identifier = fmt.Sprintf("id-%d", n)
	e, err := usage.New(usage.Params{
		EventName: "api_calls", Customer: customer, Identifier: identifier, Value: int64(n%9 + 1), Timestamp: time.Now(),
	})
	if err != nil {
		tr.t.Error(err)
		return identifier, 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	receipt, err := tr.publisher.Publish(ctx, e)
	if err != nil {
		tr.t.Errorf("publish %s: %v", identifier, err)
		return identifier, 0
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.want[simulator.Event{EventName: e.EventName(), Customer: e.Customer(), Identifier: identifier}] = e.Units()
	tr.confirmed[identifier] = time.Now()
	tr.took[began] = time.Since(began)
	if receipt.Duplicate {
		tr.duplicates++
	}
	return identifier, receipt.Sequence
}

func (tr *traffic) stored() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.confirmed)
}

// since are the identifiers that were confirmed from then on.
func (tr *traffic) since(then time.Time) map[string]time.Time {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	since := map[string]time.Time{}
	for id, at := range tr.confirmed {
		if !at.Before(then) {
			since[id] = at
		}
	}
	return since
}

// slowest is how long the slowest publish took of those that began since then.
func (tr *traffic) slowest(then time.Time) (slowest time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for began, took := range tr.took {
		if !began.Before(then) {
			slowest = max(slowest, took)
		}
	}
	return slowest
}
