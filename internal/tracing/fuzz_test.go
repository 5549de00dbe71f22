package tracing

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/meterworker/meterworker/usage"
)

// What is read of any text is in it, and OpenTelemetry reads the same of what is passed on.
// It takes more than W3C allows of version 00 (what follows a dash), and less (flags to come).
func FuzzTraceparent(f *testing.F) {
	for _, text := range []string{sampledParent, "", "00", sampledParent + "-", "01" + sampledParent[2:] + "-x", "ff" + sampledParent[2:], sampledParent[:53] + "ff"} {
		f.Add(text)
	}
	read := func(text string) oteltrace.SpanContext {
		return oteltrace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": text}))
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := event(text)
		ours, kept := oteltrace.SpanContextFromContext(parent(m.Header)), usage.Traceparent(m.Header)
		if ours.IsValid() != (kept != "") {
			t.Errorf("%q is read as %+v and passed on as %q", text, ours, kept)
		}
		if kept == "" {
			if len(text) == 55 && read(text).IsValid() {
				t.Errorf("%q is dropped, and OpenTelemetry takes it", text)
			}
			return
		}
		if !ours.Equal(read(kept)) || len(kept) != 55 || kept[3:52] != text[3:52] || ours.IsSampled() != strings.Contains("13579bdf", text[54:55]) {
			t.Errorf("%q is read as %+v and passed on as %q", text, ours, kept)
		}
	})
}
