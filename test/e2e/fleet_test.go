package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// Three workers start at once on an empty server, share the partitions, and one of
// them is killed: nothing is lost, nothing doubled, and the others take its share.
func TestSeveralWorkersShareThePartitions(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 5 * time.Millisecond, Rate: -1})
	env := []string{"METERWORKER_RATE=300", "METERWORKER_ACK_WAIT=3s", "METERWORKER_ATTEMPT_TIMEOUT=1s"}
	workers := []*worker{w.start(env...), w.start(env...), w.start(env...)}
	owned := func(p *worker) float64 { return p.metric("meterworker_partitions_owned") }
	w.until("each worker to own a share of the 24", func() bool {
		sum := 0.0
		for _, p := range workers {
			if owned(p) == 0 || !p.ready() {
				return false
			}
			sum += owned(p)
		}
		return sum == 24
	})
	p := traffic(t, 3000, 300, 3)
	w.publish(p.events[:1500])
	w.until("some of it", func() bool { return w.stripe.Totals().Counted > 500 })
	workers[0].kill()
	w.publish(p.events[1500:])
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	w.until("the others to own everything", func() bool { return owned(workers[1])+owned(workers[2]) == 24 })
	for _, p := range workers[1:] {
		if code := p.terminate(); code != 0 {
			t.Errorf("exit code %d after SIGTERM, want 0", code)
		}
	}
}

// SIGTERM under load: what is in flight is finished, the rest handed back at once,
// and the next worker goes on with it.
func TestDrainHandsBack(t *testing.T) {
	w := newWorld(t, simulator.Config{Latency: 100 * time.Millisecond, Rate: -1})
	first := w.start()
	w.until("readiness", first.ready)
	p := traffic(t, 2000, 400, 3)
	w.publish(p.events)
	w.until("some of it", func() bool { return w.stripe.Totals().Counted > 200 })
	if code := first.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if n := w.stripe.Totals().ByStatus[0]; n != 0 {
		t.Errorf("%d requests were cut by the drain", n)
	}
	counted := w.stripe.Totals().Counted
	if counted >= 2000 {
		t.Fatal("everything was delivered before the drain")
	}
	second := w.startAt(first.admin, nil)
	w.until("everything to be acked", w.settled)
	w.audit(p.events)
	if totals := w.stripe.Totals(); totals.Requests != 2000 {
		t.Errorf("%d requests for 2000 events: the drain left attempts of unknown outcome behind", totals.Requests)
	}
	if code := second.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A stream that another mode has stamped is refused: a test key must never ack live
// usage.
func TestAnotherModeIsRefused(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	worker := w.start()
	w.until("readiness", worker.ready)
	if code := worker.terminate(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	live := w.start("STRIPE_API_KEY=sk_live_x")
	select {
	case <-live.done:
	case <-time.After(patience):
		t.Fatal("a worker with a live key serves streams of test mode")
	}
	if code := live.cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d, want 2; log: %s", code, live.log)
	}
	if n := w.stripe.Totals().Requests; n != 0 {
		t.Errorf("%d requests with the key of the other mode", n)
	}
	if status, _ := live.get("/livez"); status == http.StatusOK {
		t.Error("the refused worker still answers")
	}
}
