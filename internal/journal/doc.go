// Package journal is what the worker may believe about the past: who owns a
// partition, what may have been sent to Stripe, and what became of it. Never
// losing and never billing twice rest on this package; acks prove nothing.
//
// # What is stored
//
// One stream, three subjects a partition p:
//
//	usage.journal.<p>.owner   markers: "from here on, I own p"
//	usage.journal.<p>.intent  intents: (sequence, key, fingerprint), before a send
//	usage.journal.<p>.done    records: what became of an intent
//
// A sequence is a message's number in the outbox. A key is a 64-bit hash of
// (event name, customer, identifier). A fingerprint is a 32-bit hash of the
// content as published. An entry is small, so many are packed into one message
// (group commit: what piled up while the last write was under way, and what came while
// an entry had patience: see [Entry]).
//
// # The fence
//
// [Claim] appends a marker and then reads the partition up to that marker. Every
// later write names the marker as the last message that it expects on the owner
// subject, and the server refuses the write when another marker has come. So
// after a take-over the former owner can write nothing, hence begin nothing, and
// whatever it had begun stands before the new marker and has been read. (It can
// still make the requests whose intents it had stored: see "Time".)
//
// Writes have one in flight a partition, intents and records together, each with
// a message id of its own. After an unknown outcome the same bytes are written
// again under the same id. An answer "duplicate" proves that the bytes are
// stored but not that we still own the partition (a cluster looks at the id before
// the fence, a single server after it), so an intent that was answered so is
// written once more under a fresh id before anybody may send.
//
// # States of a sequence
//
//	         Intend                     Record(Delivered)
//	fresh ──────────▶ open ───────────────────────────────▶ delivered
//	  ▲                │ │  Record(NotSent)                     (end: ack)
//	  └────────────────┼─┘
//	  ▲                │    Record(Unknown t0)
//	  └── attempt of ──┘
//	      unknown outcome remembered        Record(Dying)        Record(Dead)
//	fresh or open ─────────────────────────────────────▶ dying ─────────▶ dead
//	                                       (dead letter is published)  (end: ack)
//
// Every record closes the sequence's open intent. NotSent is legal only when each
// attempt under the intent has a definite refusal or never had a byte written;
// otherwise it is Unknown. Unknown comes before Dying in the same message. An
// intent for a sequence that has an open one is refused ([ErrUnresolved]), and the
// open one is recorded as unknown: whoever began left without a word.
//
// States of an identifier (key):
//
//   - delivered by a sequence, with a fingerprint. For ever, as far as the ledger
//     remembers: a delivered identifier is never sent again, whatever else is known.
//   - attempts of unknown outcome, each with its fingerprint and its t0. They go away only with a
//     delivery or with age. A later refusal does not resolve an earlier
//     unknown.
//
// t0 is a lower bound of the moment of the first byte of an attempt: the time at
// which its intent was stored. The first attempt may have reached Stripe at t0 or
// later, so Stripe remembers the identifier at least until t0 + 24 h; who sends
// before t0 + the safe window (23 h) cannot be counted twice.
//
// # Crash points
//
// What a restart, by anybody, finds and does when the owner died:
//
//	before the intent was stored ......... nothing was sent; the message is redelivered: fresh
//	intent stored, not yet sent .......... [Claim] turns the open intent into unknown(t0); sent
//	                                       again inside the safe window, dead letter past it
//	sent, answer not recorded ............ the same
//	delivered recorded, not acked ........ redelivered; this sequence is delivered: ack
//	unknown and dying recorded, not published  redelivered; publishes the same letter again, never sends
//	letter published, dead not recorded .. the same, after looking whether the letter is stored;
//	                                       a person who replayed it in between finds it once more,
//	                                       and its second replay ends as a duplicate
//	dead recorded, not acked ............. redelivered; this sequence is dead: ack
//	not-sent recorded, not handed back ... redelivered after AckWait: fresh
//	marker stored, journal not read ...... the next claim appends its own marker; nothing was begun
//
// A process that was frozen instead of killed wakes up as a former owner: its
// writes are refused, and the one request that it may be about to make is checked
// against the age of its intent after the connection was obtained. Inside the
// safe window that request is harmless (same identifier); past it, it is not made.
//
// # Time
//
// Ages are compared, never dates of different clocks: see [Moment]. An age is
// the larger one by wall clock and by monotonic clock, so neither a stepped clock
// nor a suspended machine makes an attempt look young. Where the server's clock and
// ours disagree, the earlier stamp counts. A virtual machine that is paused with
// both its clocks is not covered; nobody inside can tell.
//
// With one wrong clock of the three (server, writer, reader) no attempt is taken for
// younger than it is; two that are wrong alike outvote the third.
//
// # Lost records
//
// Where the stream itself is not what it was, the store answers [ErrBroken] and the
// partition ends. What a person then declares to be lost comes with the next claim: see
// [Span].
//
// # Forgetting
//
// Intents are purged, from the oldest on, up to the first message with an entry
// that has no record. The purge is not fenced and need not be: it concerns
// messages older than any later marker, resolved by records that are stored.
// The marker is renewed under the fence long before the age limit takes it. Records
// leave by the stream's age limit (36 days: 35 until Stripe refuses an event by
// its timestamp, and a margin). In memory the ledger keeps its rows by day and
// drops whole days, when they leave the window or when memory is short; from then
// on an event whose timestamp is older than what is still known is reported as
// [Forgotten] ([Ledger.Horizon] says how old). Below 25 hours the ledger refuses to
// forget for want of memory: the worker stops.
package journal
