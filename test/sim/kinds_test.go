package sim

import "math/rand/v2"

// kind is a kind of fault. Each row of the answers that Stripe may give instead of its
// usual one is a kind, too: see [rows].
type kind string

// The kinds that are no answers of Stripe's.
const (
	publishedTwice   kind = "producer: ack lost, published again"
	publishedLater   kind = "producer: published again days later"
	otherContent     kind = "producer: identifier with other content"
	badInput         kind = "producer: no event"
	unnamed          kind = "producer: no identifier"
	wrongDate        kind = "producer: clock wrong"
	poison           kind = "worker: panics on a message"
	redelivered      kind = "outbox: delivered again while in hand"
	ackLost          kind = "outbox: ack lost"
	serverKilled     kind = "outbox: server killed, the last acks forgotten"
	consumerRenewed  kind = "outbox: consumer created again"
	clockStepped     kind = "outbox: server's clock stepped"
	journalRefused   kind = "journal: write not stored"
	journalUnheard   kind = "journal: write stored, reported as failed"
	journalSlow      kind = "journal: write under way for long"
	journalCopied    kind = "journal: late copy of a write"
	letterRefused    kind = "dead letters: not stored"
	letterUnheard    kind = "dead letters: stored, reported as failed"
	killed           kind = "worker: killed"
	frozen           kind = "worker: frozen for seconds"
	frozenLong       kind = "worker: frozen for hours"
	takenOver        kind = "fleet: partition taken from a live worker"
	drained          kind = "fleet: worker drained"
	stopped          kind = "fleet: nobody there for days or weeks"
	shortMemory      kind = "ledger: remembers less than Stripe takes"
	paused           kind = "operator: paused"
	storeCut         kind = "network: worker without the store"
	stripeCut        kind = "network: worker without Stripe"
	connectionDenied kind = "network: connection refused"
	outage           kind = "Stripe: outage of minutes"
	outageLong       kind = "Stripe: outage of hours"
	keyRotated       kind = "operator: key rotated"
	keyRevoked       kind = "operator: key revoked"
	replayed         kind = "operator: dead letter replayed"
	replayedTwice    kind = "operator: replayed, not deleted, replayed again"
	replayedInDoubt  kind = "operator: replayed, a double bill accepted"
)

var plainKinds = []kind{
	publishedTwice, publishedLater, otherContent, badInput, unnamed, wrongDate, poison, redelivered, ackLost,
	serverKilled, consumerRenewed, clockStepped, journalRefused, journalUnheard, journalSlow, journalCopied,
	letterRefused, letterUnheard, killed, frozen, frozenLong, takenOver, drained, stopped, shortMemory, paused, storeCut, stripeCut,
	connectionDenied, outage, outageLong, keyRotated, keyRevoked, replayed, replayedTwice, replayedInDoubt,
}

// kinds is the closed list.
func kinds() []kind {
	all := append([]kind(nil), plainKinds...)
	for _, r := range rows {
		all = append(all, kind(r.name))
	}
	return all
}

// subset draws which kinds of faults a schedule may meet: none, one alone, a few, or
// many.
func subset(r *rand.Rand) map[kind]bool {
	all, met := kinds(), map[kind]bool{}
	switch n := r.IntN(16); {
	case n == 0:
	case n < 4:
		met[one(r, all...)] = true
	case n < 12:
		for range 2 + r.IntN(6) {
			met[one(r, all...)] = true
		}
	default:
		for _, k := range all {
			if r.IntN(4) == 0 {
				met[k] = true
			}
		}
	}
	return met
}
