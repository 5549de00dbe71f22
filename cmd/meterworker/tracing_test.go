package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/meterworker/meterworker/internal/otlptest"
	"github.com/meterworker/meterworker/internal/simulator"
)

const (
	chainTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	chainSpan  = "00f067aa0ba902b7"
	chainFrom  = "00-" + chainTrace + "-" + chainSpan + "-01"
	chainKey   = "sk_test_secretkey51abcDEF"
)

// tracedWorker is a worker on an outbox and a simulated Stripe of its own.
type tracedWorker struct {
	*testOutbox

	stripe *simulator.Simulator
	seen   *headersSeen
	daemon *daemon
	logs   *observer.ObservedLogs
	stop   func()
}

// headersSeen is in front of the simulated Stripe.
type headersSeen struct {
	http.Handler

	names chan string
}

func (h *headersSeen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name := range r.Header {
		if strings.HasPrefix(strings.ToLower(name), "trace") || strings.EqualFold(name, "baggage") {
			h.names <- name
		}
	}
	h.Handler.ServeHTTP(w, r)
}

func startTraced(t *testing.T, extra environment, faults ...simulator.Fault) *tracedWorker {
	t.Helper()
	w := &tracedWorker{testOutbox: newTestOutbox(t), stripe: simulator.New(simulator.Config{Keys: []string{chainKey}})}
	if err := w.stripe.Inject(faults...); err != nil {
		t.Fatal(err)
	}
	w.seen = &headersSeen{w.stripe, make(chan string, 1000)}
	server := httptest.NewServer(w.seen)
	t.Cleanup(server.Close)
	env := environment{
		"NATS_URL": w.url, "STRIPE_API_KEY": chainKey, "STRIPE_API_BASE": server.URL, "METERWORKER_PARTITIONS": "4",
		"METERWORKER_ADMIN_ADDR": "127.0.0.1:0", "METERWORKER_SHUTDOWN_TIMEOUT": "10s",
	}
	maps.Copy(env, extra)
	result, err := loadConfig(&Settings{}, env, keyRequired, false)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	w.logs, w.daemon = logs, newDaemon(result.Config, zap.New(core))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.daemon.run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	}
	t.Cleanup(w.stop)
	return w
}

// publish stores one event with a traceparent, as a producer in any language would.
func (w *tracedWorker) publish(customer, identifier, traceparent string) {
	w.t.Helper()
	m := nats.NewMsg("usage.events.api_calls." + customer)
	m.Header["traceparent"] = []string{traceparent}
	m.Header["tracestate"] = []string{"vendor=secret-state"}
	m.Data = fmt.Appendf(nil, `{"event_name":"api_calls","identifier":%q,"payload":{"stripe_customer_id":%q,"value":81321}}`, identifier, customer)
	if _, err := w.js.PublishMsg(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
}

// letter waits for the first dead letter.
func (w *tracedWorker) letter() nats.Header {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "USAGE_DLQ")
	if err != nil {
		w.t.Fatal(err)
	}
	within(w.t, 30*time.Second, "a dead letter", func() bool {
		info, err := stream.Info(w.t.Context())
		return err == nil && info.State.Msgs > 0
	})
	m, err := stream.GetMsg(w.t.Context(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Header
}

// within looks every 20 ms until it holds.
func within(t *testing.T, most time.Duration, what string, holds func() bool) {
	t.Helper()
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-timeout.C:
			t.Fatalf("not within %s: %s", most, what)
		}
	}
}

func settledSpans(spans []otlptest.Span) int {
	n := 0
	for _, s := range spans {
		if s.Name == "usage receive" {
			n++
		}
	}
	return n
}

// One event that Stripe fails on once, one that it refuses and a person replays: both show
// as what they are, in their producers' traces.
func TestTraceFromProducerToReplay(t *testing.T) {
	const (
		retried = "cus_SecretRetried"
		refused = "cus_SecretRefused"
		second  = "00-aaaabbbbccccdddd1111222233334444-1234567890abcdef-01"
	)
	collector := otlptest.Start(t)
	w := startTraced(t, environment{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret-token", "OTEL_SERVICE_NAME": "billing"},
		simulator.Fault{Kind: simulator.Error503, Customer: retried, Times: 1},
		simulator.Fault{Kind: simulator.Refused, Customer: refused, Times: 1, Code: "resource_missing"},
	)
	w.publish(retried, "req-secret-1", chainFrom)
	w.publish(refused, "req-secret-2", second)
	header := w.letter()
	if got := header["traceparent"]; len(got) != 1 || got[0] != second || header["tracestate"] != nil {
		t.Errorf("the dead letter has the headers %v", header)
	}
	if code, _, stderr := w.run(nil, "dlq", "replay", "1"); code != 0 {
		t.Fatalf("replay: exit %d, %s", code, stderr)
	}
	spans := collector.Wait(func(s []otlptest.Span) bool { return settledSpans(s) == 3 })
	check := func(name, traceparent string, want ...string) {
		t.Helper()
		if got := tree(spans, traceparent); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s is\n%s, want\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	check("the retried one", chainFrom,
		"usage receive replay=false delivered", "- stripe attempt 503 server_fault", "- stripe attempt 200 accepted, resent 1", "- settle delivered")
	check("the refused one", second,
		"usage receive replay=false dead rejected", "- stripe attempt 400 refused", "- settle dead rejected",
		"usage receive replay=true delivered", "- stripe attempt 200 accepted", "- settle delivered")
	w.stop()
	for _, secret := range []string{retried, refused, "req-secret", "81321", chainKey, "secretkey", "api_calls", "secret-state", "secret-token", w.streams.Epoch()} {
		if bytes.Contains(collector.Raw(), []byte(secret)) {
			t.Errorf("%q is in the spans", secret)
		}
	}
	for _, h := range collector.Headers() {
		if h.Get("Api-Key") != "secret-token" {
			t.Errorf("a request without the header: %v", h)
		}
	}
	for _, line := range w.logs.All() {
		if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret-token") {
			t.Errorf("the collector's key is in the log: %s", text)
		}
	}
	select {
	case name := <-w.seen.names:
		t.Errorf("Stripe got the header %s", name)
	default:
	}
}

// tree is one producer's spans: those below its own, each with its children.
func tree(spans []otlptest.Span, traceparent string) []string {
	var lines []string
	for _, root := range spans {
		if root.TraceID != traceparent[3:35] || root.ParentID != traceparent[36:52] {
			continue
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprint(root.Name, " replay=", root.Attributes["meterworker.replay"], " ", outcome(root))))
		for _, s := range spans {
			if s.ParentID != root.SpanID || s.TraceID != root.TraceID {
				continue
			}
			text := "- " + s.Name
			for _, key := range []string{"http.response.status_code", "meterworker.class"} {
				if value := s.Attributes[key]; value != "" {
					text += " " + value
				}
			}
			if n := s.Attributes["http.request.resend_count"]; n != "" {
				text += ", resent " + n
			}
			if s.Attributes["meterworker.disposition"] != "" {
				text += " " + outcome(s)
			}
			lines = append(lines, text)
		}
	}
	return lines
}

func outcome(s otlptest.Span) string {
	return strings.TrimSpace(s.Attributes["meterworker.disposition"] + " " + s.Attributes["meterworker.reason"])
}

// A collector that is not there, or takes for ever, costs spans, which are counted, and no
// delivery.
func TestCollectorDown(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	for name, endpoint := range map[string]string{"refused": "http://127.0.0.1:1", "silent": silent.URL} {
		t.Run(name, func(t *testing.T) {
			w := startTraced(t, environment{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
			const events = 50
			for i := range events {
				w.publish(fmt.Sprint("cus_", i), fmt.Sprint("req-", i), "")
			}
			within(t, 30*time.Second, "all are billed", func() bool { return len(w.stripe.Books().Events) == events })
			w.stop()
			if got := metricOf(t, w.daemon, "meterworker_trace_spans_dropped_total"); got != 3*events {
				t.Errorf("%v spans dropped, want %d", got, 3*events)
			}
			if w.logs.FilterMessageSnippet("the collector does not take them").Len() != 1 {
				t.Error("it is not said once that spans are dropped")
			}
		})
	}
}

func metricOf(t *testing.T, d *daemon, name string) float64 {
	t.Helper()
	families, err := d.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestPublishPassesTheTraceOn(t *testing.T) {
	o := newTestOutbox(t)
	var out, errs bytes.Buffer
	env := environment{"NATS_URL": o.url, "TRACEPARENT": chainFrom}
	args := []string{"publish", "--event-name", "api_calls", "--customer", "cus_1", "--value", "3", "--identifier", "a"}
	if code := execute(t.Context(), args, &process{Out: &out, Err: &errs, Env: env}); code != 0 {
		t.Fatalf("exit %d, %s", code, errs.String())
	}
	stream, err := o.js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header["traceparent"]; len(got) != 1 || got[0] != chainFrom {
		t.Errorf("stored with the headers %v", m.Header)
	}
}
