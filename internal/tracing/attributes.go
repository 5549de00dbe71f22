package tracing

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/meterworker/meterworker/internal/delivery"
)

// The names of the spans.
const (
	spanReceive = "usage receive"
	spanAttempt = "stripe attempt"
	spanSettle  = "settle"

	eventPermit = "permit"
)

// Every attribute that a span may have: OpenTelemetry's names where it has one.
const (
	keySystem      = attribute.Key("messaging.system")
	keyOperation   = attribute.Key("messaging.operation.name")
	keyKind        = attribute.Key("messaging.operation.type")
	keyDestination = attribute.Key("messaging.destination.name")
	keyPartition   = attribute.Key("messaging.destination.partition.id")
	keyBodySize    = attribute.Key("messaging.message.body.size")

	keyMethod = attribute.Key("http.request.method")
	keyResend = attribute.Key("http.request.resend_count")
	keyStatus = attribute.Key("http.response.status_code")
	keyError  = attribute.Key("error.type")

	keySequence    = attribute.Key("meterworker.sequence")
	keyDeliveries  = attribute.Key("meterworker.deliveries")
	keyReplay      = attribute.Key("meterworker.replay")
	keyDisposition = attribute.Key("meterworker.disposition")
	keyReason      = attribute.Key("meterworker.reason")
	keyClass       = attribute.Key("meterworker.class")
	keyUnsent      = attribute.Key("meterworker.unsent")
	keyPermitWait  = attribute.Key("meterworker.permit_wait_ms")
	keyRequestID   = attribute.Key("stripe.request_id")
)

// stream is the stream of package outbox. The subject names the customer, so it is in no
// span.
const stream = "USAGE"

// requestIDLength is twice that of Stripe's request ids.
const requestIDLength = 64

// requestID is Stripe's, which whoever answers may choose: what does not look like one is
// left out.
func requestID(a delivery.Answer) (attribute.KeyValue, bool) {
	if len(a.RequestID) <= len("req_") || len(a.RequestID) > requestIDLength || a.RequestID[:4] != "req_" {
		return attribute.KeyValue{}, false
	}
	for _, r := range a.RequestID {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' {
			return attribute.KeyValue{}, false
		}
	}
	return keyRequestID.String(a.RequestID), true
}
