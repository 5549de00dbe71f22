package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/meters"
)

// Answers by class: what may get better is asked again with pauses, the rest is not.
func TestAsk(t *testing.T) {
	missing := `{"error":{"code":"resource_missing","message":"No such customer"}}`
	tests := []struct {
		name   string
		answer Answer
		err    error
		reads  int
		says   string
	}{
		{"429", Answer{Status: 429}, nil, mostTries, "Stripe answers 429"},
		{"409", Answer{Status: 409}, nil, mostTries, "Stripe answers 409"},
		{"500", Answer{Status: 500}, nil, mostTries, "Stripe answers 500"},
		{"no answer", Answer{}, errors.New("reset"), mostTries, "asked 8 times: reset"},
		{"no permit", Answer{}, fmt.Errorf("%w: no permit", ErrStop), 1, "no permit"},
		{"401", Answer{Status: 401}, nil, 1, "give it read permission"},
		{"403", Answer{Status: 403}, nil, 1, "give it read permission"},
		{"400", Answer{Status: 400, Body: []byte(`{"error":{"code":"odd","message":"what"}}`)}, nil, 1, "Stripe answers 400: odd what"},
		{"missing", Answer{Status: 400, Body: []byte(missing)}, nil, 1, "No such customer"},
		{"redirect", Answer{Status: http.StatusFound}, nil, 1, "Stripe answers 302"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := &Stripe{Read: func(context.Context, string) (Answer, error) { return tt.answer, tt.err }}
			_, err := s.ask(t.Context(), "/")
			if err == nil || !strings.Contains(err.Error(), tt.says) || s.reads != tt.reads {
				t.Errorf("%s: %d reads, %v", tt.name, s.reads, err)
			}
		})
	}
}

// A pause ends with the command, and Stripe's own Retry-After is kept to.
func TestAskInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		s := &Stripe{Read: func(context.Context, string) (Answer, error) {
			return Answer{Status: 429, RetryAfter: time.Minute}, nil
		}}
		began := time.Now()
		if _, err := s.ask(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) || s.reads != 2 || time.Since(began) != 90*time.Second {
			t.Errorf("%d reads in %s, %v", s.reads, time.Since(began), err)
		}
	})
}

// What is no sum of an hour that was asked for is no sum.
func TestOddSummaries(t *testing.T) {
	for name, body := range map[string]string{
		"another hour":   `{"object":"list","data":[{"id":"a","aggregated_value":1,"start_time":3600,"end_time":7200}]}`,
		"half an hour":   `{"object":"list","data":[{"id":"a","aggregated_value":1,"start_time":0,"end_time":1800}]}`,
		"no list":        `{"object":"billing.meter"}`,
		"a page":         `<html>`,
		"an endless one": `{"object":"list","has_more":true,"data":[{"id":"a","aggregated_value":1,"start_time":0,"end_time":3600}]}`,
	} {
		s := &Stripe{Read: func(context.Context, string) (Answer, error) { return Answer{Status: 200, Body: []byte(body)}, nil }}
		if sums, err := s.hours(t.Context(), meters.Meter{ID: "m"}, "cus_1", Period{time.Unix(0, 0), time.Unix(3600, 0)}); err == nil {
			t.Errorf("%s: %v", name, sums)
		}
	}
}

// A customer whom Stripe does not know has used nothing there: every event was rejected.
func TestUnknownCustomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deliver("calls", "cus_1", 5, w.at(1))
		w.before = func(path string) *Answer {
			if strings.Contains(path, "summaries") {
				return &Answer{Status: 404, Body: []byte(`{"error":{"code":"resource_missing"}}`)}
			}
			return nil
		}
		if report := w.do(w.run()); report.Count(Less) != 1 {
			t.Errorf("%+v", report)
		}
	})
}
