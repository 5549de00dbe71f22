package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/otlptest"
	"github.com/meterworker/meterworker/usage"
)

const (
	producerTrace = "0af7651916cd43dd8448eb211c80319c"
	producerSpan  = "b7ad6b7169203331"
	sampledParent = "00-" + producerTrace + "-" + producerSpan + "-01"
)

// What must be in no span.
const (
	customer   = "cus_Secret1"
	identifier = "req-secret-identifier"
	payload    = `{"event_name":"secret_calls","identifier":"` + identifier + `","payload":{"stripe_customer_id":"` + customer + `","value":77123}}`
	key        = "sk_live_secretkey"
)

type message struct {
	subject string
	header  map[string]string
}

func (m message) Sequence() uint64          { return 42 }
func (m message) Subject() string           { return m.subject }
func (m message) Header(name string) string { return m.header[name] }
func (m message) Body() []byte              { return []byte(payload) }
func (m message) StoredAt() time.Time       { return time.Unix(1_760_612_775, 0) }
func (m message) Deliveries() uint64        { return 3 }
func (m message) Ack() error                { return nil }
func (m message) Nak(time.Duration) error   { return nil }
func (m message) Drop()                     {}

func event(traceparent string) message {
	return message{subject: "usage.events.secret_calls." + customer, header: map[string]string{
		"traceparent": traceparent, "Nats-Msg-Id": identifier, "tracestate": "vendor=" + identifier, "baggage": "customer=" + customer,
	}}
}

// traced runs play on a tracer that is closed afterwards, and returns what came of it.
func traced(t *testing.T, sampler string, share float64, play func(*Tracer)) *otlptest.Collector {
	t.Helper()
	c := otlptest.Start(t)
	tracer := open(t, c.URL, sampler, share)
	play(tracer)
	closeNow(t, tracer)
	return c
}

func open(t *testing.T, endpoint, sampler string, share float64) *Tracer {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	tracer, err := Open(Config{
		Endpoint: u, Header: http.Header{"Api-Key": {"token"}}, Service: "billing", Version: "v1", Instance: "host",
		Sampler: sampler, SamplerArg: share,
		Dropped: func(n int) { t.Errorf("%d spans dropped", n) }, Trouble: func(err error) { t.Errorf("trouble: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func closeNow(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := tracer.Close(ctx); err != nil {
		t.Error(err)
	}
}

// A whole life: an attempt that fails, one that is refused before it is made, one more, and
// the dead letter.
func TestSpansOfOneMessage(t *testing.T) {
	c := traced(t, "parentbased_always_on", 0, func(tracer *Tracer) {
		trace := tracer.Receive(event(sampledParent), 7)
		trace.Attempt()
		trace.Permitted()
		trace.Attempted(delivery.Answer{Class: delivery.ServerFault, Status: 503, RequestID: "req_Ab1"}, "")
		trace.Attempt()
		trace.Attempted(delivery.Answer{Class: delivery.NotSent}, "outdated")
		trace.Attempt()
		trace.Permitted()
		trace.Attempted(delivery.Answer{Class: delivery.Refused, Status: 400, RequestID: key, Code: identifier, Detail: "No such customer: " + customer}, "")
		trace.Settling()
		trace.Settling()
		trace.Settled(delivery.Buried, deadletter.Rejected, errors.New("ack "+customer))
	})
	spans := c.Spans()
	if len(spans) != 5 {
		t.Fatalf("%d spans, want 5: %+v", len(spans), spans)
	}
	root := spans[0]
	if root.TraceID != producerTrace || root.ParentID != producerSpan || root.Service != "billing" {
		t.Errorf("%+v is no child of the producer's span", root)
	}
	want := []string{
		"usage receive SPAN_KIND_CONSUMER failed [] error.type=rejected messaging.destination.name=USAGE messaging.destination.partition.id=7 messaging.message.body.size=" + fmt.Sprint(len(payload)) +
			" messaging.operation.name=receive messaging.operation.type=receive messaging.system=nats meterworker.deliveries=3 meterworker.disposition=dead meterworker.reason=rejected meterworker.replay=false meterworker.sequence=42",
		"stripe attempt SPAN_KIND_CLIENT failed [permit] error.type=server_fault http.request.method=POST http.response.status_code=503 meterworker.class=server_fault stripe.request_id=req_Ab1",
		"stripe attempt SPAN_KIND_CLIENT ok [] http.request.method=POST http.request.resend_count=1 meterworker.unsent=outdated",
		"stripe attempt SPAN_KIND_CLIENT failed [permit] error.type=refused http.request.method=POST http.request.resend_count=1 http.response.status_code=400 meterworker.class=refused",
		"settle SPAN_KIND_INTERNAL failed [] error.type=ack meterworker.disposition=dead meterworker.reason=rejected",
	}
	for i, s := range spans {
		if got := line(t, s); got != want[i] {
			t.Errorf("span %d is\n%s, want\n%s", i, got, want[i])
		}
		if i > 0 && (s.ParentID != root.SpanID || s.TraceID != root.TraceID || s.Start < root.Start || s.End > root.End) {
			t.Errorf("%+v is no child of %+v", s, root)
		}
	}
	for _, secret := range []string{customer, identifier, payload, key, "secret_calls", "77123", "tracestate", "vendor", "token"} {
		if bytes.Contains(c.Raw(), []byte(secret)) {
			t.Errorf("%q is in the spans", secret)
		}
	}
	if got := c.Headers()[0].Get("Api-Key"); got != "token" {
		t.Errorf("the header has the value %q", got)
	}
}

// line is the span in one line, without what changes from run to run.
func line(t *testing.T, s otlptest.Span) string {
	t.Helper()
	text := s.Name + " " + s.Kind + " ok"
	if s.Failed {
		text = s.Name + " " + s.Kind + " failed"
	}
	text += fmt.Sprint(" ", s.Events)
	for _, key := range slices.Sorted(maps.Keys(s.Attributes)) {
		if strings.HasSuffix(key, "meterworker.permit_wait_ms") {
			continue
		}
		text += " " + key + "=" + s.Attributes[key]
	}
	return text
}

// What a panic leaves open is ended with the message.
func TestSettledEndsEverything(t *testing.T) {
	c := traced(t, "always_on", 0, func(tracer *Tracer) {
		trace := tracer.Receive(event(""), 0)
		trace.Attempt()
		trace.Settled(delivery.Buried, deadletter.Panic, nil)
	})
	var got []string
	for _, s := range c.Spans() {
		got = append(got, fmt.Sprint(s.Name, " ", s.Failed, " ", s.Attributes["error.type"]))
	}
	if want := []string{"usage receive true panic", "stripe attempt true panic", "settle false "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Malformed ones are none: the message gets a trace of its own. OpenTelemetry's own reader
// agrees on each.
func TestTraceparents(t *testing.T) {
	zeros := strings.Repeat("0", 32)
	tests := map[string]bool{
		sampledParent: true, "00-" + producerTrace + "-" + producerSpan + "-00": true,
		"cc-" + producerTrace + "-" + producerSpan + "-01": true, "cc-" + producerTrace + "-" + producerSpan + "-01-more": true,
		"": false, " ": false, "00": false, "-": false, "---": false, "\x00": false, "\xff\xfe": false,
		sampledParent[:54]: false, sampledParent + "0": false, sampledParent + "-more": false, " " + sampledParent: false, sampledParent + " ": false,
		"ff-" + producerTrace + "-" + producerSpan + "-01": false, "cc-" + producerTrace + "-" + producerSpan + "-01.": false,
		"0g-" + producerTrace + "-" + producerSpan + "-01": false, "00-" + producerTrace + "-" + producerSpan + "-0x": false,
		"00-" + zeros + "-" + producerSpan + "-01": false, "00-" + producerTrace + "-" + zeros[:16] + "-01": false,
		"00-" + strings.ToUpper(producerTrace) + "-" + producerSpan + "-01": false, "00_" + producerTrace + "_" + producerSpan + "_01": false,
		"00-" + producerTrace + "-" + producerSpan: false, strings.Repeat("0", 55): false, strings.Repeat("a", 1<<20): false,
		"00-" + producerTrace + producerSpan + "----01": false, "00-'; drop table spans; --" + producerTrace[:10] + "-01": false,
		"00-" + producerTrace + "-" + producerSpan + "-01\r\nNats-Rollup: all": false,
	}
	for text, valid := range tests {
		t.Run(fmt.Sprintf("%.70q", text), func(t *testing.T) {
			got := oteltrace.SpanContextFromContext(parent(event(text).Header))
			theirs := oteltrace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": text}))
			if got.IsValid() != valid || theirs.IsValid() != valid {
				t.Fatalf("taken: %v, by OpenTelemetry: %v, want %v", got.IsValid(), theirs.IsValid(), valid)
			}
			if valid && (!got.Equal(theirs) || !got.IsRemote()) {
				t.Errorf("%+v, by OpenTelemetry %+v", got, theirs)
			}
			if kept := usage.Traceparent(event(text).Header); valid && kept != "00"+text[2:55] || !valid && kept != "" {
				t.Errorf("passed on as %q", kept)
			}
		})
	}
}

// HTTP libraries write the name with a capital.
func TestTraceparentWithACapital(t *testing.T) {
	m := message{header: map[string]string{"Traceparent": sampledParent}}
	if got := oteltrace.SpanContextFromContext(parent(m.Header)).TraceID().String(); got != producerTrace {
		t.Errorf("trace %s", got)
	}
}

func TestSamplers(t *testing.T) {
	const on, off, none = sampledParent, "00-" + producerTrace + "-" + producerSpan + "-00", ""
	tests := []struct {
		sampler string
		share   float64
		traced  map[string]bool // by traceparent
	}{
		{"parentbased_always_on", 0, map[string]bool{on: true, off: false, none: true}},
		{"parentbased_always_off", 0, map[string]bool{on: true, off: false, none: false}},
		{"parentbased_traceidratio", 0, map[string]bool{on: true, off: false, none: false}},
		{"parentbased_traceidratio", 1, map[string]bool{on: true, off: false, none: true}},
		{"always_on", 0, map[string]bool{on: true, off: true, none: true}},
		{"always_off", 0, map[string]bool{on: false, off: false, none: false}},
		{"traceidratio", 0, map[string]bool{on: false, off: false, none: false}},
		{"traceidratio", 1, map[string]bool{on: true, off: true, none: true}},
	}
	var known []string
	for _, tt := range tests {
		known = append(known, tt.sampler)
		tracer := open(t, "http://127.0.0.1:1", tt.sampler, tt.share)
		for traceparent, want := range tt.traced {
			if got := tracer.Receive(event(traceparent), 0) != delivery.Untraced; got != want {
				t.Errorf("%s %v with %q: traced %v, want %v", tt.sampler, tt.share, traceparent, got, want)
			}
		}
		closeNow(t, tracer)
	}
	for _, sampler := range Samplers() {
		if !slices.Contains(known, sampler) {
			t.Errorf("%s has no row", sampler)
		}
	}
	if _, err := Open(Config{Sampler: "jaeger_remote"}); err == nil {
		t.Error("an unknown sampler is taken")
	}
}

func TestParseHeaders(t *testing.T) {
	tests := []struct {
		text string
		want http.Header // nil: refused
	}{
		{"", http.Header{}},
		{"api-key=abc", http.Header{"Api-Key": {"abc"}}},
		{" a = b , c=d%20e=, ", http.Header{"A": {"b"}, "C": {"d e="}}},
		{"authorization=Basic%20dTpw", http.Header{"Authorization": {"Basic dTpw"}}},
		{"secret-value", nil},
		{"=secret", nil},
		{"a b=secret", nil},
		{"a=%zzsecret", nil},
		{"a=secret%0d%0aX: y", nil},
		{"a=secret\n", http.Header{"A": {"secret"}}},
		{"a:b=secret", nil},
		{"ä=secret", nil},
	}
	for _, tt := range tests {
		got, err := ParseHeaders(tt.text)
		if (err == nil) != (tt.want != nil) || err == nil && !maps.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%q: %v, %v, want %v", tt.text, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the secret is in %q", err)
		}
	}
}

// The page lists the attributes that there are.
func TestEveryAttributeIsDocumented(t *testing.T) {
	source, err := os.ReadFile("attributes.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/tracing.md")
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string, text []byte) (found []string) {
		for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			found = append(found, string(match[1]))
		}
		slices.Sort(found)
		return found
	}
	_, table, _ := bytes.Cut(page, []byte("| attribute |"))
	documented, existing := find("(?m)^\\| `([^`]+)` \\|", table), find(`attribute\.Key\("([^"]+)"\)`, source)
	if len(existing) == 0 || !slices.Equal(documented, existing) {
		t.Errorf("documented are\n%q, there are\n%q", documented, existing)
	}
}
