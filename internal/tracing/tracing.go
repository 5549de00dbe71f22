package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Config says where spans go, and which.
type Config struct {
	Endpoint   *url.URL    // of the collector, without /v1/traces
	Header     http.Header // of every request; may hold credentials
	Service    string      // service.name
	Version    string      // service.version
	Instance   string      // service.instance.id
	Sampler    string      // one of [Samplers]
	SamplerArg float64     // share of the traces, for the samplers that take one

	Dropped func(spans int)
	Trouble func(error) // the collector does not take spans; nil: it does again
}

// Tracer traces one worker's messages. It implements [delivery.Tracer].
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
}

// Open returns a tracer; Close must follow. It connects to nobody.
func Open(cfg Config) (*Tracer, error) {
	sampler, err := samplerOf(cfg.Sampler, cfg.SamplerArg)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(context.Background(), newCollector(cfg.Endpoint, cfg.Header))
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sampler),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version),
			attribute.String("service.instance.id", cfg.Instance),
		)),
		sdktrace.WithSpanProcessor(newQueue(exporter, cfg.Dropped, cfg.Trouble)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/meterworker/meterworker")}, nil
}

// Close exports what waits until ctx ends; what is left is dropped and counted.
func (t *Tracer) Close(ctx context.Context) error {
	return t.provider.Shutdown(ctx)
}

// Samplers are the values of OTEL_TRACES_SAMPLER. Those with "parentbased" do what the
// producer's flag says, and decide only about messages without a traceparent.
func Samplers() []string {
	return []string{
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
		"always_on", "always_off", "traceidratio",
	}
}

// TakesShare reports whether the sampler has an argument.
func TakesShare(sampler string) bool { return strings.HasSuffix(sampler, "traceidratio") }

func samplerOf(name string, share float64) (sdktrace.Sampler, error) {
	root, based := strings.CutPrefix(name, "parentbased_")
	var sampler sdktrace.Sampler
	switch root {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		sampler = sdktrace.TraceIDRatioBased(share)
	default:
		return nil, fmt.Errorf("no sampler is named %q", name)
	}
	if based {
		sampler = sdktrace.ParentBased(sampler)
	}
	return sampler, nil
}

var errHeaders = errors.New("is no list of name=value with commas between them")

// ParseHeaders reads OTEL_EXPORTER_OTLP_HEADERS: name=value pairs with commas between them,
// values percent-encoded. The error never tells what is in it.
func ParseHeaders(text string) (http.Header, error) {
	header := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		value, err := url.PathUnescape(value)
		if !ok || err != nil || !isToken(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, errHeaders
		}
		header.Set(name, value)
	}
	return header, nil
}

// isToken reports whether name may be that of an HTTP header (RFC 9110).
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
