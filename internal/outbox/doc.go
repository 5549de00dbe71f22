// Package outbox is the JetStream side of the worker: the streams and their
// checks, the partitions and who serves them, pulling, acking, the dead-letter
// stream, and trimming. It moves bytes and knows no Stripe.
//
// Invariants:
//
//   - A message that JetStream acknowledged stays in USAGE until it is acked and
//     older than the retention. Streams refuse when full; they never drop.
//   - What is dangerous is refused at start, with field, value and remedy:
//     another retention, discard old, memory storage, finite MaxDeliver, a short age limit,
//     asynchronous persistence, roll-ups, other partitions, another mode, a journal that is
//     gone. A USAGE stream that is deleted and made anew while we run is not pulled from.
//   - All workers have one epoch, that of USAGE: identifiers and message ids contain it.
//   - [Streams.Open] creates what is missing, or only checks.
//   - A message that is held is kept alive with in-progress heartbeats; a copy of a
//     held message (redelivered after a pause) is not handed out twice.
//   - Acks carry no proof: see package journal. Losing one costs a redelivery.
//   - Streams that are not what they were (an old copy put back, deleted and made anew) are
//     noticed, at a start and under running workers, and nothing is pulled until a person
//     has declared what that means: see [Continuity]. No number of a message ever means
//     two messages, whatever was put back.
//
// A partition is free, or owned by the worker whose marker is the last one in
// the journal. [Members] only proposes who should own what.
package outbox
