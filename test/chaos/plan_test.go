//go:build chaos

package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// trouble is a kind of fault. The list is closed: see troubles.
type trouble string

const (
	workerKilled  trouble = "worker killed"
	serverKilled  trouble = "server killed"
	cutFromNATS   trouble = "worker cut off from NATS"   // Stripe stays in reach
	deafToNATS    trouble = "worker deaf to NATS"        // what it says arrives, no answer does
	cutFromStripe trouble = "worker cut off from Stripe" // NATS stays in reach
	workerStopped trouble = "worker stopped"             // SIGSTOP for longer than AckWait, then SIGCONT
	stripeDown    trouble = "Stripe answers 503"
)

// step is one fault and what happened when it was played.
type step struct {
	Kind   trouble `json:"kind"`
	Worker int     `json:"worker"` // -1: none in particular
	Moment int64   `json:"moment"` // events that Stripe has counted when it is due
	Long   bool    `json:"long"`   // long enough for the others to take over

	Counted int64   `json:"counted"` // events that Stripe had counted when it began
	Began   float64 `json:"began_s"`
	Ended   float64 `json:"ended_s"`
}

// makePlan draws the faults and their moments: evenly over the run, but for its first
// and last twentieth, each somewhere in its share.
func makePlan(random *rand.Rand, billable int) []*step {
	var steps []*step
	add := func(n int, kinds ...trouble) {
		for i := range n {
			steps = append(steps, &step{Kind: kinds[i%len(kinds)], Worker: -1, Long: i%2 == 0})
		}
	}
	add(*kills, workerKilled)
	add(*serverKills, serverKilled)
	add(*partitions, cutFromNATS, deafToNATS, cutFromNATS, cutFromStripe)
	add(*pauses, workerStopped)
	if *outage > 0 {
		add(1, stripeDown)
	}
	random.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	first, share := billable/20, billable*9/10/max(1, len(steps))
	for i, s := range steps {
		s.Moment = int64(first + i*share + random.IntN(max(1, share)))
		if s.Kind != serverKilled && s.Kind != stripeDown {
			s.Worker = random.IntN(fleetSize)
		}
	}
	slices.SortFunc(steps, func(a, b *step) int { return cmp.Compare(a.Moment, b.Moment) })
	return steps
}
