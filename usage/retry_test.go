package usage_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
)

// scripted answers publishes with its errors in turn, then stores.
type scripted struct {
	jetstream.JetStream
	answers []error // errSilence: no answer at all
	tries   []try
}

type try struct {
	at            time.Time
	subject, body string
	id            string
}

var errSilence = errors.New("no answer")

// Conn is none: nobody hears of a denial.
func (*scripted) Conn() *nats.Conn { return nil }

func (s *scripted) PublishMsg(ctx context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	s.tries = append(s.tries, try{time.Now(), m.Subject, string(m.Data), m.Header.Get("Nats-Msg-Id")})
	if len(s.tries) > len(s.answers) {
		return &jetstream.PubAck{Stream: "USAGE", Sequence: 7}, nil
	}
	answer := s.answers[len(s.tries)-1]
	if errors.Is(answer, errSilence) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, answer
}

func apiError(code jetstream.ErrorCode, status int, description string) error {
	return fmt.Errorf("nats: %w", &jetstream.APIError{Code: status, ErrorCode: code, Description: description})
}

func repeated(err error, n int) (all []error) {
	for range n {
		all = append(all, err)
	}
	return all
}

func TestPublishTriesAgain(t *testing.T) {
	for name, answer := range map[string]error{
		"no answer":                errSilence,
		"no responders":            jetstream.ErrNoStreamResponse,
		"temporarily unavailable":  apiError(10008, 503, "JetStream system temporarily unavailable"),
		"stream offline":           apiError(10118, 500, "stream is offline"),
		"duplicate in process":     apiError(10158, 409, "duplicate message id is in process"),
		"disk error":               apiError(10077, 503, "write /data: input/output error"),
		"unknown code":             apiError(10999, 500, "something new"),
		"unreadable answer":        jetstream.ErrInvalidJSAck,
		"reconnect buffer is full": nats.ErrReconnectBufExceeded,
	} {
		synctest.Test(t, func(t *testing.T) {
			js := &scripted{answers: repeated(answer, 12)}
			receipt, err := usage.NewPublisher(js).Publish(t.Context(), newEvent(t, "req-1", 1))
			if err != nil || receipt.Sequence != 7 {
				t.Errorf("%s: %+v %v, want a receipt", name, receipt, err)
			}
			checkTries(t, name, js.tries, errors.Is(answer, errSilence))
		})
	}
}

// checkTries: always the same message, and pauses of 100 ms doubling to 5 s, of
// which half is jitter.
func checkTries(t *testing.T, name string, tries []try, silent bool) {
	t.Helper()
	if len(tries) != 13 {
		t.Fatalf("%s: %d tries, want 13", name, len(tries))
	}
	wait := 100 * time.Millisecond
	for i, next := range tries[1:] {
		if next.subject != tries[0].subject || next.body != tries[0].body || next.id != tries[0].id || len(next.id) != 32 {
			t.Errorf("%s: try %d publishes %s as %q, want the same as the first", name, i+2, next.body, next.id)
		}
		paused := next.at.Sub(tries[i].at)
		if silent {
			paused -= 2 * time.Second
		}
		if paused < wait/2 || paused > wait {
			t.Errorf("%s: pause %d is %v, want %v to %v", name, i+1, paused, wait/2, wait)
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func TestPublishDoesNotTryRefusalsAgain(t *testing.T) {
	for name, refusal := range map[string]error{
		"stream full":         apiError(10077, 503, "maximum bytes exceeded"),
		"stream full, count":  apiError(10077, 503, "maximum messages exceeded"),
		"subject full":        apiError(10077, 503, "maximum messages per subject exceeded"),
		"account full":        apiError(10002, 400, "resource limits exceeded for account"),
		"server full":         apiError(10023, 503, "insufficient resources"),
		"memory full":         apiError(10028, 500, "insufficient memory resources available"),
		"storage full":        apiError(10047, 500, "insufficient storage resources available"),
		"message too large":   apiError(10054, 400, "message size exceeds maximum allowed"),
		"headers too large":   apiError(10097, 400, "header size exceeds maximum allowed of 64k"),
		"stream sealed":       apiError(10109, 400, "invalid operation on sealed stream"),
		"payload too large":   nats.ErrMaxPayload,
		"connection closed":   nats.ErrConnectionClosed,
		"connection draining": nats.ErrConnectionDraining,
		"no headers":          nats.ErrHeadersNotSupported,
	} {
		synctest.Test(t, func(t *testing.T) {
			js := &scripted{answers: []error{refusal}}
			_, err := usage.NewPublisher(js).Publish(t.Context(), newEvent(t, "req-1", 1))
			if !errors.Is(err, usage.ErrRefused) || errors.Is(err, usage.ErrUnconfirmed) || !errors.Is(err, refusal) {
				t.Errorf("%s: %v, want ErrRefused and the cause", name, err)
			}
			if len(js.tries) != 1 {
				t.Errorf("%s: %d tries, want 1", name, len(js.tries))
			}
		})
	}
}

// "Nothing was stored" must not be said when the first try may have stored it.
func TestRefusalAfterSilence(t *testing.T) {
	full := apiError(10077, 503, "maximum bytes exceeded")
	for name, test := range map[string]struct {
		first error
		want  error
	}{
		"silence":          {errSilence, usage.ErrUnconfirmed},
		"disk error":       {apiError(10077, 503, "write /data: input/output error"), usage.ErrUnconfirmed},
		"nobody was there": {jetstream.ErrNoStreamResponse, usage.ErrRefused},
	} {
		synctest.Test(t, func(t *testing.T) {
			js := &scripted{answers: []error{test.first, full}}
			_, err := usage.NewPublisher(js).Publish(t.Context(), newEvent(t, "req-1", 1))
			if !errors.Is(err, test.want) || errors.Is(err, usage.ErrRefused) == errors.Is(err, usage.ErrUnconfirmed) {
				t.Errorf("%s, then full: %v, want %v alone", name, err, test.want)
			}
		})
	}
}

func TestPublishEndsWithItsContext(t *testing.T) {
	for name, answer := range map[string]error{"silence": errSilence, "no responders": jetstream.ErrNoStreamResponse} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
			defer cancel()
			start := time.Now()
			_, err := usage.NewPublisher(&scripted{answers: repeated(answer, 1000)}).Publish(ctx, newEvent(t, "req-1", 1))
			if !errors.Is(err, usage.ErrUnconfirmed) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want ErrUnconfirmed and the deadline", name, err)
			}
			if took := time.Since(start); took != 7*time.Second {
				t.Errorf("%s: took %v, want the 7 s of the context", name, took)
			}
		})
	}
}

func TestPublishZeroEvent(t *testing.T) {
	js := &scripted{}
	if _, err := usage.NewPublisher(js).Publish(t.Context(), usage.Event{}); !errors.Is(err, usage.ErrRefused) || len(js.tries) != 0 {
		t.Errorf("%v after %d tries, want ErrRefused without one", err, len(js.tries))
	}
}

// An event that was published without a timestamp must not get another one by
// being published again.
func TestPublishNeverReDates(t *testing.T) {
	js := &scripted{}
	body := `{"event_name":"a","identifier":"i","payload":{"stripe_customer_id":"c","value":1}}`
	for _, m := range []usage.Message{
		message("usage.events.a.c", body),
		message("usage.replay.a.c", body, usage.HeaderTimestamp, fmt.Sprint(noon.Unix())),
	} {
		if _, err := usage.NewPublisher(js).Publish(t.Context(), parsed(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf(`{"event_name":"a","identifier":"i","timestamp":%d,"payload":{"stripe_customer_id":"c","value":1}}`, noon.Unix())
	for _, try := range js.tries {
		if try.body != want {
			t.Errorf("published %s, want %s", try.body, want)
		}
	}
}
