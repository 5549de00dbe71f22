// Package delivery is one event's way from the outbox to Stripe and back: the
// steps in order, the decision after each attempt, and the settlement. It knows
// JetStream and Stripe only through the small interfaces in this package.
//
// Invariants:
//
//   - Nothing is sent before its intent is stored in the journal, and nothing is acked
//     before what became of it is stored: a record of the delivery, or the dead
//     letter and its record.
//   - No byte of a request is written when an attempt of unknown outcome, of any
//     life of any worker, may be older than the safe window. This is looked at
//     again after the permit and after the connection was obtained.
//   - One event name, customer and identifier is in work once, whatever the lanes let
//     run beside each other: who comes second would not find in the ledger what the first is doing.
//   - All requests for one event carry the same identifier, name, customer, value
//     and timestamp. The Idempotency-Key stays the same after no answer and changes
//     after any HTTP error, since Stripe replays a stored error under the same key.
//   - Throttling (429) and contention (409) never bury a message and never spend
//     an attempt. A server error is tried three times in all.
//   - Trouble with the set-up (credentials, route, mode) halts the worker and
//     buries nothing; no request begins once the answer that shows it was read. An
//     unproven key is tried by one request at a time.
//   - A panic concerns one message: it is buried, the process goes on.
//
// The order is in [delivery.run]; each step has a file of its own: consult.go
// (what the ledger knows), attempt.go (intent, permit, send), decide.go (pure),
// settle.go (record, then ack). [Worker.Serve] pulls a partition and feeds the lanes.
//
// Two ends of work are kept apart: "stop" ends pulling and waiting (drain, halt,
// ownership lost), and what is in flight is finished; "cut" ends requests that are
// under way. Settling is cut by neither.
package delivery
