// Package console serves the admin HTTP endpoints of a worker.
//
//	/livez    200 while the process works, whatever NATS and Stripe do
//	/readyz   200 once every check holds, else 503; both name each check
//	/metrics  Prometheus text format or OpenMetrics, as the scraper asks
//
// Anything else is 404. All three are read-only and show no event, customer or
// key, so they need no token on any address.
//
// Invariants: nothing here calls NATS or Stripe; a slow or hostile client is
// bounded by time-outs and by the size of its headers; a body is never read.
package console
