// Package tracing shows each sampled message's way through a worker as spans, to an
// OpenTelemetry collector over OTLP/HTTP: from the producer's traceparent through every
// attempt to the settlement. It is the only package that knows OpenTelemetry; the
// steps know [delivery.Trace].
//
// Invariants:
//
//   - No identifier, customer, event name, payload, subject, message id or key is in a
//     span: the attributes are those of the list in attributes.go, each a number, a word
//     of a closed list, or Stripe's id of a request.
//   - A message's spans belong to the trace of its producer, and its sampling flag
//     decides (by default; see [Samplers]). A malformed traceparent is none; tracestate
//     and baggage are not read.
//   - Tracing never holds up a delivery: a span that ends goes into a queue of a fixed
//     size, or is dropped and counted. One goroutine exports, in batches, with a bound
//     for every request.
//   - Nothing of a trace is sent to Stripe.
//   - Without a [Tracer] nothing of this package runs, and the steps allocate nothing for it.
//
// The exporter is OpenTelemetry's own encoding behind an HTTP client of ours: its ready
// client (otlptracehttp) links gRPC, 2.6 MB of it, and prints malformed headers, which hold
// credentials, on standard error.
package tracing
