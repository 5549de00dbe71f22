//go:build chaos

package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/simulator"
)

// frozenAtOnce is how many worlds freeze beside each other: mostly they wait.
const frozenAtOnce = 4

// A worker is stopped at each point, hard, and comes back to life after another has
// taken everything over: what it still had in mind must do no harm.
func TestFrozenAtEveryPoint(t *testing.T) {
	t.Parallel()
	points := slices.DeleteFunc(faultpoint.Points(), func(p faultpoint.Point) bool { return p == faultpoint.ReplayStored })
	share := (len(points) + frozenAtOnce - 1) / frozenAtOnce
	for some := range slices.Chunk(points, share) {
		t.Run(fmt.Sprint(some), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{Latency: 2 * time.Millisecond, Rate: -1}, 2, "METERWORKER_PARTITIONS=4")
			c := &crashWorld{world: w, worker: w.workers[0], action: "stop", random: rand.New(rand.NewPCG(*seed, 3))}
			c.worker.start(built(t, releaseWorker))
			until(t, "readiness", c.worker.ready)
			for _, point := range some {
				c.freeze(t, point)
			}
		})
	}
}

// freeze stops a worker at the point until another one has finished its work, and lets
// it go on.
func (c *crashWorld) freeze(t *testing.T, point faultpoint.Point) {
	t.Helper()
	plan := fmt.Sprintf("METERWORKER_FAULTPOINT=%s:stop:%d", point, 1+c.random.IntN(crashes[point]))
	t.Log(plan)
	frozen, other := c.workers[0], c.workers[1]
	frozen.kill()
	c.publish(t, point)
	frozen.start(built(t, faultyWorker), plan)
	words, _, _ := strings.Cut(strings.TrimPrefix(plan, "METERWORKER_FAULTPOINT="), ":")
	until(t, plan+" to be met", func() bool { return frozen.said("faultpoint " + words + ": stop") })
	other.start(built(t, releaseWorker))
	until(t, plan+": the other to take over", func() bool { return other.metric("meterworker_partitions_owned") == 4 && c.settled() })
	frozen.signal(syscall.SIGCONT)
	c.publish(t, point+"-again")
	until(t, plan+": both to go on", c.settled)
	other.kill()
	if v := judge(c.messages, c.stripe.Books(), c.client.letters()); !v.balanced() {
		t.Errorf("frozen at %s: %v", point, v)
	}
}
