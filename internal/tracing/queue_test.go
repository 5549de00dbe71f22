package tracing

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/meterworker/meterworker/internal/otlptest"
)

// script is an exporter that answers what it is told to, then nil.
type script struct {
	mu      sync.Mutex
	answers []error
	batches []int
	times   []time.Time
	hang    bool
}

func (s *script) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.mu.Lock()
	hang := s.hang
	s.batches, s.times = append(s.batches, len(spans)), append(s.times, time.Now())
	var answer error
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	}
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return answer
}

func (s *script) Shutdown(context.Context) error { return nil }

func (s *script) seen() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

// observed is a queue with its counts. Only the bubble's goroutines write them.
type observed struct {
	*queue
	dropped int
	news    []error
}

func newObserved(s *script) *observed {
	o := &observed{}
	o.queue = newQueue(s, func(n int) { o.dropped += n }, func(err error) { o.news = append(o.news, err) })
	return o
}

func span(sampled bool) sdktrace.ReadOnlySpan {
	var flags oteltrace.TraceFlags
	return tracetest.SpanStub{SpanContext: oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{1}, TraceFlags: flags.WithSampled(sampled),
	})}.Snapshot()
}

func (o *observed) end(n int) {
	for range n {
		o.OnEnd(span(true))
	}
}

func (o *observed) close(t *testing.T, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := o.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

var errDown = errors.New("connection refused")

func TestQueue(t *testing.T) {
	again := &refusedError{http.StatusServiceUnavailable}
	final := &refusedError{http.StatusBadRequest}
	tests := []struct {
		name    string
		answers []error
		spans   int
		after   time.Duration // before the end
		batches []int
		dropped int
		news    []error
	}{
		{"one", nil, 1, 3 * time.Second, []int{1}, 0, nil},
		{"at the end what waits", nil, 5, 0, []int{5}, 0, nil},
		{"in batches", nil, 1100, 5 * time.Second, []int{512, 512, 76}, 0, nil},
		{"a restart of the collector", []error{errDown, again}, 3, 10 * time.Second, []int{3, 3, 3}, 0, nil},
		{"down", []error{errDown, errDown, errDown}, 3, 10 * time.Second, []int{3, 3, 3}, 3, []error{errDown}},
		{"down and back", []error{final, final, nil}, 1100, 10 * time.Second, []int{512, 512, 76}, 1024, []error{final, nil}},
		{"refused for good", []error{final}, 3, 10 * time.Second, []int{3}, 3, []error{final}},
		{"no second try at the end", []error{errDown}, 3, 0, []int{3}, 3, []error{errDown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: tt.answers}
				o := newObserved(s)
				o.OnEnd(span(false)) // not sampled: not of interest
				o.end(tt.spans)
				<-time.After(tt.after)
				o.close(t, time.Second)
				if got := s.seen(); !slices.Equal(got, tt.batches) || o.dropped != tt.dropped || !slices.Equal(o.news, tt.news) {
					t.Errorf("batches %v, dropped %d, told %v; want %v, %d, %v", got, o.dropped, o.news, tt.batches, tt.dropped, tt.news)
				}
			})
		})
	}
}

// A collector that hangs holds up nobody: what is too much is dropped at once, and the end
// is bounded.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{hang: true}
		o := newObserved(s)
		o.end(batchSize)
		synctest.Wait() // the first batch is under way
		began := time.Now()
		o.end(queueSize + 100)
		if took := time.Since(began); took != 0 || o.dropped != 100 {
			t.Errorf("waited %s, dropped %d, want 100 at once", took, o.dropped)
		}
		o.close(t, 2*time.Second)
		if took := time.Since(began); took != 2*time.Second || o.dropped != batchSize+queueSize+100 {
			t.Errorf("ended after %s, dropped %d, want all %d after 2 s", took, o.dropped, batchSize+queueSize+100)
		}
	})
}

// Credentials go where the operator said, and into no message.
func TestCollectorIsAskedAlone(t *testing.T) {
	elsewhere := otlptest.Start(t)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/v1/traces", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(front.Close)
	tests := []struct {
		name, endpoint, want string
	}{
		{"a redirect", front.URL, "the collector answered 307"},
		{"nobody listens", "http://127.0.0.1:1/secret-path", "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			c := newCollector(u, http.Header{"Authorization": {"secret"}})
			err = c.UploadTraces(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q without a secret", err, tt.want)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if len(elsewhere.Headers()) != 0 {
		t.Error("the redirect was followed")
	}
}

func TestRefusals(t *testing.T) {
	for status, again := range map[int]bool{
		200: false, 301: false, 400: false, 401: false, 404: false, 408: false, 413: false, 429: true, 500: false, 502: true, 503: true, 504: true,
	} {
		if got := (&refusedError{status}).again(); got != again {
			t.Errorf("%d: again %v, want %v", status, got, again)
		}
	}
}
