// Package console serves the admin address of a worker.
//
//	/livez    200 while the process works, whatever NATS and Stripe do
//	/readyz   200 once every check holds, else 503; both name each check
//	/metrics  Prometheus text format or OpenMetrics, as the scraper asks
//
// These are read-only and show no event, customer or key, so they need no token on any
// address. Beside them is the console, a page for operators with an API: the fleet as
// `meterworker status` shows it, live; dead letters and what can be done about them;
// pause and resume; the audit trail. What it shows and does comes through [Operator]. See
// [Pages] for its routes.
//
// Invariants:
//
//   - The console is there on loopback, or where there is a token; else its addresses do
//     not exist. Without a token a request must name a loopback host, so that no other
//     site's name can be made to point here.
//   - What changes something is a POST, of the same origin, by somebody who may, and never
//     where [Access].ReadOnly is set. The Operator records it before and after.
//   - What came from outside stands in a page as text only: html/template escapes it, the
//     policy forbids scripts and styles in a page, and what would be invisible is written
//     as an escape.
//   - Nothing is held in memory by the number of dead letters: lists come page by page,
//     and a run remembers counts and its first hundred troubles.
//   - The fleet is looked at only while somebody watches, once for all of them. A slow
//     reader misses looks and delays nobody.
//   - /livez, /readyz and /metrics call neither NATS nor Stripe. A slow or hostile client
//     is bounded by time-outs and by the size of headers and forms.
//
// A run is one deed, of one letter or of many, in the background of the worker:
//
//	running ── all letters dealt with ──▶ following ── deliveries known, or 30 s ──▶ done
//	   │ └── stopped, or the worker drains ──▶ stopped (after the letter in hand)
//	   └── failed (what was not begun waits as before)
package console
