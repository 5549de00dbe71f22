package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/meterworker/meterworker/internal/simulator"
)

// command runs a command of the binary against the world's NATS server.
func (w *world) command(args ...string) (output string, code int) {
	w.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = []string{"NATS_URL=" + w.nats.ClientURL(), "HOME=" + w.t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (p *worker) state(name string) bool {
	return p.metric(`meterworker_breaker_state{state="`+name+`"}`) == 1
}

// A pause from anywhere stops every worker, outlives a restart, and keeps nothing from
// being stored; resume lets everything flow.
func TestPauseAndResume(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	workers := []*worker{w.start(), w.start()}
	w.until("readiness", func() bool { return workers[0].ready() && workers[1].ready() })
	out, code := w.command("pause", "--why", "an invoice run")
	if code != 0 || !strings.Contains(out, "paused: 2 of 2 workers have stopped fetching") {
		t.Fatalf("exit %d: %s", code, out)
	}
	workers[0] = workers[0].killAndRestart()
	w.until("the restarted one to be paused, too", func() bool { return workers[0].state("paused") })
	p := traffic(t, 200, 40, 3)
	w.publish(p.events)
	status, body := workers[1].get("/readyz")
	if status != http.StatusOK || !strings.Contains(body, "an invoice run") {
		t.Errorf("/readyz is %d: %s; want 200 with the reason", status, body)
	}
	if n := w.stripe.Totals().Requests; n != 0 {
		t.Errorf("%d requests while paused", n)
	}
	out, code = w.command("resume", "-o", "json")
	if code != 0 || !strings.Contains(out, `"workers":2,"obeyed":2`) {
		t.Fatalf("exit %d: %s", code, out)
	}
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
}

// While Stripe answers 503 to everything nothing is fetched and next to nothing is buried;
// when it is back everything is delivered.
func TestAnOutageIsWaitedOut(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	w.inject(simulator.Fault{Kind: simulator.Error503})
	worker := w.start()
	w.until("readiness", worker.ready)
	p := traffic(t, 2000, 200, 3)
	w.publish(p.events)
	w.until("the breaker to open", func() bool { return worker.state("open") })
	status, body := worker.get("/readyz")
	if status != http.StatusOK || !strings.Contains(body, "open: Stripe is down") {
		t.Errorf("/readyz is %d: %s; want 200 and the state", status, body)
	}
	w.until("probes", func() bool { return worker.state("half-open") || strings.Contains(worker.log.String(), "half-open") })
	w.stripe.ClearFaults()
	if out, code := w.command("resume"); code != 0 { // a person knows better
		t.Errorf("exit %d: %s", code, out)
	}
	w.until("everything to be acked", w.settled)
	if n := w.letterCount(); n > 20 {
		t.Errorf("%d dead letters of the outage, want at most 20", n)
	}
	if n := w.stripe.Totals().ByStatus[http.StatusServiceUnavailable]; n > 1000 {
		t.Errorf("%d requests during the outage", n)
	}
}

// An archived meter halts the worker instead of draining the day into the dead letters;
// mended, and told so, it goes on.
func TestOnePermanentCodeHalts(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	w.inject(simulator.Fault{Kind: simulator.Refused, Code: "archived_meter"})
	worker := w.start()
	w.until("readiness", worker.ready)
	p := traffic(t, 2000, 200, 3)
	w.publish(p.events)
	w.until("the halt", func() bool {
		status, body := worker.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "archived_meter")
	})
	w.stripe.ClearFaults()
	if out, code := w.command("resume"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	w.until("everything to be acked", w.settled)
	letters := w.letterCount() // what was under way at the halt included
	if counted := w.stripe.Totals().Counted; letters > 300 || counted != int64(2000-letters) {
		t.Errorf("%d dead letters, want hardly more than 50; %d delivered of 2000", letters, counted)
	}
}
