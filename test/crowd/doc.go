// Package crowd runs a fleet at full rate in virtual time, without faults, and looks at
// what Stripe sees of it: one client that uses the whole rate and no more, and never has
// two calls at once for one customer and meter. It has tests only.
//
// Real are packages delivery, journal and ratelimit (lanes, buckets, the shared schedule)
// of every worker. Models are the outbox, the control bucket and the journal's store, each
// with times of a NATS server nearby, and a Stripe with a strict token bucket. Because the
// time is virtual, what is found is the design's, not the machine's: figures of real
// processes are for bench/.
package crowd
