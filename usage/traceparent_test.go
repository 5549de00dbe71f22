package usage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/meterworker/meterworker/usage"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// What the worker makes of corrupt ones is in package tracing's corpus.
func TestPublishWithTraceparent(t *testing.T) {
	tests := []struct {
		name  string
		given func(context.Context) string // nil: not set
		want  []string
	}{
		{"not set", nil, nil},
		{"none in this context", func(context.Context) string { return "" }, nil},
		{"one", func(context.Context) string { return traceparent }, []string{traceparent}},
		{"of a later version", func(context.Context) string { return "01" + traceparent[2:] + "-more" }, []string{traceparent}},
		{"malformed", func(context.Context) string { return traceparent + "\r\nNats-Rollup: all" }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			js, stream := startStream(t, connect(t, startServer(t, nil)), nil)
			publisher := usage.NewPublisher(js)
			publisher.Traceparent = tt.given
			for range 2 { // the second is a duplicate: the trace is no part of what the message says
				if _, err := publisher.Publish(t.Context(), newEvent(t, "a", 1)); err != nil {
					t.Fatal(err)
				}
			}
			m, err := stream.GetMsg(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Header["traceparent"]; fmt.Sprint(got) != fmt.Sprint(tt.want) || m.Header["Nats-Rollup"] != nil {
				t.Errorf("stored with %v, want %v", m.Header, tt.want)
			}
			if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 1 {
				t.Errorf("%+v, %v: want one message", info, err)
			}
		})
	}
}

func TestTraceparentAllocatesNothing(t *testing.T) {
	header := func(name string) string {
		if name == usage.HeaderTraceparent {
			return traceparent
		}
		return ""
	}
	none := func(string) string { return "" }
	if n := testing.AllocsPerRun(1000, func() { usage.Traceparent(header); usage.Traceparent(none) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
