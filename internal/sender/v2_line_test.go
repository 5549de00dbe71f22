package sender

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// A lone event goes at once; what comes beside a request that is under way goes in
// company, after 20 ms at the latest.
func TestNobodyWaitsLongForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: time.Second}
		v := s.open(t)
		defer s.close(v)
		began := time.Now()
		var all sync.WaitGroup
		send := func(identifier string) { all.Go(func() { v.Send(context.Background(), attemptOf(t, identifier)) }) }
		send("first")
		synctest.Wait()
		for _, identifier := range []string{"second", "third", "fourth"} {
			send(identifier)
			wait(gatherFor / 4)
		}
		all.Wait()
		if len(s.batches) != 2 || len(s.batches[1].identifiers) != 3 {
			t.Fatalf("requests: %+v", s.batches)
		}
		if at := s.batches[0].at.Sub(began); at != 0 {
			t.Errorf("a lone event went after %v", at)
		}
		if at := s.batches[1].at.Sub(began); at != gatherFor {
			t.Errorf("company went after %v, want %v", at, gatherFor)
		}
	})
}

// What waits already does not wait for more once nothing else is under way.
func TestCompanyGoesWhenNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: gatherFor / 4}
		v := s.open(t)
		defer s.close(v)
		began := time.Now()
		sendAll(t, v, attempts(t, 10))
		if took := time.Since(began); len(s.batches) != 2 || took != gatherFor/2 {
			t.Errorf("%v in %v", s.sizes(), took)
		}
	})
}

// A backlog goes in full batches, each event once.
func TestBacklogGoesInFullBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: 80 * time.Millisecond}
		v := s.open(t)
		defer s.close(v)
		const events = 2501
		answers := sendAll(t, v, attempts(t, events))
		seen := map[string]bool{}
		for _, b := range s.batches {
			for _, identifier := range b.identifiers {
				if seen[identifier] {
					t.Errorf("%s was sent twice", identifier)
				}
				seen[identifier] = true
			}
		}
		if sizes := s.sizes(); len(seen) != events || slices.Max(sizes) != MaxBatch || len(sizes) > events/MaxBatch+2 {
			t.Errorf("%d events in %v", len(seen), sizes)
		}
		for identifier, answer := range answers {
			if answer.Class != delivery.Accepted {
				t.Errorf("%s: %+v", identifier, answer)
			}
		}
		if s.taken != events+1 { // and one for the session
			t.Errorf("%d permits for %d events and a session", s.taken, events)
		}
	})
}

// A request has as many events as there are permits, and the rest goes later.
func TestAsManyEventsAsPermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: time.Millisecond, atMost: 30}
		v := s.open(t)
		defer s.close(v)
		together(t, v, attempts(t, 100))
		if sizes := s.sizes(); !slices.Equal(sizes, []int{30, 30, 30, 10}) {
			t.Errorf("carried %v", sizes)
		}
		s.batches = nil
		sendAll(t, v, attempts(t, 200))
		if sizes := s.sizes(); slices.Max(sizes) != 30 || sum(sizes) != 200 {
			t.Errorf("sent %v", sizes)
		}
	})
}

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

var errStopping = errors.New("stopping")

// While there are no permits, whoever stops leaves, and its Ready tells the caller why;
// the others stay.
func TestStopWhileThereAreNoPermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		s := &stripeV2{permit: func(ctx context.Context) error {
			select {
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		v := s.open(t)
		defer s.close(v)
		stop, end := context.WithCancel(t.Context())
		var told atomic.Int64
		list := attempts(t, 10)
		leaves := func(context.Context) error { told.Add(1); return errStopping }
		for i := range 5 {
			list[i] = delivery.Attempt{Event: list[i].Event, IdempotencyKey: list[i].IdempotencyKey, Ready: leaves, Stop: stop}
		}
		list[0].Alone, list[9].Alone = true, true
		go func() {
			wait(time.Minute)
			end()
			wait(time.Minute)
			if n := told.Load(); n != 5 {
				t.Errorf("%d were told, want 5", n)
			}
			close(open)
		}()
		answers := sendAll(t, v, list)
		for i, a := range list {
			want := delivery.Accepted
			if i < 5 {
				want = delivery.NotSent
			}
			if got := answers[a.Event.Identifier()].Class; got != want {
				t.Errorf("%s: %v, want %v", a.Event.Identifier(), got, want)
			}
		}
	})
}

// An event that may have been the cause of a failure shares its request with nobody.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: time.Millisecond}
		v := s.open(t)
		defer s.close(v)
		list := attempts(t, 30)
		for i := range 5 {
			list[i*3].Alone = true
		}
		sendAll(t, v, list)
		for _, b := range s.batches {
			for i := range 5 {
				if slices.Contains(b.identifiers, list[i*3].Event.Identifier()) && len(b.identifiers) > 1 {
					t.Errorf("%v in one request", b.identifiers)
				}
			}
		}
	})
}

// A closed sender answers everybody.
func TestCloseAnswersEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{permit: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		v := s.open(t)
		go func() { wait(time.Second); v.Close() }()
		list := attempts(t, 300)
		list[0].Alone = true
		for identifier, a := range sendAll(t, v, list) {
			if a.Class != delivery.NotSent {
				t.Errorf("%s: %+v", identifier, a)
			}
		}
		if a := v.Send(t.Context(), attemptOf(t, "late")); a.Class != delivery.NotSent {
			t.Errorf("after the end: %+v", a)
		}
		s.serving.Wait()
	})
}
