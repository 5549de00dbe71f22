package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// notice is a thin event as Stripe writes it; changes are old and new text in turn.
func notice(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"id":"evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0","object":"v2.core.event",` +
		`"type":"v1.billing.meter.error_report_triggered","livemode":false,"created":"2025-10-16T11:06:20.000Z","context":null,` +
		`"related_object":{"id":"mtr_test_61R9","type":"billing.meter","url":"/v1/billing/meters/mtr_test_61R9"}}`)
}

// shelf is a Store.
type shelf struct {
	mu     sync.Mutex
	stored map[string]string // body by id
	fail   error
}

func (s *shelf) Put(_ context.Context, id, token string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.stored[id+" "+token] = string(body)
	}
	return s.fail
}

// desk is a receiver and what it did.
type desk struct {
	*Receiver
	shelf  *shelf
	counts map[Result]int
	log    *observer.ObservedLogs
}

func newDesk() *desk {
	core, log := observer.New(zap.DebugLevel)
	d := &desk{shelf: &shelf{stored: map[string]string{}}, counts: map[Result]int{}, log: log}
	var mu sync.Mutex
	d.Receiver = NewReceiver(ReceiverConfig{
		Secrets: func() []string { return []string{secret} }, Store: d.shelf, Log: zap.New(core),
		Count: func(r Result) { mu.Lock(); d.counts[r]++; mu.Unlock() },
	})
	return d
}

// deliver makes a signed request; change may spoil it.
func (d *desk) deliver(body string, change func(*http.Request)) *http.Response {
	request := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	request.Header.Set("Stripe-Signature", signed([]byte(body), time.Now(), secret))
	if change != nil {
		change(request)
	}
	recorder := httptest.NewRecorder()
	d.ServeHTTP(recorder, request)
	return recorder.Result()
}

func TestReceiver(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	resign := func(at time.Duration, secrets ...string) func(*http.Request) {
		return func(r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			r.Header.Set("Stripe-Signature", signed(body, time.Now().Add(at), secrets...))
		}
	}
	big := func(n int) string {
		return notice(`"context":null`, `"pad":"`+strings.Repeat("x", n-len(notice(`"context":null`, `"pad":""`)))+`"`)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(notice()))
	_ = z.Close()
	snapshotEvent := `{"id":"evt_1","object":"event","api_version":"2024-10-28.acacia","created":1760612775,"livemode":false,"type":"invoice.paid","data":{"object":{}}}`
	for _, c := range []struct {
		name, body string
		change     func(*http.Request)
		status     int
		result     Result
		stored     int
		says       string // in the log
	}{
		{"right", notice(), nil, 200, Stored, 1, "stored"},
		{"no meter", notice("error_report_triggered", "no_meter_found", `"related_object":{"id":"mtr_test_61R9","type":"billing.meter","url":"/v1/billing/meters/mtr_test_61R9"}`, `"related_object":null`), nil, 200, Stored, 1, "stored"},
		{"more fields than we know", notice(`"context":null`, `"context":"","reason":{"type":"request"},"data":{"x":[1]}`), nil, 200, Stored, 1, "stored"},
		{"64 KiB", big(64 << 10), nil, 200, Stored, 1, ""},
		{"64 KiB + 1", big(64<<10 + 1), nil, 413, Malformed, 0, ""},
		{"no signature", notice(), func(r *http.Request) { r.Header.Del("Stripe-Signature") }, 400, Unsigned, 0, "signature"},
		{"two signature headers", notice(), func(r *http.Request) { r.Header.Add("Stripe-Signature", r.Header.Get("Stripe-Signature")) }, 400, Unsigned, 0, "signature"},
		{"t only", notice(), header("Stripe-Signature", "t=1760612775"), 400, Unsigned, 0, "signature"},
		{"valid for another body", notice(), header("Stripe-Signature", signed([]byte("{}"), time.Now(), secret)), 400, Unsigned, 0, "signature"},
		{"re-serialised body", notice(",", ", "), header("Stripe-Signature", signed([]byte(notice()), time.Now(), secret)), 400, Unsigned, 0, "signature"},
		{"another secret", notice(), resign(0, "whsec_other"), 400, Unsigned, 0, "signature"},
		{"six minutes old", notice(), resign(-6*time.Minute, secret), 400, Unsigned, 0, "signature"},
		{"an hour ahead", notice(), resign(time.Hour, secret), 400, Unsigned, 0, "signature"},
		{"100,000 v1", notice(), header("Stripe-Signature", "t=1"+strings.Repeat(",v1=00", 100_000)), 400, Unsigned, 0, "signature"},
		{"gzip", zipped.String(), header("Content-Encoding", "gzip"), 415, Malformed, 0, ""},
		{"identity", notice(), header("Content-Encoding", "Identity"), 200, Stored, 1, ""},
		{"GET", notice(), func(r *http.Request) { r.Method = http.MethodGet }, 405, Malformed, 0, ""},
		{"another path", notice(), func(r *http.Request) { r.URL.Path = "/webhook" }, 404, Malformed, 0, ""},
		{"below the path", notice(), func(r *http.Request) { r.URL.Path = "/webhooks/" }, 404, Malformed, 0, ""},
		{"snapshot", snapshotEvent, nil, 200, Ignored, 0, "ignored"},
		{"snapshot about meters", strings.Replace(snapshotEvent, "invoice.paid", TypeErrorReport, 1), nil, 200, Ignored, 0, "ignored"},
		{"snapshot with a time", notice("v2.core.event", "event"), nil, 200, Ignored, 0, "ignored"},
		{"unknown type", notice("error_report_triggered", "renamed"), nil, 200, Ignored, 0, "ignored"},
		{"another product's type", notice("v1.billing.meter.error_report_triggered", "v2.core.account.created"), nil, 200, Ignored, 0, "ignored"},
		{"live", notice(`"livemode":false`, `"livemode":true`), nil, 403, OtherMode, 0, "other mode"},
		{"another account", notice(`"context":null`, `"context":"acct_1Nv0FGQ9RKHgCVdK"`), nil, 403, OtherAccount, 0, "another account"},
		{"no mode", notice(`"livemode":false,`, ""), nil, 400, Malformed, 0, "no event"},
		{"mode is a string", notice(`"livemode":false`, `"livemode":"false"`), nil, 400, Malformed, 0, "no event"},
		{"id with a path", notice("evt_test_", "evt_/../../v1/balance?"), nil, 400, Malformed, 0, "no event"},
		{"id with a subject", notice("evt_test_", "evt_.>"), nil, 400, Malformed, 0, "no event"},
		{"id of 300 characters", notice("evt_test_", "evt_"+strings.Repeat("x", 300)), nil, 400, Malformed, 0, "no event"},
		{"no id", notice(`"id":"evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0",`, ""), nil, 400, Malformed, 0, "no event"},
		{"empty", "", nil, 400, Malformed, 0, "no event"},
		{"null", "null", nil, 400, Malformed, 0, "no event"},
		{"a list", "[]", nil, 400, Malformed, 0, "no event"},
		{"cut", notice()[:200], nil, 400, Malformed, 0, "no event"},
		{"two objects", notice() + notice(), nil, 400, Malformed, 0, "no event"},
		{"10,000 levels", strings.Repeat("[", 10_000), nil, 400, Malformed, 0, "no event"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk()
			response := d.deliver(c.body, c.change)
			said, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode != c.status || len(said) > 0 {
				t.Errorf("status %d %q, want %d and not a word", response.StatusCode, said, c.status)
			}
			if d.counts[c.result] != 1 || len(d.counts) != 1 {
				t.Errorf("counted %v, want %s", d.counts, c.result)
			}
			if len(d.shelf.stored) != c.stored {
				t.Errorf("stored %d, want %d", len(d.shelf.stored), c.stored)
			}
			var lines strings.Builder
			for _, entry := range d.log.All() {
				fmt.Fprintln(&lines, entry.Message, entry.ContextMap())
			}
			if !strings.Contains(lines.String(), c.says) || strings.Contains(lines.String(), secret) || lines.Len() > 2000 {
				t.Errorf("log %q, want %q, short, and no secret", lines.String(), c.says)
			}
		})
	}
}

// What is not stored is not answered with 2xx.
func TestNotStoredIsNotTaken(t *testing.T) {
	d := newDesk()
	d.shelf.fail = errors.New("no answer")
	response := d.deliver(notice(), nil)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || d.counts[Failed] != 1 {
		t.Errorf("status %d, counted %v", response.StatusCode, d.counts)
	}
}

// pipes is a listener whose connections are in memory, so that time is the bubble's.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (pipes) Close() error   { return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that sends byte by byte, header or body, is cut within the bounds.
func TestSlowClients(t *testing.T) {
	head := "POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
	for name, c := range map[string]struct {
		at    string // once
		bytes string // and then byte by byte, one a second
		bound time.Duration
	}{
		"header": {"", head + "X: " + strings.Repeat("x", 1000), headerTimeout},
		"body":   {head + "\r\n", strings.Repeat("x", 1000), readTimeout},
		"idle":   {"GET /webhooks HTTP/1.1\r\nHost: x\r\n\r\n", "", idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := pipes{make(chan net.Conn)}
				server := newHTTPServer(newDesk())
				go func() { _ = server.Serve(listener) }()
				here, there := net.Pipe()
				listener.conns <- there
				begun := time.Now()
				var client sync.WaitGroup
				client.Go(func() {
					second := time.NewTicker(time.Second)
					defer second.Stop()
					_, err := here.Write([]byte(c.at))
					for i := 0; i < len(c.bytes) && err == nil; i++ {
						<-second.C
						_, err = here.Write([]byte(c.bytes[i : i+1]))
					}
				})
				_, _ = io.Copy(io.Discard, here) // until the server hangs up
				if took := time.Since(begun); took > c.bound+time.Second {
					t.Errorf("cut after %s, want %s", took, c.bound)
				}
				_ = here.Close()
				client.Wait()
				close(listener.conns)
				_ = server.Close()
			})
		})
	}
}

// A header that is too large is refused before anything is computed of it; requests beyond
// those at once are told to come again.
func TestServer(t *testing.T) {
	d := newDesk()
	ctx, cancel := context.WithCancel(t.Context())
	server, err := Serve(ctx, "127.0.0.1:0", d, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	send := func(signature string) int {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+server.Addr()+Path, strings.NewReader(notice()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Stripe-Signature", signature)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if status := send("t=1" + strings.Repeat(",v1=00", 100_000)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("100,000 v1: status %d", status)
	}
	if status := send(signed([]byte(notice()), time.Now(), secret)); status != 200 {
		t.Errorf("status %d", status)
	}
	for range maxAtOnce {
		d.places <- struct{}{}
	}
	if status := send(signed([]byte(notice()), time.Now(), secret)); status != 503 {
		t.Errorf("one too many: status %d", status)
	}
	if _, err := Serve(ctx, server.Addr(), d, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "METERWORKER_WEBHOOK_ADDR") {
		t.Errorf("a taken address: %v", err)
	}
}
