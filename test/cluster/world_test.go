package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/test/chaos/faultproxy"
)

// world is one test's servers, Stripe, workers and producers.
type world struct {
	*nodes

	t       testing.TB
	stripe  *stripe
	client  *client
	traffic *traffic
	workers []*worker
	rate    int
}

// size is what a test needs.
type size struct{ nodes, workers, partitions, rate int }

// newWorld starts everything but the workers. Stripe takes a quarter more than the fleet
// may send: one that sends twice the rate, since the shared bucket was lost with a
// leader, is refused.
func newWorld(t testing.TB, of size, env ...string) *world {
	t.Helper()
	w := &world{t: t, rate: of.rate, nodes: startNodes(t, of.nodes), stripe: startStripe(t, of.workers, of.rate*5/4)}
	w.client = dial(t, w.url())
	w.traffic = newTraffic(t, dial(t, w.url()).js)
	for i := range of.workers {
		p := &worker{world: w, number: i, admin: freeAddress(t), stripe: w.stripe.serve(t, i), log: &record{}}
		p.env = append([]string{
			fmt.Sprintf("METERWORKER_PARTITIONS=%d", of.partitions), fmt.Sprintf("METERWORKER_STREAM_REPLICAS=%d", of.nodes),
			fmt.Sprintf("METERWORKER_RATE=%d", of.rate), "METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s",
		}, env...)
		for _, n := range w.all {
			p.toNATS = append(p.toNATS, proxyTo(t, n.addr))
		}
		w.workers = append(w.workers, p)
	}
	return w
}

// startFleet starts all workers and waits until each owns its share.
func (w *world) startFleet(partitions int) {
	w.t.Helper()
	for _, p := range w.workers {
		p.start()
	}
	w.shared(partitions)
}

// shared waits until all partitions are owned, and each worker that lives owns some. It
// returns how long that took.
func (w *world) shared(partitions int) time.Duration {
	w.t.Helper()
	return until(w.t, "each worker to own a share", func() bool {
		sum := 0
		for _, p := range w.workers {
			if p.process == nil || p.ended() {
				continue
			}
			if owned := int(p.metric("meterworker_partitions_owned")); owned == 0 || !p.ready() {
				return false
			} else { //nolint:revive // the scope of owned
				sum += owned
			}
		}
		return sum == partitions
	})
}

// worker is one place for a process of `meterworker run`: its addresses stay the same from
// life to life, and so does its name in the fleet.
type worker struct {
	*process // nil before the first start

	world  *world
	number int
	admin  string
	stripe string
	env    []string
	toNATS []*faultproxy.Proxy // by node
	log    *record
}

func (p *worker) start() {
	p.world.t.Helper()
	var urls []string
	for _, proxy := range p.toNATS {
		urls = append(urls, "nats://"+proxy.Addr())
	}
	p.process = launch(p.world.t, "worker "+strconv.Itoa(p.number), p.log, append([]string{
		"NATS_URL=" + strings.Join(urls, ","), "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=" + p.stripe,
		"METERWORKER_ADMIN_ADDR=" + p.admin,
	}, p.env...), built(p.world.t, meterworker), "run")
}

// kill ends the life with SIGKILL.
func (p *worker) kill() {
	p.process.kill()
	p.world.stripe.reborn(p.number)
}

func (p *worker) part() {
	for _, proxy := range p.toNATS {
		proxy.Part(faultproxy.Swallow)
	}
}

func (p *worker) heal() {
	for _, proxy := range p.toNATS {
		if err := proxy.Heal(); err != nil {
			p.world.t.Error(err)
		}
	}
}

func (p *worker) get(path string) (status int, body string) { return get("http://" + p.admin + path) }

func (p *worker) ready() bool {
	status, _ := p.get("/readyz")
	return status == http.StatusOK
}

// metric is one sample of /metrics, by its full name with labels; 0 if absent.
func (p *worker) metric(sample string) float64 {
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == sample {
			value, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				p.world.t.Errorf("metric line %q: %v", line, err)
			}
			return value
		}
	}
	return 0
}

// delivered waits until every event that was confirmed up to now is accepted, and returns
// the longest time that one confirmed since then has waited.
func (w *world) delivered(since time.Time) time.Duration {
	w.t.Helper()
	waiting := w.traffic.since(since)
	longest := time.Duration(0)
	until(w.t, fmt.Sprintf("%d events to be delivered", len(waiting)), func() bool {
		for id, confirmed := range waiting {
			at, accepted := w.stripe.acceptedAt(id)
			if !accepted {
				return false
			}
			longest = max(longest, at.Sub(confirmed))
			delete(waiting, id)
		}
		return true
	})
	return longest
}

// grown waits until n more events are stored.
func (w *world) grown(n int) {
	w.t.Helper()
	before := w.traffic.stored()
	until(w.t, fmt.Sprintf("%d more events", n), func() bool { return w.traffic.stored() >= before+n })
}

// halted are the log lines in which a worker says that a stream is not what it was.
func (p *worker) halted() []string {
	var lines []string
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "halted") && !slices.Contains(lines, line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
