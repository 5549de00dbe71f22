package tracing

import (
	"context"
	"net/url"
	"testing"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/otlptest"
)

// BenchmarkReceiveToSettled is what a message with one attempt costs the goroutine that
// delivers it; what off costs is in package delivery.
func BenchmarkReceiveToSettled(b *testing.B) {
	for _, sampler := range []string{"always_off", "always_on"} {
		b.Run(sampler, func(b *testing.B) {
			endpoint, err := url.Parse(otlptest.Start(b).URL)
			if err != nil {
				b.Fatal(err)
			}
			tracer, err := Open(Config{Endpoint: endpoint, Sampler: sampler, Dropped: func(int) {}, Trouble: func(error) {}})
			if err != nil {
				b.Fatal(err)
			}
			m := event(sampledParent)
			b.ReportAllocs()
			for b.Loop() {
				trace := tracer.Receive(m, 7)
				trace.Attempt()
				trace.Permitted()
				trace.Attempted(delivery.Answer{Class: delivery.Accepted, Status: 200, RequestID: "req_Ab1"}, "")
				trace.Settling()
				trace.Settled(delivery.Delivered, "", nil)
			}
			b.StopTimer()
			ended, cancel := context.WithCancel(b.Context())
			cancel() // what waits is of no interest
			_ = tracer.Close(ended)
		})
	}
}
