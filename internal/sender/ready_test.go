package sender

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// Zero bytes on a plain connection when Ready refuses, or when the caller gives
// up while it decides.
func TestNoByteBeforeReady(t *testing.T) {
	for name, ready := range map[string]func(cancel context.CancelFunc) error{
		"refused":   func(context.CancelFunc) error { return errNotReady },
		"cancelled": func(cancel context.CancelFunc) error { cancel(); return nil },
		"both":      func(cancel context.CancelFunc) error { cancel(); return errNotReady },
	} {
		t.Run(name, func(t *testing.T) {
			var bytes atomic.Int64
			base := listen(t, func(conn *net.TCPConn, _ int) {
				n, _ := io.Copy(io.Discard, conn)
				bytes.Add(n)
			})
			v := newSender(t, testConfig(base), nil)
			for range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				attempt := testAttempt(t)
				attempt.Ready = func(context.Context) error { return ready(cancel) }
				answer := v.Send(ctx, attempt)
				cancel()
				if answer.Class != delivery.NotSent || !strings.Contains(answer.Detail, "aborted before sending") {
					t.Errorf("%+v", answer)
				}
			}
			v.Close()
			if n := bytes.Load(); n != 0 {
				t.Errorf("%d bytes were written", n)
			}
		})
	}
}

// Ready is asked once an attempt, on a connection that is there, before the
// request arrives.
func TestReadyComesBetweenConnectionAndRequest(t *testing.T) {
	var order []string
	var mu sync.Mutex
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	dialled := func(ctx context.Context, network, address string) (net.Conn, error) {
		note("connected")
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	base := listen(t, func(conn *net.TCPConn, _ int) {
		for request(conn) != nil {
			note("request")
			respond(conn, "200 OK", accepted)
		}
	})
	v := newSender(t, testConfig(base), dialled)
	attempt := testAttempt(t)
	attempt.Ready = func(context.Context) error { note("ready"); return nil }
	for range 2 {
		v.Send(t.Context(), attempt)
	}
	attempt.Ready = nil // nothing to ask
	v.Send(t.Context(), attempt)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order, ", "); got != "connected, ready, request, ready, request, request" {
		t.Errorf("order: %s", got)
	}
}

// A server that resets while Ready decides: nothing may be written into the dead
// connection and then be called unsent.
func TestResetWhileReadyDecides(t *testing.T) {
	for range 20 {
		var bytes atomic.Int64
		proceed := make(chan struct{})
		base := listen(t, func(conn *net.TCPConn, _ int) {
			<-proceed
			if err := conn.CloseWrite(); err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, conn)
			bytes.Add(n)
		})
		v := newSender(t, testConfig(base), nil)
		attempt := testAttempt(t)
		attempt.Ready = func(context.Context) error { close(proceed); return nil }
		answer := v.Send(t.Context(), attempt)
		v.Close()
		if answer.Class != delivery.NotSent && answer.Class != delivery.NoAnswer {
			t.Errorf("%+v", answer)
		}
		if answer.Class == delivery.NotSent && bytes.Load() != 0 {
			t.Errorf("%d bytes of an unsent request", bytes.Load())
		}
	}
}

func TestUnreachableIsNotSent(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	asked := false
	attempt := testAttempt(t)
	attempt.Ready = func(context.Context) error { asked = true; return nil }
	failing := func(err error) dialFunc {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	for name, dial := range map[string]dialFunc{
		"refused":  nil,
		"DNS":      failing(&net.DNSError{Err: "no such host", Name: "api.stripe.com", IsNotFound: true}),
		"no route": failing(&net.OpError{Op: "dial", Err: context.DeadlineExceeded}),
	} {
		answer := newSender(t, testConfig("http://"+closed.Addr().String()), dial).Send(t.Context(), attempt)
		if answer.Class != delivery.NotSent || answer.Detail == "" || answer.Status != 0 {
			t.Errorf("%s: %+v", name, answer)
		}
	}
	v := newSender(t, testConfig("http://"+closed.Addr().String()), nil)
	v.Close()
	if answer := v.Send(t.Context(), attempt); answer.Class != delivery.NotSent {
		t.Errorf("closed: %+v", answer)
	}
	if asked {
		t.Error("Ready was asked without a connection")
	}
}

func TestTransportIsSetOnPurpose(t *testing.T) {
	cfg := testConfig("http://127.0.0.1:1")
	cfg.MaxConns = 7
	own := newSender(t, cfg, nil).transport
	if own.Proxy != nil {
		t.Error("loopback traffic may go through a proxy")
	}
	if own.MaxConnsPerHost != 7 || own.MaxIdleConnsPerHost != 7 || own.MaxIdleConns != 7 ||
		!own.ForceAttemptHTTP2 || own.MaxResponseHeaderBytes != 64<<10 || own == http.DefaultTransport {
		t.Errorf("%+v", own)
	}
	if v := newSender(t, testConfig(""), nil); v.transport.Proxy == nil || v.base != DefaultBase || v.version != DefaultVersion {
		t.Errorf("defaults: %q %q", v.base, v.version)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"key":       func(c *Config) { c.Key = nil },
		"mode":      func(c *Config) { c.Live = nil },
		"time-out":  func(c *Config) { c.Timeout = -1 },
		"conns":     func(c *Config) { c.MaxConns = -1 },
		"version":   func(c *Config) { c.Version = "2024\r\nX: y" },
		"base":      func(c *Config) { c.BaseURL = "http://api.stripe.com" },
		"base path": func(c *Config) { c.BaseURL = "http://127.0.0.1/v1" },
	} {
		cfg := testConfig("http://127.0.0.1:1")
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// HTTP/2 looks for another connection when the first is of no more use. Permit
// and age check were for the first.
func TestSecondConnectionEndsTheAttempt(t *testing.T) {
	v := newSender(t, testConfig("http://127.0.0.1:1"), nil)
	asked := 0
	attempt := testAttempt(t)
	attempt.Ready = func(context.Context) error { asked++; return nil }
	x := newExchange(t.Context(), v, attempt)
	defer x.cancel(nil)
	x.due = time.AfterFunc(longEnough, func() {})
	first, second := net.Pipe() // not gated, like a shared connection
	defer func() { _ = first.Close(); _ = second.Close() }()
	x.gotConn(httptrace.GotConnInfo{Conn: first})
	if x.ctx.Err() != nil || !x.written {
		t.Fatal("the first connection was refused")
	}
	x.gotConn(httptrace.GotConnInfo{Conn: second})
	if x.ctx.Err() == nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, x.ctx.Err())
	}
	x.fail(io.EOF)
	if answer := classify(x.seen); answer.Class != delivery.NotSent || answer.Detail != errReconnected.Error() {
		t.Errorf("%+v", answer)
	}
}
