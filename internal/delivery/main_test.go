package delivery

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	window = 23 * time.Hour
	epoch  = "e1"
)

// pass lets the bubble's clock run on.
func pass(d time.Duration) { <-time.After(d) }

// elapse is pass for the test itself: it also waits until nobody moves any more.
func elapse(d time.Duration) {
	pass(d)
	synctest.Wait()
}

// passOr lets the clock run on until ctx ends.
func passOr(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// body is a usage event as its producer publishes it.
func body(identifier string, value int) []byte {
	return fmt.Appendf(nil, `{"event_name":"api_calls","identifier":%q,"payload":{"stripe_customer_id":"cus_1","value":%d}}`, identifier, value)
}

// datedBody is the same with a timestamp and a customer of choice.
func datedBody(identifier, customer string, value int, when time.Time) []byte {
	return fmt.Appendf(nil, `{"event_name":"api_calls","identifier":%q,"timestamp":%d,"payload":{"stripe_customer_id":%q,"value":%d}}`,
		identifier, when.Unix(), customer, value)
}

func subject(customer string) string { return usage.EventsSubject("api_calls", customer) }

// need is check for what the rest of the test stands on.
func need[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	check(t, what, got, want)
	if got != want {
		t.FailNow()
	}
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
