package console

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// served is the console behind a server of its own on loopback, until the test ends.
func (s *scene) served() (addr string, end func() error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	server := serve(s.t, ctx, s.handler)
	s.t.Cleanup(func() { cancel(); _ = server.Wait() })
	return server.Addr(), func() error { cancel(); return server.Wait() }
}

// stream opens the events.
func stream(t *testing.T, addr string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Get("http://" + addr + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response, bufio.NewScanner(response.Body)
}

// event reads until the next event of a kind, and decodes it.
func event(t *testing.T, lines *bufio.Scanner, kind string, into any) {
	t.Helper()
	found := false
	for lines.Scan() {
		line := lines.Text()
		if data, ok := strings.CutPrefix(line, "data: "); ok && found {
			if err := json.Unmarshal([]byte(data), into); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return
		}
		found = line == "event: "+kind
	}
	t.Fatalf("the stream ended: %v", lines.Err())
}

func TestEventsAreStreamed(t *testing.T) {
	s := newScene(t, &fakeOperator{}, Access{Loopback: true})
	addr, end := s.served()
	response, lines := stream(t, addr)
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("%d, %s", response.StatusCode, got)
	}
	var status Status
	event(t, lines, "status", &status)
	if status.Verdict != "delivering" {
		t.Errorf("status %+v", status)
	}
	var sample Sample
	event(t, lines, "sample", &sample)
	if _, err := time.Parse(time.RFC3339Nano, sample.At); err != nil || sample.Pending == nil || *sample.Pending != 1 || *sample.RateUsed != 1.5 {
		t.Errorf("sample %+v", sample)
	}
	before := status.At
	if event(t, lines, "status", &status); status.At == before {
		t.Error("the second look is the first one")
	}
	// The end of the worker ends the stream, and is not held up by it.
	s.pages.hub.mu.Lock()
	watchers := s.pages.hub.watchers
	s.pages.hub.mu.Unlock()
	if watchers != 1 {
		t.Errorf("%d watchers", watchers)
	}
	_ = response.Body.Close()
	if err := end(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// A stream ends with the pages, before the server is told to close.
func TestStreamsEndWithThePages(t *testing.T) {
	operator := &fakeOperator{}
	pages, err := NewPages(PagesConfig{Operator: operator, Access: Access{Loopback: true}, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); pages.Run(ctx) }()
	s := &scene{t: t, operator: operator, pages: pages, handler: New(Config{Registry: prometheus.NewRegistry(), Ready: func() []Check { return nil }, Pages: pages})}
	addr, _ := s.served()
	response, lines := stream(t, addr)
	defer func() { _ = response.Body.Close() }()
	var status Status
	event(t, lines, "status", &status)
	cancel()
	<-done
	for lines.Scan() { // to its end, or the test's time-out
		continue
	}
	if w := s.request("POST", "/dead-letters/1/replay", nil); w.Code != 503 {
		t.Errorf("a deed while the worker stops: %d", w.Code)
	}
	if w := s.request("GET", "/", nil); w.Code != 200 && w.Code != 503 {
		t.Errorf("the overview while the worker stops: %d", w.Code)
	}
}

// All watchers share one look, and nobody is looked at for nobody.
func TestOneLookForAll(t *testing.T) {
	operator := &fakeOperator{}
	synctest.Test(t, func(t *testing.T) {
		h := newHub(operator, prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.run(ctx) }()
		<-time.After(time.Minute)
		if looks, _, _, _ := operator.seen(); looks != 0 {
			t.Errorf("%d looks for nobody", looks)
		}
		var leave []func()
		for range 20 {
			end, ok := h.watch()
			if !ok {
				t.Fatal("too many watchers")
			}
			leave = append(leave, end)
		}
		<-time.After(20*time.Second + time.Second)
		looks, _, _, _ := operator.seen()
		if looks < 9 || looks > 11 {
			t.Errorf("%d looks in 20 s for 20 watchers, want 10", looks)
		}
		for _, end := range leave {
			end()
		}
		<-time.After(time.Minute)
		later, rests, _, _ := operator.seen()
		if later > looks+1 || rests == 0 {
			t.Errorf("%d looks after the last watcher left, %d rests", later-looks, rests)
		}
		if n := len(h.series()); n < 65 {
			t.Errorf("%d samples in over two minutes", n)
		}
		<-time.After(time.Hour)
		if n := len(h.series()); n != mostSamples {
			t.Errorf("%d samples are kept, want %d", n, mostSamples)
		}
		cancel()
		<-done
	})
}

func TestWatchersAreBounded(t *testing.T) {
	s := newScene(t, &fakeOperator{}, Access{Loopback: true})
	for range mostWatchers {
		leave, ok := s.pages.hub.watch()
		if !ok {
			t.Fatal("too few")
		}
		defer leave()
	}
	if w := s.request("GET", "/api/events", nil); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d", w.Code)
	}
}

// exchange sends one request over a connection of a bubble, and reads the answer.
func exchange(t *testing.T, handler http.Handler, request string) (status int, body string) {
	t.Helper()
	listener := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	client, server := net.Pipe()
	listener.conns <- server
	ctx, cancel := context.WithCancel(t.Context())
	srv := &Server{addr: listener.Addr(), done: make(chan struct{})}
	go srv.serve(ctx, newHTTPServer(handler, zap.NewNop()), listener)
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		t.Error(err)
	}
	cancel()
	_ = client.Close()
	<-srv.Done()
	return response.StatusCode, string(text)
}

// What takes longer than a request may take to arrive, and than other answers, is answered.
func TestSlowAnswers(t *testing.T) {
	for _, tt := range []struct {
		takes  time.Duration
		status int
		want   string
	}{
		{readTimeout + time.Second, 200, "<h1>Dead letters</h1>"},
		{writeTimeout + time.Second, 200, "<h1>Dead letters</h1>"},
		{readTimeLimit + time.Second, 502, "narrow the search"},
	} {
		synctest.Test(t, func(t *testing.T) {
			pages, err := NewPages(PagesConfig{Operator: &fakeOperator{count: 3, takes: tt.takes}, Access: Access{Loopback: true}, Registry: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			handler := New(Config{Registry: prometheus.NewRegistry(), Ready: func() []Check { return nil }, Pages: pages})
			status, body := exchange(t, handler, "GET /dead-letters HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("after %s: %d, %.300s", tt.takes, status, body)
			}
		})
	}
}

// A reader that takes nothing is let go, and delays nobody.
func TestSlowReaderIsLetGo(t *testing.T) {
	operator := &fakeOperator{text: strings.Repeat("x", 4096)} // an event that no buffer hides
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		pages, err := NewPages(PagesConfig{Operator: operator, Access: Access{Loopback: true}, Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); pages.Run(running) }()
		handler := New(Config{Registry: registry, Ready: func() []Check { return nil }, Pages: pages})
		listener := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		client, server := net.Pipe()
		listener.conns <- server
		ctx, cancel := context.WithCancel(t.Context())
		srv := &Server{addr: listener.Addr(), done: make(chan struct{})}
		go srv.serve(ctx, newHTTPServer(handler, zap.NewNop()), listener)
		if _, err := client.Write([]byte("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute) // it reads nothing
		pages.hub.mu.Lock()
		watchers, samples := pages.hub.watchers, len(pages.hub.samples)
		pages.hub.mu.Unlock()
		if watchers != 0 || samples < 29 {
			t.Errorf("%d watchers, %d samples in a minute", watchers, samples)
		}
		stop()
		<-done
		cancel()
		_ = client.Close()
		<-srv.Done()
	})
}

func TestQuantilesAndRates(t *testing.T) {
	registry := prometheus.NewRegistry()
	settled := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterworker_settled_total", Help: "Settled."}, []string{"disposition"})
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterworker_stripe_requests_total", Help: "Requests."}, []string{"class"})
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "meterworker_stripe_request_seconds", Help: "Latency.", Buckets: []float64{0.1, 0.2, 0.4}})
	registry.MustRegister(settled, requests, latency)
	own := ownNumbers{registry: registry}
	at := time.Now()
	var s Sample
	settled.WithLabelValues("delivered").Add(1000)
	latency.Observe(0.3)
	if own.fill(&s, at); s.Delivered != 0 || s.LatencyP50 != nil {
		t.Errorf("with nothing to compare: %+v", s)
	}
	settled.WithLabelValues("delivered").Add(20)
	settled.WithLabelValues("dead").Add(4)
	requests.WithLabelValues("accepted").Add(10)
	for range 98 {
		latency.Observe(0.15)
	}
	latency.Observe(0.3)
	latency.Observe(7)
	own.fill(&s, at.Add(2*time.Second))
	if s.Delivered != 10 || s.Dead != 2 || s.Duplicate != 0 || s.Requests["accepted"] != 5 || len(s.Requests) != 1 {
		t.Errorf("rates %+v", s)
	}
	if s.LatencyP50 == nil || *s.LatencyP50 < 0.1 || *s.LatencyP50 > 0.2 || *s.LatencyP99 < 0.2 || *s.LatencyP99 > 0.4 {
		t.Errorf("latency %v %v", *s.LatencyP50, *s.LatencyP99)
	}
	latency.Observe(7)
	if own.fill(&s, at.Add(4*time.Second)); *s.LatencyP50 != 0.4 || s.Delivered != 0 {
		t.Errorf("beyond the buckets: %v, %+v", *s.LatencyP50, s)
	}
}

// lateOperator lets a test look on while a look is under way.
type lateOperator struct {
	*fakeOperator
	entered, leave chan struct{}
}

func (l *lateOperator) Look(ctx context.Context) json.RawMessage {
	l.entered <- struct{}{}
	<-l.leave
	return l.fakeOperator.Look(ctx)
}

// A fresh look is begun after it was asked for: one that is under way may not have seen what
// was done before.
func TestFreshLookIsBegunAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		operator := &lateOperator{&fakeOperator{}, make(chan struct{}), make(chan struct{})}
		h := newHub(operator, prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.run(ctx) }()
		h.soon()
		<-operator.entered // before the order
		got := make(chan json.RawMessage)
		go func() { got <- h.status(t.Context(), true) }()
		synctest.Wait()
		operator.leave <- struct{}{}
		<-operator.entered
		operator.leave <- struct{}{}
		if look := <-got; !strings.Contains(string(look), "05.000000002Z") {
			t.Errorf("the look that was under way: %s", look)
		}
		cancel()
		for over := false; !over; {
			select {
			case <-operator.entered:
				operator.leave <- struct{}{}
			case <-done:
				over = true
			}
		}
	})
}
