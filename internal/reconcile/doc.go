// Package reconcile compares what was delivered with what Stripe has counted, by meter,
// customer and hour of the events' timestamps, and names what can explain a difference.
//
// Ours is the outbox's retained past, joined with the journal's last word on each message.
// Stripe's is the meters' event summaries. Neither side is changed by it.
//
// Invariants:
//   - A cell is called different only after two looks at both sides that agree, and when its
//     newest delivery is older than the time that Stripe's sums take to settle. What does not
//     come to rest in time is called unsettled: neither equal nor different.
//   - What has no final record is no difference: it waits.
//   - A dead letter of unknown outcome is called counted, or not counted, only where exactly
//     one assignment of the cell's open letters makes the sums meet, and nothing else could.
//   - Memory is bounded by the cells, not the events: a byte for each message of the past,
//     a sum for each cell, and some hundred bytes for each cell that differs.
package reconcile
