package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/tracing"
	"github.com/meterworker/meterworker/usage"
)

// flushWithin bounds the export of the last spans, after everything else has ended.
const flushWithin = 2 * time.Second

// watch opens what lets people look into the worker, traces and profiles, as far as it is
// asked for. The returned function ends both.
func (d *daemon) watch(life context.Context) (end func(), err error) {
	stopProfiling, err := d.profile(life)
	if err != nil {
		return nil, err
	}
	stopTracing, err := d.trace()
	if err != nil {
		stopProfiling()
		return nil, err
	}
	return func() { stopTracing(); stopProfiling() }, nil
}

// trace sets d.tracer where there is a collector.
func (d *daemon) trace() (end func(), err error) {
	cfg := d.cfg.Tracing
	if cfg.Endpoint == nil {
		return func() {}, nil
	}
	header, err := tracing.ParseHeaders(string(cfg.Headers))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	tracer, err := tracing.Open(tracing.Config{
		Endpoint: cfg.Endpoint, Header: header, Service: cfg.Service, Version: version, Instance: host + "/" + d.admin.Addr(),
		Sampler: cfg.Sampler, SamplerArg: cfg.Share,
		Dropped: func(spans int) { d.metrics.SpansDropped.Add(float64(spans)) }, Trouble: d.collector,
	})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	d.tracer = tracer
	d.log.Info("tracing", zap.String("collector", cfg.Endpoint.Host), zap.String("sampler", cfg.Sampler))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
		defer cancel()
		_ = tracer.Close(ctx) // what was not exported is counted
	}, nil
}

// collector tells that the collector does not take spans, or does again.
func (d *daemon) collector(err error) {
	if err != nil {
		d.log.Warn("spans are dropped: the collector does not take them; deliveries go on", zap.Error(err))
		return
	}
	d.log.Info("the collector takes spans again")
}

// newPublisher passes on the trace of whoever started this process, from the variable that
// OpenTelemetry has for it.
func newPublisher(p *process, js jetstream.JetStream) *usage.Publisher {
	publisher := usage.NewPublisher(js)
	publisher.Traceparent = func(context.Context) string { return p.Env["TRACEPARENT"] }
	return publisher
}
