// Package otlptest is an OpenTelemetry collector for tests: it takes spans over OTLP/HTTP on
// loopback and keeps them in a form that tests compare.
package otlptest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// within bounds the wait for spans; no test waits for it to pass.
const within = 30 * time.Second

// Span is a span as the collector got it. Ids are hexadecimal; ParentID is "" for a root.
type Span struct {
	Name, Kind               string
	TraceID, SpanID          string
	ParentID                 string
	Start, End               uint64 // Unix nanoseconds
	Failed                   bool
	Attributes               map[string]string
	Events                   []string
	Service                  string
	Links, DroppedAttributes int
}

// Collector is a running collector. It ends with the test.
type Collector struct {
	t   testing.TB
	URL string

	mu      sync.Mutex
	status  int
	headers []http.Header
	spans   []Span
	raw     []byte
	news    chan struct{}
}

// Start starts a collector that accepts everything.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t, status: http.StatusOK, news: make(chan struct{}, 1)}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// Answer sets the status of further answers; spans are kept only at 200.
func (c *Collector) Answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// ServeHTTP implements http.Handler.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %s with %q: %v, want spans in protobuf", r.Method, r.URL, r.Header.Get("Content-Type"), err)
	}
	c.headers = append(c.headers, r.Header)
	if c.status == http.StatusOK {
		c.raw = append(c.raw, body...)
		c.spans = append(c.spans, spansOf(&data)...)
	}
	w.WriteHeader(c.status)
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// Wait returns the spans once they are enough, in the order in which they began.
func (c *Collector) Wait(enough func([]Span) bool) []Span {
	c.t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		spans := c.Spans()
		if enough(spans) {
			return spans
		}
		select {
		case <-c.news:
		case <-timeout.C:
			c.t.Fatalf("only these spans came within %s: %+v", within, spans)
		}
	}
}

// Spans is what came so far, in the order in which they began.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.spans, func(a, b Span) int { return int(int64(a.Start - b.Start)) })
	return slices.Clone(c.spans)
}

// Raw is every byte of the bodies that were accepted.
func (c *Collector) Raw() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.raw)
}

// Headers are those of every request so far.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

func spansOf(data *tracepb.TracesData) []Span {
	var spans []Span
	for _, resource := range data.GetResourceSpans() {
		service := attributesOf(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				spans = append(spans, spanOf(s, service))
			}
		}
	}
	return spans
}

func spanOf(s *tracepb.Span, service string) Span {
	span := Span{
		Name: s.GetName(), Kind: s.GetKind().String(), Service: service,
		TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
		Start: s.GetStartTimeUnixNano(), End: s.GetEndTimeUnixNano(),
		Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Attributes: attributesOf(s.GetAttributes()),
		Links: len(s.GetLinks()), DroppedAttributes: int(s.GetDroppedAttributesCount()),
	}
	for _, e := range s.GetEvents() {
		span.Events = append(span.Events, e.GetName())
		for key, value := range attributesOf(e.GetAttributes()) {
			span.Attributes[e.GetName()+"/"+key] = value
		}
	}
	return span
}

func attributesOf(list []*commonpb.KeyValue) map[string]string {
	attributes := map[string]string{}
	for _, a := range list {
		attributes[a.GetKey()] = text(a.GetValue())
	}
	return attributes
}

func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	default:
		return "?"
	}
}
