// Package replay is the operator's side of the dead letters: it reads them from
// USAGE_DLQ, page by page, and publishes them again by hand, as they are or edited;
// it discards them, and puts exported ones back.
//
// Invariants:
//
//   - A letter leaves USAGE_DLQ only after its replay is stored in USAGE, by a
//     PubAck of that very stream; what is stored under the replay's message id
//     is compared with the replay where the server says "duplicate".
//   - A replay is the original body, byte for byte, on
//     usage.replay.<event name>.<customer> with the original's tokens, so that it
//     comes to the partition whose journal knows the earlier attempts. It carries
//     the headers that [plan] lists and no other.
//   - The identifier of a replay stays what it was. Only usage that Stripe rejected after a
//     200 gets a new one, since its old one is used up. An edit gets a new one wherever
//     something under the old one may count: [Revise].
//   - What may already be counted goes out only when a person takes the risk:
//     [Permission].
//
// A letter under replay:
//
//	waiting ── judged: refused ──▶ waiting
//	   └────── published, PubAck ──▶ replayed, still there ── deleted ──▶ gone
//
// Crash points: before the PubAck the letter waits as before, whether the replay is
// stored or not. After it, the letter is replayed a second time by whoever
// finds it: the message id is made of the letter's number and of how often it
// was replayed, so inside the stream's duplicate window (2 min) one message is
// stored; beyond it both are, with one identifier, and the worker's ledger
// finds the second to be a duplicate. Two replays at once are the same case.
package replay
