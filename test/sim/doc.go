// Package sim runs the whole chain from the outbox to Stripe in virtual time, under
// random faults, and holds what happens against the invariants of docs/invariants.md.
// It has tests only.
//
// What is real: package delivery (worker and breaker), package journal (claims, the
// fence, the ledger), package ratelimit (bucket, lanes and, for every fourth seed, the
// shared bucket), packages usage and deadletter, package replay, and, for every third
// seed, the sender over connections in memory. What is a model: the USAGE stream with its
// consumers, the journal's stream (package journaltest), the dead-letter stream, the
// control bucket, the members' agreement on who serves what, and a Stripe that forgets
// an identifier exactly 24 hours after it received it.
//
// One seed is one schedule: a small world (lives of workers, partitions, events), a
// subset of the fault kinds (see [kinds] in kinds_test.go; each also occurs alone), and
// a plan of what goes wrong when, over minutes to weeks. A life passes points: right
// before and right after each of its effects on the outside. At a point it may be
// killed, or frozen: then all its goroutines stop at their next point and go on when
// it thaws, as after SIGSTOP. Two gaps are left out, since nobody can close them: between
// the last look at the age of an attempt and the first byte of its request (the hour
// between the safe window and Stripe's memory is there for it), and between the last look
// at the age of an announced dead letter and its publication. A process that stood still
// in the second for more than 90 seconds could store a letter twice; no money hangs on it,
// since both name one identifier.
//
// States of a schedule:
//
//	faults ── the plan is through ──▶ calm ── everything settled ──▶ drained ──▶ books
//
// During faults and calm the safety invariants are looked at with every effect; a
// violation names the invariant. From calm on everything must settle within
// [patience]: liveness. The books compare sets of identifiers and their units, in the
// classes lost (stored, and nowhere), unexpected (counted, never published), double
// (counted more often than a person has agreed to) and recovered (counted although its
// attempt was never answered).
//
// Draws are made by name (life, message, how often), not by turn, and every effect
// takes a drawn time of its own, so that two goroutines hardly ever act at the same
// instant: the same seed gives the same schedule. Where two of them do, the scheduler
// chooses; a replay therefore repeats its schedule until it sees a violation, at most
// [replays] times.
package sim
