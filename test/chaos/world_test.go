package chaos

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/test/chaos/faultproxy"
)

// world is one test's server, Stripe and workers.
type world struct {
	t       testing.TB
	broker  *broker
	stripe  *stripe
	client  *client
	workers []*worker
}

// newWorld has a server that syncs every write, and workers that are not started yet.
func newWorld(t testing.TB, cfg simulator.Config, workers int, env ...string) *world {
	t.Helper()
	w := &world{t: t, stripe: newStripe(cfg, workers), broker: newBroker(t, t.TempDir(), syncAlways)}
	w.client = dialNATS(t, w.broker.addr)
	for i := range workers {
		w.workers = append(w.workers, &worker{
			world: w, number: i, admin: freeAddress(t), env: env,
			toNATS: proxyTo(t, w.broker.addr), toStripe: proxyTo(t, w.stripe.serve(t, i)),
		})
	}
	return w
}

func proxyTo(t testing.TB, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (w *world) settled() bool { return w.client.settled() }

// worker is one place for a process of the program under test: its addresses stay the
// same from life to life, and so does its name in the fleet.
type worker struct {
	*process // nil before the first start

	world    *world
	number   int
	admin    string
	env      []string
	toNATS   *faultproxy.Proxy
	toStripe *faultproxy.Proxy
}

// environment is what every program of ours gets to reach this world.
func (p *worker) environment() []string {
	return append([]string{
		"NATS_URL=nats://" + p.toNATS.Addr(), "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=http://" + p.toStripe.Addr(),
		"METERWORKER_ADMIN_ADDR=" + p.admin,
		"METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s",
	}, p.env...)
}

// start runs the program; env goes to this life only.
func (p *worker) start(program string, env ...string) {
	p.world.t.Helper()
	if p.process != nil && !p.ended() {
		p.kill()
	}
	name := fmt.Sprintf("worker %d", p.number)
	p.process = launch(p.world.t, name, append(p.environment(), env...), program, "run")
}

// kill ends the life with SIGKILL.
func (p *worker) kill() {
	p.process.kill()
	p.world.stripe.reborn(p.number)
}

// get asks the admin address; status 0 while nobody answers.
func (p *worker) get(path string) (status int, body string) {
	response, err := http.Get("http://" + p.admin + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(data)
}

func (p *worker) ready() bool {
	status, _ := p.get("/readyz")
	return status == http.StatusOK
}
