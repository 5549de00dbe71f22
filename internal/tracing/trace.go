package tracing

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

// Receive implements [delivery.Tracer].
func (t *Tracer) Receive(m delivery.Message, partition int) delivery.Trace {
	ctx, span := t.tracer.Start(parent(m.Header), spanReceive, oteltrace.WithSpanKind(oteltrace.SpanKindConsumer))
	if !span.IsRecording() {
		return delivery.Untraced
	}
	span.SetAttributes(
		keySystem.String("nats"), keyOperation.String("receive"), keyKind.String("receive"),
		keyDestination.String(stream), keyPartition.String(strconv.Itoa(partition)), keyBodySize.Int(len(m.Body())),
		keySequence.Int64(int64(m.Sequence())), keyReplay.Bool(strings.HasPrefix(m.Subject(), "usage.replay.")),
	)
	if counted, ok := m.(interface{ Deliveries() uint64 }); ok {
		span.SetAttributes(keyDeliveries.Int64(int64(counted.Deliveries())))
	}
	return &trace{tracer: t.tracer, ctx: ctx, receive: span}
}

// parent is the span of the producer, remote, in a context of its own.
func parent(header func(string) string) context.Context {
	ctx := context.Background()
	text := usage.Traceparent(header)
	if text == "" {
		return ctx
	}
	// The form is checked: none of these fails.
	id, _ := oteltrace.TraceIDFromHex(text[3:35])
	span, _ := oteltrace.SpanIDFromHex(text[36:52])
	flags, _ := strconv.ParseUint(text[53:], 16, 8)
	return oteltrace.ContextWithRemoteSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: oteltrace.TraceFlags(flags), Remote: true,
	}))
}

// trace is one message's spans.
type trace struct {
	tracer  oteltrace.Tracer
	ctx     context.Context // of receive, for its children
	receive oteltrace.Span
	attempt oteltrace.Span // nil: none is under way
	settle  oteltrace.Span // nil: not begun

	attempts int       // of this life
	turn     time.Time // since when the permit is waited for
}

// Attempt implements [delivery.Trace].
func (t *trace) Attempt() {
	_, t.attempt = t.tracer.Start(t.ctx, spanAttempt, oteltrace.WithSpanKind(oteltrace.SpanKindClient), oteltrace.WithAttributes(keyMethod.String("POST")))
	if t.attempts > 0 {
		t.attempt.SetAttributes(keyResend.Int(t.attempts))
	}
	t.turn = time.Now()
}

// Permitted implements [delivery.Trace].
func (t *trace) Permitted() {
	waited := time.Since(t.turn)
	t.attempt.AddEvent(eventPermit, oteltrace.WithAttributes(keyPermitWait.Float64(float64(waited.Microseconds())/1e3)))
}

// Attempted implements [delivery.Trace].
func (t *trace) Attempted(a delivery.Answer, refused string) {
	span := t.attempt
	t.attempt = nil
	defer span.End()
	if refused != "" {
		span.SetAttributes(keyUnsent.String(refused))
		return
	}
	t.attempts++
	class := a.Class.String()
	span.SetAttributes(keyClass.String(class))
	if a.Status != 0 {
		span.SetAttributes(keyStatus.Int(a.Status))
	}
	if id, ok := requestID(a); ok {
		span.SetAttributes(id)
	}
	if a.Class != delivery.Accepted {
		fail(span, class)
	}
}

// Settling implements [delivery.Trace].
func (t *trace) Settling() {
	if t.settle == nil {
		_, t.settle = t.tracer.Start(t.ctx, spanSettle)
	}
}

// Settled implements [delivery.Trace].
func (t *trace) Settled(d delivery.Disposition, reason deadletter.Reason, err error) {
	t.Settling()
	if t.attempt != nil { // a panic cut it short
		fail(t.attempt, "panic")
		t.attempt.End()
	}
	outcome := []attribute.KeyValue{keyDisposition.String(string(d))}
	if d == delivery.Buried && reason != "" {
		outcome = append(outcome, keyReason.String(string(reason)))
		fail(t.receive, string(reason))
	}
	t.settle.SetAttributes(outcome...)
	t.receive.SetAttributes(outcome...)
	if err != nil {
		fail(t.settle, "ack")
	}
	t.settle.End()
	t.receive.End()
}

// fail marks the span; the error's text could hold anything, so that its kind must do.
func fail(span oteltrace.Span, kind string) {
	span.SetStatus(codes.Error, "")
	span.SetAttributes(keyError.String(kind))
}
