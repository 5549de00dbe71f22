// Package sender makes attempts at Stripe: one call of [V1.Send] is at most one
// HTTP request, and every way it can end is one [delivery.Class].
//
// It holds these invariants:
//
//   - At most one request a call reaches the wire: stripe-go's retries are off,
//     the body cannot be rewound by Go's transport, redirects are not followed.
//   - No byte of a request is written before the attempt's Ready returned nil.
//   - NotSent is said only when no byte of the request was written and none can
//     be written any more. Where that cannot be known it is NoAnswer.
//   - Accepted is said only for a whole reply with status 200 that names this
//     event and the mode of the key.
//   - The key appears in no answer, error or log.
//
// An [exchange] passes through the stages connecting (no connection yet), held
// (a connection is there, Ready decides), released (bytes may flow) and ended
// (no byte may flow). Only this package and the webhook know stripe-go.
package sender
