package sender

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/delivery"
)

// checkAnswer holds for every answer, whatever was on the wire.
func checkAnswer(t interface{ Errorf(string, ...any) }, answer delivery.Answer) {
	if !slices.Contains(delivery.Classes(), answer.Class) {
		t.Errorf("class %d is not on the list", answer.Class)
	}
	if answer.RetryAfter < 0 || answer.RetryAfter > maxRetryAfter || len(answer.Detail) > maxDetail ||
		len(answer.Code) > maxCode || len(answer.RequestID) > maxRequestID || answer.ShouldRetry > delivery.RetryNo {
		t.Errorf("out of bounds: %+v", answer)
	}
	for _, words := range []string{answer.Detail, answer.Code, answer.RequestID} {
		if printable(words, maxDetail) != words || strings.Contains(words, testKey) {
			t.Errorf("unfit for a header or a log: %q", words)
		}
	}
}

// drawObservation draws from what servers say, and from anything.
func drawObservation(t *rapid.T) observation {
	o := answered(rapid.OneOf(rapid.SampledFrom([]int{100, 199, 200, 201, 204, 400, 404, 409, 429, 500, 999}), rapid.IntRange(100, 599), rapid.Int()).Draw(t, "status"), "")
	o.end = end(rapid.OneOf(rapid.Just(uint8(endAnswered)), rapid.Uint8Range(0, uint8(endAnswered)+2)).Draw(t, "end"))
	o.live, o.oversize = rapid.Bool().Draw(t, "live"), rapid.Bool().Draw(t, "oversize")
	o.identifier = rapid.OneOf(rapid.Just(ours), rapid.StringN(1, 255, -1)).Draw(t, "identifier")
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "true", "false", "0", "-1", "300", "1e9", "global-rate", "resource-specific", "x-concurrency", at10000, testKey,
		"lock_timeout", "idempotency_error", "duplicate_meter_event", "livemode_mismatch", "An event already exists with identifier " + ours + ".",
	}))
	for _, name := range []string{"Retry-After", "Request-Id", "Stripe-Should-Retry", "Idempotent-Replayed", "Stripe-Rate-Limited-Reason", "Date"} {
		if rapid.Bool().Draw(t, name+" is there") {
			o.header[name] = rapid.SliceOfN(word, 0, 2).Draw(t, name)
		}
	}
	body := rapid.OneOf(rapid.Just([]byte(accepted)), rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.SampledFrom([]string{accepted, "<html>", "null", `{"error":null}`, `{"error":{}}`, padded(100)}), func(s string) []byte { return []byte(s) }),
		rapid.Map(rapid.SliceOfN(word, 3, 3), func(w []string) []byte { return []byte(errorBody(w[0], w[1], w[2])) }))
	o.body = body.Draw(t, "body")
	if o.end != endAnswered && rapid.Bool().Draw(t, "error") {
		o.err = errors.New(word.Draw(t, "words"))
	}
	return o
}

// Whatever is observed has one class, always the same, and is a delivery only with
// a 200 that names the event and does not deny the mode.
func TestClassifierIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawObservation(t)
		answer := classify(o)
		checkAnswer(t, answer)
		o.header, o.body = o.header.Clone(), bytes.Clone(o.body)
		if again := classify(o); again != answer {
			t.Fatalf("not deterministic: %+v, %+v", answer, again)
		}
		whole := o.end == endAnswered
		if answer.Class == delivery.Accepted && (!whole || o.status != http.StatusOK || !bytes.Contains(o.body, []byte(`"identifier"`))) {
			t.Fatalf("accepted: %+v", o)
		}
		if answer.Class == delivery.Duplicate && (!whole || o.status != http.StatusBadRequest) {
			t.Fatalf("a duplicate: %+v", o)
		}
		if (answer.Class == delivery.NotSent) != (o.end == endUnsent) {
			t.Fatalf("not sent: %+v, %v", o, answer.Class)
		}
		// A definite no needs Stripe's own words: a proxy between knows nothing of the event.
		if answer.Class == delivery.Refused && (o.status < 400 || o.status > 499 || o.reply().Error == nil) {
			t.Fatalf("refused by %+v", o)
		}
	})
}

// FuzzReply answers one attempt with any bytes, through Go's client and stripe-go.
func FuzzReply(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, reply := range []string{
		"", "HTTP/1.1 2", ok + "\r\n" + accepted, ok + "Content-Length: 20\r\n\r\n" + accepted, ok + "Content-Length: 900\r\n\r\n" + accepted,
		ok + "Transfer-Encoding: chunked\r\n\r\n46\r\n" + accepted + "\r\n0\r\n\r\n", ok + "Content-Encoding: gzip\r\n\r\n" + gzipped(accepted),
		"HTTP/1.1 103 Early Hints\r\n\r\n" + ok + "\r\n" + accepted, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 308 X\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "HTTP/1.1 401 X\r\n\r\n" + errorBody("", "Invalid API Key provided: "+testKey, ""),
		"HTTP/1.1 400 X\r\n\r\n" + errorBody("", "An event already exists with identifier req-1.", ""), "HTTP/1.1 999 X\r\nRetry-After: 9\r\n\r\n",
		"HTTP/1.1 429 X\r\nStripe-Rate-Limited-Reason: global-rate\r\n\r\n", "HTTP/1.0 500\r\nStripe-Should-Retry: false\r\n\r\n<html>", "HTTP/2.0 200 OK\r\n\r\n",
	} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		var served sync.WaitGroup
		cfg := testConfig("http://127.0.0.1:1")
		v, err := newV1(cfg, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			served.Go(func() {
				defer func() { _ = far.Close() }()
				if request(far) != nil {
					_, _ = far.Write(reply)
				}
			})
			return near, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		answer := v.Send(t.Context(), testAttempt(t))
		v.Close()
		served.Wait()
		checkAnswer(t, answer)
		switch answer.Class {
		case delivery.NotSent:
			t.Errorf("the request was written: %+v", answer)
		case delivery.Accepted:
			if answer.Status != http.StatusOK || !bytes.Contains(reply, []byte("HTTP/1.")) {
				t.Errorf("accepted: %q", reply)
			}
		case delivery.Duplicate, delivery.Refused, delivery.Throttled, delivery.Contended, delivery.ServerFault, delivery.Unexpected,
			delivery.NoAnswer, delivery.SetupFault, delivery.ForeignReply:
		}
	})
}
