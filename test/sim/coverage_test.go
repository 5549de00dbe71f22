package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
)

// tally counts what has occurred.
type tally map[string]int

func (t tally) note(what string) { t[what]++ }

func (t tally) add(other tally) {
	for what, n := range other {
		t[what] += n
	}
}

// enoughSeeds is from how many schedules on everything must have occurred.
const enoughSeeds = 1000

// demand prints the table and fails where a row is 0.
func (t tally) demand(test *testing.T, seeds int) {
	test.Helper()
	var b strings.Builder
	rows := required()
	for _, row := range rows {
		fmt.Fprintf(&b, "%9d × %s\n", t[row], row)
	}
	for _, other := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(rows, other) {
			fmt.Fprintf(&b, "%9d × %s\n", t[other], other)
		}
	}
	test.Logf("what has occurred:\n%s", &b)
	for _, row := range rows {
		if t[row] == 0 && seeds >= enoughSeeds {
			test.Errorf("it never occurred: %s", row)
		}
	}
}

// unreachable are the dead letters' reasons that no worker of this simulation can come to:
// Stripe's webhooks have no part in it.
var unreachable = []deadletter.Reason{deadletter.RejectedLater}

// required is everything that must occur.
func required() []string {
	var all []string
	for _, k := range kinds() {
		all = append(all, string(k))
	}
	for _, r := range []row{rowAccepted, rowDuplicate, rowDate, rowKey, rowBusy} {
		all = append(all, "Stripe: "+r.name)
	}
	for _, r := range outages {
		all = append(all, r.name)
	}
	for _, s := range delivery.States() {
		all = append(all, "breaker: "+s)
	}
	for _, c := range delivery.Classes() {
		all = append(all, "class: "+c.String())
	}
	for _, v := range journal.Verdicts() {
		all = append(all, "ledger: "+v)
	}
	for _, s := range metricsDispositions {
		all = append(all, "disposition: "+s)
	}
	for _, r := range deadletter.Reasons() {
		if !slices.Contains(unreachable, r) {
			all = append(all, "dead letter: "+string(r))
		}
	}
	return append(all,
		"ledger: fresh, attempt of unknown outcome", "refusal: by the fence, intent", "refusal: by the fence, done",
		"outbox: ack forgotten", "outbox: delivered again", "outbox: stale ack taken", "dead letters: looked for",
		"Stripe: stored answer replayed", "books: recovered", "shared bucket: written", "replay: replayed", "replay: refused", "replay: failed",
	)
}
