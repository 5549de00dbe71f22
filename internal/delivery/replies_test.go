package delivery_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/sender"
	"github.com/meterworker/meterworker/usage"
)

// What Stripe, or whatever answers in its place, may say: from the bytes on the wire to
// what becomes of the event.

const accepted = `{"object":"billing.meter_event","identifier":"req-1","livemode":false}`

// row is one reply, the class it is read as, and the decision after the first such
// reply and after the third in a row.
type row struct {
	name        string
	reply       func(w io.Writer)
	class       delivery.Class
	first, last string
}

// http1 is a reply of HTTP/1.1 with its body's length.
func http1(status, body string, header ...string) func(io.Writer) {
	head := strings.Join(append(header, fmt.Sprintf("Content-Length: %d", len(body))), "\r\n")
	return wire(fmt.Sprintf("HTTP/1.1 %s\r\n%s\r\n\r\n%s", status, head, body))
}

func wire(text string) func(io.Writer) { return func(w io.Writer) { _, _ = io.WriteString(w, text) } }

// endless begins a reply and goes on with text until the client hangs up.
func endless(begin, text string) func(io.Writer) {
	return func(w io.Writer) {
		_, err := io.WriteString(w, begin)
		for err == nil {
			_, err = io.WriteString(w, text)
		}
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func refused(code, message string) string {
	return fmt.Sprintf(`{"error":{"type":"invalid_request_error","code":%q,"message":%q}}`, code, message)
}

const (
	ok         = "HTTP/1.1 200 OK\r\n"
	chunked    = ok + "Transfer-Encoding: chunked\r\n\r\n"
	fault      = "bury server_error"
	unexpected = "bury unexpected_response"
)

func replies() []row {
	const duplicate = "An event already exists with identifier "
	rows := []row{
		{"accepted", http1("200 OK", accepted), delivery.Accepted, "deliver", "deliver"},
		{"200 empty", http1("200 OK", ""), delivery.Unexpected, "again", unexpected},
		{"200 HTML", http1("200 OK", "<html>"), delivery.Unexpected, "again", unexpected},
		{"200 of another identifier", http1("200 OK", strings.Replace(accepted, "req-1", "req-2", 1)), delivery.ForeignReply, "halt", "halt"},
		{"200 of the other mode", http1("200 OK", strings.Replace(accepted, "false", "true", 1)), delivery.ForeignReply, "halt", "halt"},
		{"200 without an identifier", http1("200 OK", "{}"), delivery.Unexpected, "again", unexpected},
		{"200 cut by its length", wire(ok + "Content-Length: 20\r\n\r\n" + accepted), delivery.Unexpected, "again", unexpected},
		{"200 cut before its length", wire(ok + "Content-Length: 900\r\n\r\n" + accepted), delivery.NoAnswer, "again", "again"},
		{"nothing at all", wire(""), delivery.NoAnswer, "again", "again"},
		{"half a status line", wire("HTTP/1.1 2"), delivery.NoAnswer, "again", "again"},
		{"10 GiB gzip", endless(ok+"Content-Encoding: gzip\r\n\r\n"+zipped(accepted), zipped(strings.Repeat(" ", 10<<20))), delivery.Unexpected, "again", unexpected},
		{"gzip of an acceptance", http1("200 OK", zipped(accepted), "Content-Encoding: gzip"), delivery.Unexpected, "again", unexpected},
		{"endless chunks", endless(chunked, "400\r\n"+strings.Repeat(" ", 1024)+"\r\n"), delivery.Unexpected, "again", unexpected},
		{"10 MiB of headers", http1("200 OK", accepted, "X: "+strings.Repeat("x", 10<<20)), delivery.NoAnswer, "again", "again"},
		{"endless headers", endless(ok, "X: x\r\n"), delivery.NoAnswer, "again", "again"},
		{"100 x 1xx", wire(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100)), delivery.NoAnswer, "again", "again"},
		{"endless 1xx", endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"), delivery.NoAnswer, "again", "again"},
		{"101", wire("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), delivery.Unexpected, "again", unexpected},
		{"204", wire("HTTP/1.1 204 No Content\r\n\r\n"), delivery.Unexpected, "again", unexpected},
		{"duplicate", http1("400 Bad Request", refused("", duplicate+"req-1."), "Stripe-Should-Retry: false"), delivery.Duplicate, "bury identifier_conflict", "bury identifier_conflict"},
		{"duplicate of another identifier", http1("400 Bad Request", refused("", duplicate+"req-2.")), delivery.Unexpected, "again", unexpected},
		{"400", http1("400 Bad Request", refused("parameter_invalid", "no")), delivery.Refused, "bury rejected", "bury rejected"},
		{"400 HTML", http1("400 Bad Request", "<html>"), delivery.Unexpected, "again", unexpected},
		{"401", http1("401 Unauthorized", refused("", "Invalid API Key")), delivery.SetupFault, "halt", "halt"},
		{"401 empty", http1("401 Unauthorized", ""), delivery.SetupFault, "halt", "halt"},
		{"403", http1("403 Forbidden", refused("", "no")), delivery.SetupFault, "halt", "halt"},
		{"404 of a route", http1("404 Not Found", "<html>"), delivery.SetupFault, "halt", "halt"},
		{"404 of a resource", http1("404 Not Found", refused("resource_missing", "no")), delivery.Refused, "bury rejected", "bury rejected"},
		{"409", http1("409 Conflict", ""), delivery.Contended, "again", "again"},
		{"429", http1("429 Too Many Requests", ""), delivery.Throttled, "again", "again"},
		{"429 of a lock", http1("429 Too Many Requests", refused("lock_timeout", "busy")), delivery.Contended, "again", "again"},
		{"502 HTML", http1("502 Bad Gateway", "<html>"), delivery.ServerFault, "again", fault},
		{"520", http1("520 Odd", ""), delivery.ServerFault, "again", fault},
		{"599", http1("599 Odd", ""), delivery.ServerFault, "again", fault},
		{"600", http1("600 Odd", ""), delivery.Unexpected, "again", unexpected},
		{"999", http1("999 Odd", accepted), delivery.Unexpected, "again", unexpected},
	}
	return append(append(rows, serverFaults()...), delays()...)
}

// serverFaults has each combination of Stripe's two words on a 500. That it was
// replayed from under the Idempotency-Key changes the key, which any answer does.
func serverFaults() []row {
	var rows []row
	for _, retry := range []string{"", "true", "false", "perhaps"} {
		for _, replayed := range []string{"", "true"} {
			first := "again"
			if retry == "false" {
				first = fault
			}
			rows = append(rows, row{
				fmt.Sprintf("500 with Stripe-Should-Retry %q and Idempotent-Replayed %q", retry, replayed),
				http1("500 Internal", "{}", "Stripe-Should-Retry: "+retry, "Idempotent-Replayed: "+replayed), delivery.ServerFault, first, fault,
			})
		}
	}
	return rows
}

// delays has each form of Retry-After. The delay is Stripe's where it names one, at
// most 300 s, and else the back-off, which begins at 0.
func delays() []row {
	var rows []row
	for _, d := range []struct{ value, decision string }{
		{"0", "again"},
		{"-1", "again"},
		{"7", "again in 7s"},
		{"300", "again in 5m0s"},
		{"1000000000", "again in 5m0s"},
		{"1e9", "again"},
		{"99999999999999999999", "again in 5m0s"},
		{"soon", "again"},
		{"NaN", "again"},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), "again"},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "again in 5m0s"},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "again in 5m0s"},
	} {
		rows = append(rows, row{"429 with Retry-After " + d.value, http1("429 Too Many Requests", "", "Retry-After: "+d.value), delivery.Throttled, d.decision, d.decision})
	}
	return append(rows, row{"503 with Retry-After 7", http1("503 Unavailable", "", "Retry-After: 7"), delivery.ServerFault, "again in 7s", fault})
}

func TestStripesReplies(t *testing.T) {
	for _, r := range replies() {
		t.Run(r.name, func(t *testing.T) {
			var requests atomic.Int32
			answer := send(t, sender.Config{BaseURL: serve(t, &requests, r.reply)})
			r.check(t, answer)
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests for one attempt", n)
			}
		})
	}
}

func (r row) check(t *testing.T, answer delivery.Answer) {
	t.Helper()
	if answer.Class != r.class {
		t.Errorf("%+v, want %v", answer, r.class)
	}
	for n, want := range map[int]string{1: r.first, delivery.MaxAttempts: r.last} {
		if got := delivery.Decision(answer, n); got != want {
			t.Errorf("after %d such replies: %s, want %s", n, got, want)
		}
	}
}

// A redirect is the set-up's fault, and nothing arrives where it leads: not even a
// connection.
func TestRedirectsLeadNowhere(t *testing.T) {
	for status := 300; status <= 308; status++ {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var requests, arrived atomic.Int32
			elsewhere := serve(t, &arrived, http1("200 OK", accepted))
			base := serve(t, &requests, http1(fmt.Sprintf("%d Moved", status), "", "Location: "+elsewhere+"/v1/billing/meter_events"))
			row{class: delivery.SetupFault, first: "halt", last: "halt"}.check(t, send(t, sender.Config{BaseURL: base}))
			if requests.Load() != 1 || arrived.Load() != 0 {
				t.Errorf("%d requests, %d connections elsewhere", requests.Load(), arrived.Load())
			}
		})
	}
}

// A byte in ten seconds is no answer, however long it goes on.
func TestReplyByDrops(t *testing.T) {
	var requests atomic.Int32
	hung := make(chan struct{})
	base := serve(t, &requests, func(w io.Writer) {
		_, _ = io.WriteString(w, "H")
		<-hung // ten seconds and more: until the client has given up
	})
	answer := send(t, sender.Config{BaseURL: base, Timeout: time.Second})
	close(hung)
	row{class: delivery.NoAnswer, first: "again", last: "again"}.check(t, answer)
}

// What cannot prove that it is Stripe gets nothing; the event waits, for ever if need be.
func TestReplyFromAStranger(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = io.WriteString(w, accepted)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	answer := send(t, sender.Config{BaseURL: server.URL})
	row{class: delivery.NotSent, first: "again", last: "again"}.check(t, answer)
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// serve answers each connection's request with the reply, and counts them.
func serve(t *testing.T, requests *atomic.Int32, reply func(io.Writer)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			requests.Add(1)
			if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, request.Body)
				reply(conn)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

// send makes one attempt.
func send(t *testing.T, cfg sender.Config) delivery.Answer {
	t.Helper()
	cfg.Key = func() string { return "sk_test_51abcDEFghiJKL0123456789" }
	cfg.Live = func() bool { return false }
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute // never waited for
	}
	v, err := sender.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	event, err := usage.New(usage.Params{EventName: "api_calls", Identifier: "req-1", Customer: "cus_1", Value: 7})
	if err != nil {
		t.Fatal(err)
	}
	return v.Send(t.Context(), delivery.Attempt{Event: event, IdempotencyKey: "key-1", Ready: func(context.Context) error { return nil }})
}
