package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func handlerWith(t *testing.T, checks ...Check) http.Handler {
	t.Helper()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "meterworker_received_total", Help: "Messages received."})
	registry.MustRegister(counter)
	counter.Add(7)
	return New(Config{Registry: registry, Ready: func() []Check { return checks }})
}

func ask(h http.Handler, method, target string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	h := handlerWith(t, Check{Name: "streams", OK: true})
	tests := []struct {
		method, target string
		status         int
		contentType    string
		body           string
	}{
		{"GET", "/livez", 200, "text/plain; charset=utf-8", "ok\n"},
		{"HEAD", "/livez", 200, "text/plain; charset=utf-8", ""},
		{"GET", "/readyz", 200, "application/json", `{"ready":true,"checks":[{"name":"streams","ok":true}]}` + "\n"},
		{"GET", "/", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"GET", "/livez/", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"GET", "/<script>alert(1)</script>", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"GET", "/debug/pprof/", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"POST", "/livez", 405, "text/plain; charset=utf-8", "Method Not Allowed\n"},
		{"DELETE", "/metrics", 405, "text/plain; charset=utf-8", "Method Not Allowed\n"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			w := ask(h, tt.method, tt.target, nil)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			if got := w.Header().Get("Content-Type"); got != tt.contentType {
				t.Errorf("content type %q, want %q", got, tt.contentType)
			}
			if got := w.Body.String(); tt.method != "HEAD" && got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
			if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options %q, want nosniff", got)
			}
		})
	}
}

func TestReadyz(t *testing.T) {
	streams := Check{Name: "streams", OK: true}
	halted := Check{Name: "breaker", Detail: "halted: <401>"}
	tests := []struct {
		name   string
		checks []Check
		status int
		ready  bool
	}{
		{"all hold", []Check{streams, {Name: "ledger", OK: true}}, 200, true},
		{"last fails", []Check{streams, halted}, 503, false},
		{"first fails", []Check{halted, streams}, 503, false},
		{"none yet", nil, 503, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(handlerWith(t, tt.checks...), "GET", "/readyz", nil)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			var got readiness
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("body %q: %v", w.Body, err)
			}
			if got.Ready != tt.ready || len(got.Checks) != len(tt.checks) || got.Checks == nil {
				t.Errorf("body %s, want ready %t and %d checks", w.Body, tt.ready, len(tt.checks))
			}
			for i, check := range got.Checks {
				if check != tt.checks[i] {
					t.Errorf("check %d is %+v, want %+v", i, check, tt.checks[i])
				}
			}
		})
	}
}

func TestReadinessIsAskedEveryTime(t *testing.T) {
	ready := false
	h := New(Config{Registry: prometheus.NewRegistry(), Ready: func() []Check { return []Check{{Name: "streams", OK: ready}} }})
	for _, want := range []int{503, 200, 503} {
		if got := ask(h, "GET", "/readyz", nil).Code; got != want {
			t.Errorf("ready %t: status %d, want %d", ready, got, want)
		}
		if got := ask(h, "GET", "/livez", nil).Code; got != 200 {
			t.Errorf("ready %t: /livez is %d, want 200", ready, got)
		}
		ready = !ready
	}
}

func TestMetricsFormats(t *testing.T) {
	tests := []struct{ accept, contentType, ending string }{
		{"", "text/plain", "meterworker_received_total 7\n"},
		{"application/openmetrics-text;version=1.0.0", "application/openmetrics-text", "# EOF\n"},
	}
	for _, tt := range tests {
		w := ask(handlerWith(t), "GET", "/metrics", http.Header{"Accept": {tt.accept}})
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), tt.contentType) {
			t.Errorf("Accept %q: status %d, %s", tt.accept, w.Code, w.Header().Get("Content-Type"))
		}
		if body := w.Body.String(); !strings.HasSuffix(body, tt.ending) || !strings.Contains(body, "meterworker_received_total") {
			t.Errorf("Accept %q: body %q", tt.accept, body)
		}
	}
}

func serve(t *testing.T, ctx context.Context, h http.Handler) *Server {
	t.Helper()
	s, err := Serve(ctx, "127.0.0.1:0", h, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServeUntilTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := serve(t, ctx, handlerWith(t))
	response, err := http.Get("http://" + s.Addr() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(body) != "ok\n" {
		t.Errorf("/livez answers %q, %v", body, err)
	}
	cancel()
	if err := s.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("the address still answers after the end")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestRequestUnderWayIsFinished(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	leave := make(chan struct{})
	s := serve(t, ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "finished")
	}))
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	cancel()
	close(leave)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request was cut: %v", err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if string(body) != "finished" {
		t.Errorf("body %q, want finished", body)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// pipeListener hands out in-memory connections, so that a bubble can own the clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// inBubble serves handler in a bubble and gives use one client connection.
func inBubble(t *testing.T, handler http.Handler, use func(client net.Conn, cancel context.CancelFunc, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		listener := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		client, server := net.Pipe()
		listener.conns <- server
		s := &Server{addr: listener.Addr(), done: make(chan struct{})}
		go s.serve(ctx, newHTTPServer(handler, zap.NewNop()), listener)
		use(client, cancel, s)
		cancel()
		_ = client.Close()
		<-s.Done()
	})
}

func TestSlowHeadersAreCut(t *testing.T) {
	inBubble(t, handlerWith(t), func(client net.Conn, _ context.CancelFunc, _ *Server) {
		begin := time.Now()
		var writer sync.WaitGroup
		writer.Go(func() { // a byte each second keeps an idle time-out away for ever
			for _, c := range []byte("GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: " + strings.Repeat("a", 100)) {
				if _, err := client.Write([]byte{c}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		_, _ = io.Copy(io.Discard, client)
		if took := time.Since(begin); took != headerTimeout {
			t.Errorf("cut after %s, want %s", took, headerTimeout)
		}
		writer.Wait()
	})
}

func TestLargeHeadersAreRefused(t *testing.T) {
	inBubble(t, handlerWith(t), func(client net.Conn, _ context.CancelFunc, _ *Server) {
		go func() {
			_, _ = fmt.Fprintf(client, "GET /livez HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("a", 2*maxHeader))
		}()
		response, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d, want 431", response.StatusCode)
		}
	})
}

func TestHangingRequestIsCutAtTheEnd(t *testing.T) {
	var entered, leave chan struct{} // made inside the bubble, so that waiting on them counts as idle
	hang := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-leave })
	inBubble(t, hang, func(client net.Conn, cancel context.CancelFunc, s *Server) {
		entered, leave = make(chan struct{}), make(chan struct{})
		go func() { _, _ = fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
		<-entered
		begin := time.Now()
		cancel()
		err := s.Wait()
		if took := time.Since(begin); took != closeTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended after %s with %v, want %s and an error about the cut", took, err, closeTimeout)
		}
		close(leave)
	})
}

func TestTakenAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, err = Serve(t.Context(), listener.Addr().String(), http.NotFoundHandler(), nil)
	if err == nil {
		t.Fatal("Serve on a taken address succeeded")
	}
	for _, want := range []string{listener.Addr().String(), "METERWORKER_ADMIN_ADDR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}
