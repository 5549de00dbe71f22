package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestTracingSettings(t *testing.T) {
	const on = "http://collector:4318"
	tests := []struct {
		name string
		env  environment
		want string // of the problem; "" for none
	}{
		{"off, whatever else a platform sets", environment{"OTEL_TRACES_SAMPLER": "jaeger_remote", "OTEL_TRACES_SAMPLER_ARG": "x", "OTEL_EXPORTER_OTLP_HEADERS": "hush"}, ""},
		{"on", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_HEADERS": "a=hush"}, ""},
		{"a base with a path", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://example.com/otlp/"}, ""},
		{"no URL", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "is no http or https URL"},
		{"gRPC", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://collector:4317"}, "is no http or https URL"},
		{"no host", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "names no host"},
		{"a user", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:hush@collector"}, "holds a user"},
		{"a query", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on + "?token=hush"}, "has a query"},
		{"headers", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_HEADERS": "hush"}, "is no list of name=value"},
		{"sampler", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, "is no choice"},
		{"share", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.1"}, "is no share"},
		{"share that is no number", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, "is no share"},
		{"share of a sampler without one", environment{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER_ARG": "x"}, ""},
		{"profiles", environment{"METERWORKER_PPROF_ADDR": "127.0.0.1:6060"}, ""},
		{"profiles on IPv6", environment{"METERWORKER_PPROF_ADDR": "[::1]:6060"}, ""},
		{"profiles by name", environment{"METERWORKER_PPROF_ADDR": "localhost:6060"}, ""},
		{"profiles everywhere", environment{"METERWORKER_PPROF_ADDR": ":6060"}, "is not on loopback"},
		{"profiles on all addresses", environment{"METERWORKER_PPROF_ADDR": "0.0.0.0:6060"}, "is not on loopback"},
		{"profiles on a network", environment{"METERWORKER_PPROF_ADDR": "10.0.0.1:6060"}, "is not on loopback"},
		{"profiles on a name", environment{"METERWORKER_PPROF_ADDR": "localhost.example.com:6060"}, "is not on loopback"},
		{"profiles without a port", environment{"METERWORKER_PPROF_ADDR": "127.0.0.1"}, "is no HOST:PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, problems := load(t, valid(tt.env))
			if tt.want == "" && problems != nil || tt.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Detail, tt.want)) {
				t.Fatalf("problems %v, want %q", problems, tt.want)
			}
			shown, err := json.Marshal(struct {
				Problems []problem
				Settings []setting
				Config   string
			}{problems, nil, fmt.Sprintf("%+v", result.Config)})
			if err != nil || bytes.Contains(shown, []byte("hush")) {
				t.Errorf("the secret is in %s, %v", shown, err)
			}
			if problems == nil && (result.Config.Tracing.Endpoint != nil) != (tt.env["OTEL_EXPORTER_OTLP_ENDPOINT"] != "") {
				t.Errorf("tracing is on: %v", result.Config.Tracing.Endpoint != nil)
			}
		})
	}
}
