package sender

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/delivery"
)

// Whatever events are bad, exactly those are refused, and each costs a bounded number of
// requests: two at each level of the halving.
func TestBadEventsAreFound(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, MaxBatch).Draw(r, "events")
		bad := map[string]bool{}
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(n, 12), rapid.ID[int]).Draw(r, "bad") {
			bad[fmt.Sprintf("e%03d", i)] = true
		}
		synctest.Test(t, func(t *testing.T) {
			s := &stripeV2{}
			counted := map[string]int{}
			s.answer = func(b batch) said {
				if slices.ContainsFunc(b.identifiers, func(i string) bool { return bad[i] }) {
					return said{status: 400, body: errorBody("parameter_invalid", "One of them is bad.", "invalid_request_error")}
				}
				for _, identifier := range b.identifiers {
					counted[identifier]++
				}
				return ok
			}
			v := s.open(t)
			defer s.close(v)
			for identifier, a := range together(t, v, attempts(t, n)) {
				want, times := delivery.Accepted, 1
				if bad[identifier] {
					want, times = delivery.Refused, 0
				}
				if a.Class != want || counted[identifier] != times {
					t.Errorf("%s of %d, bad %v: %v, counted %d times", identifier, n, bad, a.Class, counted[identifier])
				}
			}
			if most := 1 + 2*len(bad)*bits.Len(uint(n-1)); len(s.batches) > most {
				t.Errorf("%d requests for %d bad events of %d, at most %d may be", len(s.batches), len(bad), n, most)
			}
			if s.taken != sum(s.sizes())+1 {
				t.Errorf("%d permits for %v", s.taken, s.sizes())
			}
		})
	})
}

// Of several events nobody knows which is the duplicate: it counts in a batch of one.
func TestDuplicateCountsAlone(t *testing.T) {
	for name, body := range map[string]string{
		"by its code":    errorBody("duplicate_meter_event", "", ""),
		"by its message": errorBody("", "An event already exists with identifier e007.", ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stripeV2{answer: func(b batch) said {
					if slices.Contains(b.identifiers, "e007") {
						return said{status: 400, body: body}
					}
					return ok
				}}
				v := s.open(t)
				defer s.close(v)
				for identifier, a := range together(t, v, attempts(t, 20)) {
					want := delivery.Accepted
					if identifier == "e007" {
						want = delivery.Duplicate
					}
					if a.Class != want {
						t.Errorf("%s: %v, want %v", identifier, a.Class, want)
					}
				}
			})
		})
	}
}

// What is no event's fault is everybody's answer, from one request.
func TestOneAnswerForAll(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer said
		want   delivery.Answer
	}{
		{"429", said{status: 429, header: "Retry-After: 7\r\nStripe-Rate-Limited-Reason: endpoint-rate\r\n", body: errorBody("rate_limit", "", "")}, delivery.Answer{Class: delivery.Throttled, RetryAfter: 7 * time.Second}},
		{"409", said{status: 409, body: errorBody("lock_timeout", "", "")}, delivery.Answer{Class: delivery.Contended}},
		{"500, and no more", said{status: 500, header: "Stripe-Should-Retry: false\r\n"}, delivery.Answer{Class: delivery.ServerFault}},
		{"403", said{status: 403, body: errorBody("", "no", "")}, delivery.Answer{Class: delivery.SetupFault}},
		{"404 for the route", said{status: 404, body: errorBody("", "Unrecognized request URL", "")}, delivery.Answer{Class: delivery.SetupFault}},
		{"redirect", said{status: 308, header: "Location: http://127.0.0.1:9/\r\n"}, delivery.Answer{Class: delivery.SetupFault}},
		{"test mode", said{status: 200, body: `{"livemode":false}`}, delivery.Answer{Class: delivery.ForeignReply}},
		{"HTML", said{status: 200, body: "<html>"}, delivery.Answer{Class: delivery.Unexpected}},
		{"400 of a proxy", said{status: 400, body: "<html>"}, delivery.Answer{Class: delivery.Unexpected}},
		{"cut", said{cut: true}, delivery.Answer{Class: delivery.NoAnswer}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stripeV2{answer: func(batch) said { return c.answer }}
				v := s.open(t)
				defer s.close(v)
				counting := 0
				for identifier, a := range together(t, v, attempts(t, 7)) {
					if !a.Shared {
						counting++
					}
					if a.Class != c.want.Class || a.RetryAfter != c.want.RetryAfter || a.ShouldRetry != delivery.RetryUnsaid {
						t.Errorf("%s: %+v, want %+v", identifier, a, c.want)
					}
				}
				if len(s.batches) != 1 || s.made[c.want.Class] != 1 || counting != 1 {
					t.Errorf("%d requests, made %v, %d answers that count", len(s.batches), s.made, counting)
				}
			})
		})
	}
}

// A batch of one keeps Stripe's word on whether to try again.
func TestAloneStripesWordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{answer: func(batch) said { return said{status: 500, header: "Stripe-Should-Retry: false\r\n"} }}
		v := s.open(t)
		defer s.close(v)
		if a := v.Send(t.Context(), attemptOf(t, "e1")); a.ShouldRetry != delivery.RetryNo {
			t.Errorf("%+v", a)
		}
	})
}

// Who is not ready leaves the batch; the others go, in a body of the announced length.
func TestWhoIsNotReadyLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{}
		v := s.open(t)
		defer s.close(v)
		list := attempts(t, 10)
		asked := 0
		for i := range list {
			list[i].Ready = func(context.Context) error {
				asked++
				if i%3 == 0 {
					return errNotReady
				}
				return nil
			}
		}
		answers := together(t, v, list)
		for i, a := range list {
			want := delivery.Accepted
			if i%3 == 0 {
				want = delivery.NotSent
			}
			if got := answers[a.Event.Identifier()].Class; got != want {
				t.Errorf("%s: %v, want %v", a.Event.Identifier(), got, want)
			}
		}
		if len(s.batches) != 1 || len(s.batches[0].identifiers) != 6 || s.batches[0].announced <= 0 || asked != 10 {
			t.Errorf("%+v, asked %d times", s.batches, asked)
		}
	})
}

// Nobody is ready: not a byte of a request is written.
func TestNobodyIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{}
		v := s.open(t)
		defer s.close(v)
		list := attempts(t, 5)
		for i := range list {
			list[i].Ready = func(context.Context) error { return errNotReady }
		}
		for identifier, a := range together(t, v, list) {
			if a.Class != delivery.NotSent || !strings.Contains(a.Detail, errNotReady.Error()) {
				t.Errorf("%s: %+v", identifier, a)
			}
		}
		if len(s.batches) != 0 {
			t.Errorf("%d requests", len(s.batches))
		}
	})
}

// A panic of one event's Ready is that event's.
func TestPanicOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{latency: time.Second}
		v := s.open(t)
		defer s.close(v)
		list := attempts(t, 3)
		poison := attemptOf(t, "poison")
		poison.Ready = func(context.Context) error { panic("poison") }
		caught := make(chan any, 1)
		go func() {
			defer func() { caught <- recover() }()
			v.Send(context.Background(), poison)
		}()
		answers := sendAll(t, v, list)
		if cause := <-caught; cause != "poison" {
			t.Errorf("caught %v", cause)
		}
		for identifier, a := range answers {
			if a.Class != delivery.Accepted {
				t.Errorf("%s: %+v", identifier, a)
			}
		}
	})
}

// The key names the attempts: the same ones have the same key, others another one.
func TestKeyOfABatch(t *testing.T) {
	of := func(keys ...string) string {
		var members []*member
		for _, key := range keys {
			members = append(members, &member{attempt: delivery.Attempt{IdempotencyKey: key}})
		}
		return idempotencyKey(members)
	}
	if first, second := of("a", "b"), of("a", "b"); first != second {
		t.Error("the same attempts have two keys")
	}
	different := []string{of("a"), of("b"), of("a", "b"), of("b", "a"), of("ab"), of("a", "b", "")}
	for i, key := range different {
		if slices.Contains(different[:i], key) {
			t.Errorf("number %d has the key of another batch: %s", i, key)
		}
		if len(key) > 255 {
			t.Errorf("key of %d characters", len(key))
		}
	}
}

// A process that stood still while the events were asked takes new permits and asks again:
// what the first one said is as old as the pause.
func TestFrozenWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{}
		v := s.open(t)
		defer s.close(v)
		list := attempts(t, 10)
		thawed := time.Time{}
		for i := range list {
			list[i].Ready = func(context.Context) error {
				if i == 5 && thawed.IsZero() {
					wait(30 * time.Hour)
					thawed = time.Now()
				}
				if i < 3 && !thawed.IsZero() {
					return errNotReady // past the safe window by now
				}
				return nil
			}
		}
		answers := together(t, v, list)
		for i, a := range list {
			want := delivery.Accepted
			if i < 3 {
				want = delivery.NotSent
			}
			if got := answers[a.Event.Identifier()].Class; got != want {
				t.Errorf("%s: %v, want %v", a.Event.Identifier(), got, want)
			}
		}
		if sizes := s.sizes(); !slices.Equal(sizes, []int{7}) {
			t.Errorf("requests of %v", sizes)
		}
	})
}

// Whoever stops while the request waits for permits is answered then, wherever in the batch.
func TestAnyMemberMayStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{}
		v := s.open(t)
		defer s.close(v)
		if a := v.Send(t.Context(), attemptOf(t, "first")); a.Class != delivery.Accepted { // there is a session
			t.Fatalf("%+v", a)
		}
		s.permit = func(ctx context.Context) error { return passed(ctx, 5*time.Minute) }
		stop, cancel := context.WithCancel(t.Context())
		onItsWay := func(name string, stop context.Context) *member {
			a := attemptOf(t, name)
			a.Stop, a.Ready = stop, func(context.Context) error { return stop.Err() }
			return &member{attempt: a, cut: t.Context(), answered: make(chan delivery.Answer, 1), place: taken}
		}
		members := []*member{onItsWay("goes on", t.Context()), onItsWay("stops", stop)}
		began := time.Now()
		go v.carry(members, nil)
		wait(time.Second)
		cancel()
		if a := <-members[1].answered; a.Class != delivery.NotSent || time.Since(began) != time.Second {
			t.Errorf("%+v after %s", a, time.Since(began))
		}
		if a := <-members[0].answered; a.Class != delivery.Accepted {
			t.Errorf("the other: %+v", a)
		}
	})
}

// passed waits for a time, or for the context's end.
func passed(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
