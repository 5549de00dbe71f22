// Package webhook takes in what Stripe says later: a meter event that was answered with 200
// may be rejected seconds afterwards, and a thin event tells of it. [Receiver] verifies and
// stores such reports; [Worker] reads the report itself, finds the usage that it is about,
// and makes dead letters of it.
//
// Invariants:
//
//   - A report is answered with 2xx only once it is stored: else Stripe delivers it again, for
//     three days.
//   - Nothing is believed of a request before its signature is verified over the very bytes,
//     and of those at most 64 KiB are read. No answer says why a signature is wrong.
//   - What is another account's or of the other mode is refused and not stored.
//   - A message gets at most one dead letter from reports, and none where it has died already:
//     see [Worker]. Taking the same report, or another about the same usage, any number of
//     times changes nothing.
//   - Reports give samples. What they count and do not name is counted per meter and code, in
//     the log, the metrics and the result that is stored: it never vanishes.
//   - No secret, identifier or customer is in a metric; no secret in a log line or a letter.
//
// A report:
//
//	delivered by Stripe ── stored ──▶ taken ── read, joined, letters stored ──▶ finished ──▶ acked
//	                         ▲          │ Stripe, NATS out of reach; usage not settled yet
//	                         └──────────┘ again later
//
// Crash points: before the PubAck Stripe delivers again. Between a letter and the mark of its
// message the report is taken again, and the letter is looked for before another is
// stored; if a person has replayed and so deleted it in between, it is stored once more, and
// its second replay ends as a duplicate, since it gets the same new identifier. After
// the result is stored the report is acked without another look.
package webhook
