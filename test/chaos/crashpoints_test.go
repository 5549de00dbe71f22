package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/simulator"
)

// crashes has a row for each point: the latest passing at which it strikes. The
// traffic of a case passes it at least that often in one life of a worker.
var crashes = map[faultpoint.Point]int{
	faultpoint.Fetched:        20,
	faultpoint.MarkerStored:   3,
	faultpoint.IntentUnstored: 3,
	faultpoint.IntentStored:   3,
	faultpoint.Connected:      15,
	faultpoint.Written:        15,
	faultpoint.Answered:       15,
	faultpoint.RecordUnstored: 3,
	faultpoint.RecordStored:   3,
	faultpoint.LetterUnstored: 3,
	faultpoint.LetterStored:   3,
	faultpoint.AckUnsent:      15,
	faultpoint.AckSent:        15,
	faultpoint.NakUnsent:      2,
	faultpoint.LeaseTaken:     2,
	faultpoint.ReplayStored:   2,
}

const exitKilled = 137

// forgotten is when Stripe does not remember an identifier any more. Its clock is turned
// while nothing is under way; what is billed after it once more is billed twice.
const forgotten = 25 * time.Hour

// inARow is how many points are met, each by a new worker, before a clean one takes over:
// what the crashed ones had in hand comes back once for all of them, after AckWait.
const inARow = 4

// Every point × {exit, hang, error}: the worker that meets it is replaced, or goes on;
// nothing is lost, nothing billed twice, and every message has one end.
func TestCrashPointsOfProcesses(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"exit", "hang", "error"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{Latency: 2 * time.Millisecond, Rate: -1}, 1, "METERWORKER_PARTITIONS=4")
			c := &crashWorld{world: w, worker: w.workers[0], action: action, random: rand.New(rand.NewPCG(16, uint64(len(action))))}
			c.worker.start(built(t, releaseWorker)) // makes the streams
			until(t, "readiness", c.worker.ready)
			for points := range slices.Chunk(faultpoint.Points(), inARow) {
				t.Run(fmt.Sprint(points), func(t *testing.T) { c.strike(t, points) })
			}
		})
	}
}

// crashWorld is a world in which one point after the other is met.
type crashWorld struct {
	*world
	worker   *worker
	action   string
	random   *rand.Rand
	messages []*message // of all points so far
}

// strike has the points met one after the other, and looks at the books when
// everything is terminal.
func (c *crashWorld) strike(t *testing.T, points []faultpoint.Point) {
	for _, point := range points {
		latest, ok := crashes[point]
		if !ok {
			t.Fatalf("%s has no row", point)
		}
		n := 1 + c.random.IntN(latest)
		plan := fmt.Sprintf("METERWORKER_FAULTPOINT=%s:%s:%d", point, c.action, n)
		t.Log(plan)
		c.worker.kill()
		if point == faultpoint.ReplayStored {
			c.replay(t, plan, n)
			continue
		}
		c.publish(t, point)
		c.worker.start(built(t, faultyWorker), plan)
		c.meet(t, c.worker.process, plan)
		if c.action == "error" {
			until(t, plan+": everything to be terminal", c.settled)
		}
	}
	if c.worker.ended() {
		c.worker.start(built(t, releaseWorker))
	}
	until(t, "everything to be terminal", c.settled)
	if v := judge(c.messages, c.stripe.Books(), c.client.letters()); !v.balanced() {
		t.Errorf("%s at %v: %v", c.action, points, v)
	}
	c.stripe.Advance(forgotten)
}

// publish stores traffic that passes every point: duplicates, conflicts, dead letters, and
// more of one customer than a lane holds, so that some is handed back.
func (c *crashWorld) publish(t *testing.T, point faultpoint.Point) {
	t.Helper()
	tr := newTraffic(t, string(point), c.random.Uint64(), 8)
	tr.good(20, 0)
	tr.again(2)
	tr.conflicts(1)
	tr.bad(3)
	tr.hot(12)
	tr.rerun(c.messages, 5)
	tr.shuffle()
	tr.publish(c.client.js, 16, nil)
	c.messages = append(c.messages, tr.messages...)
}

// meet waits until a process has met its fault; one that hangs is then ended.
func (c *crashWorld) meet(t *testing.T, p *process, plan string) {
	t.Helper()
	_, words, _ := strings.Cut(plan, "=")
	point, _, _ := strings.Cut(words, ":")
	until(t, plan+" to be met", func() bool { return p.said("faultpoint " + point + ": " + c.action) })
	switch c.action {
	case "exit":
		if code := p.exit(); code != exitKilled {
			t.Errorf("%s: exit code %d, want %d", plan, code, exitKilled)
		}
	case "hang":
		p.kill()
	}
}

// replay strikes in the command that replays dead letters: events that Stripe refused
// once are replayed until none is left.
func (c *crashWorld) replay(t *testing.T, plan string, n int) {
	t.Helper()
	worker := c.worker
	if err := c.stripe.Inject(simulator.Fault{Kind: simulator.Refused, Customer: "cus_mended"}); err != nil {
		t.Fatal(err)
	}
	tr := newTraffic(t, "mended", 1, 1)
	for i := range n + 1 {
		tr.add(tr.event("cus_mended", fmt.Sprint("mended-", i), 7))
	}
	before := c.client.letterCount()
	worker.start(built(t, releaseWorker))
	tr.publish(c.client.js, 4, nil)
	c.messages = append(c.messages, tr.messages...)
	until(t, "the refusals", func() bool { return c.settled() && c.client.letterCount() >= before+n+1 })
	c.stripe.ClearFaults()
	faulty := launch(t, "dlq replay", append(worker.environment(), plan), built(t, faultyWorker), "dlq", "replay", "--customer", "cus_mended", "--yes")
	c.meet(t, faulty, plan)
	if code := faulty.exit(); code == 0 {
		t.Errorf("%s: the replay that failed ended with 0", plan)
	}
	until(t, "the replay to succeed", func() bool {
		again := launch(t, "dlq replay", worker.environment(), built(t, releaseWorker), "dlq", "replay", "--customer", "cus_mended", "--yes")
		return again.exit() == 0
	})
}
