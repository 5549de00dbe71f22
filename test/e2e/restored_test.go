package e2e

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// halted reports whether the worker says that it waits for a person, and why.
func (p *worker) halted(reasons ...string) bool {
	status, body := p.get("/readyz")
	if status != http.StatusServiceUnavailable || p.metric(`meterworker_breaker_state{state="halted"}`) != 1 {
		return false
	}
	for _, reason := range reasons {
		if !strings.Contains(body, reason) {
			return false
		}
	}
	return true
}

// again stores the events once more, as a re-run does that JetStream does not
// recognise.
func (w *world) again(events []usage.Event) {
	w.t.Helper()
	for _, e := range events {
		body, err := e.MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		w.publishBody(e.Subject(), string(body))
	}
}

func (w *world) publishBody(subject, body string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.js.Publish(ctx, subject, []byte(body)); err != nil {
		w.t.Fatal(err)
	}
}

func batch(t *testing.T, name string, n int, at time.Time) []usage.Event {
	t.Helper()
	var events []usage.Event
	for i := range n {
		id := name + "-" + strconv.Itoa(i)
		e, err := usage.New(usage.Params{EventName: "api_calls", Customer: "cus_" + strconv.Itoa(i), Identifier: id, Value: 1, Timestamp: at})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// forgetful is a Stripe that forgets identifiers after seconds, and a worker that knows:
// what is sent again without need is billed twice here.
var (
	forgetful    = simulator.Config{Memory: 4 * time.Second}
	shortWindows = []string{"METERWORKER_SAFE_WINDOW=2s", "METERWORKER_ATTEMPT_TIMEOUT=1s", "METERWORKER_ACK_WAIT=3s"}
)

// An old copy of a stream, or of the whole store, is put back under a running worker:
// it halts, sends nothing until a person has declared the copy, and then bills
// nothing twice and what is new once.
func TestAnOldCopyIsPutBack(t *testing.T) {
	t.Parallel() // with itself: each copy waits for marks and looks, which are seconds apart
	tests := []struct {
		name      string
		streams   []string // that are put back
		declare   []string
		ambiguous bool // what was delivered since the copy is in doubt
	}{
		{"usage", []string{"USAGE"}, []string{"USAGE"}, false},
		{"journal", []string{"USAGE_JOURNAL"}, []string{"USAGE_JOURNAL"}, true},
		{"dead letters", []string{"USAGE_DLQ"}, []string{"USAGE_DLQ"}, false},
		{"usage and journal", []string{"USAGE", "USAGE_JOURNAL"}, []string{"USAGE", "USAGE_JOURNAL"}, true},
		{"whole store", []string{""}, []string{"USAGE", "USAGE_JOURNAL", "USAGE_DLQ"}, true},
	}
	for _, tt := range tests {
		for _, running := range []bool{true, false} {
			if !running && tt.streams[0] == "" {
				continue // nobody is there to know: see the runbook
			}
			name := tt.name + " at rest"
			if running {
				name = tt.name + " under a running worker"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, forgetful)
				worker := w.start(shortWindows...)
				w.until("readiness", worker.ready)
				first := batch(t, "first", 20, time.Now())
				w.publish(first)
				w.until("the first to be acked", w.settled)
				server := w.stopNATS()
				restore := server.copyOf(tt.streams...)
				server.start()
				second := batch(t, "second", 20, time.Now())
				w.publish(second)
				w.publishBody("usage.events.api_calls.cus_1", "this is no event")
				w.until("the second to be acked", func() bool { return w.settled() && w.letterCount() == 1 })
				if !running && worker.terminate() != 0 {
					t.Error("the worker did not drain")
				}
				server = w.stopNATS()
				restore()
				server.start()
				if !running {
					worker = w.startAt(worker.admin, shortWindows)
				}
				w.until("the halt", func() bool { return worker.halted(tt.declare...) })
				w.stripe.Advance(5 * time.Second)
				w.again(second) // a re-run
				third := batch(t, "third", 20, time.Now().Add(10*time.Second))
				w.publish(third)
				requests := w.stripe.Totals().Requests
				w.declare(worker, tt.declare...)
				if n := w.stripe.Totals().Requests; n != requests {
					t.Errorf("%d requests while halted", n-requests)
				}
				w.until("the worker to go on", worker.ready)
				w.until("everything to be acked", w.settled)
				w.audit(append(append(first, second...), third...))
				w.auditAmbiguous(tt.ambiguous, second)
			})
		}
	}
}

// declare looks, sees everything that is to be declared, and declares it.
func (w *world) declare(p *worker, streams ...string) {
	w.t.Helper()
	output, code := w.command("accept-restored")
	for _, stream := range streams {
		if code != 1 || !strings.Contains(output, "stream "+stream+": ") {
			w.t.Fatalf("accept-restored: exit code %d, want 1 and a word on %s:\n%s", code, stream, output)
		}
	}
	w.until("the halt to be still there: looking declares nothing", func() bool { return p.halted(streams...) })
	args := []string{"accept-restored", "--yes", "--why", "a test"}
	for _, stream := range append(streams, "usage_control_durable") {
		if strings.Contains(output, "stream "+stream+": ") {
			args = append(args, "--stream", stream)
		}
	}
	if output, code := w.command(args...); code != 0 {
		w.t.Fatalf("%v: exit code %d\n%s", args, code, output)
	}
}

// auditAmbiguous wants each of the events among the ambiguous dead letters, or none.
func (w *world) auditAmbiguous(want bool, events []usage.Event) {
	w.t.Helper()
	found := map[string]bool{}
	for _, letter := range w.letters() {
		if letter.Headers().Get("Meterworker-Reason") == "ambiguous" {
			found[letter.Headers().Get("Meterworker-Identifier")] = true
		}
	}
	for _, e := range events {
		if found[e.Identifier()] != want {
			w.t.Errorf("%s among the ambiguous: %v, want %v", e.Identifier(), !want, want)
		}
		delete(found, e.Identifier())
	}
	if len(found) > 0 {
		w.t.Errorf("%d other events are ambiguous: %v", len(found), found)
	}
}

// deleteStream deletes a stream.
func (w *world) deleteStream(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.js.DeleteStream(ctx, name); err != nil {
		w.t.Fatal(err)
	}
}

// configOf is a stream's configuration.
func (w *world) configOf(name string) jetstream.StreamConfig {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := w.js.Stream(ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return stream.CachedInfo().Config
}

// The whole store is put back while no worker runs: nobody can see it, and a person says
// so before the worker starts.
func TestAnUnseenCopyIsDeclared(t *testing.T) {
	w := newWorld(t, forgetful)
	worker := w.start(shortWindows...)
	w.until("readiness", worker.ready)
	first := batch(t, "first", 20, time.Now())
	w.publish(first)
	w.until("the first to be acked", w.settled)
	server := w.stopNATS()
	restore := server.copyOf("")
	server.start()
	second := batch(t, "second", 20, time.Now())
	w.publish(second)
	w.until("the second to be acked", w.settled)
	worker.kill()
	server = w.stopNATS()
	restore()
	server.start()
	args := []string{"accept-restored", "--unseen", "--stream", "USAGE", "--stream", "USAGE_JOURNAL", "--why", "a test", "--yes"}
	if output, code := w.command(args...); code != 0 {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	w.stripe.Advance(5 * time.Second)
	w.again(second)
	third := batch(t, "third", 20, time.Now().Add(10*time.Second))
	w.publish(third)
	worker = w.startAt(worker.admin, shortWindows)
	w.until("everything to be acked", func() bool { return worker.ready() && w.settled() })
	w.audit(append(append(first, second...), third...))
	w.auditAmbiguous(true, second)
}

// The journal is deleted and made anew under a running worker, by hand, as the remedy for
// a missing one once was: all that is known is gone, so what is not new is ambiguous.
func TestAJournalIsMadeAnew(t *testing.T) {
	w := newWorld(t, forgetful)
	worker := w.start(shortWindows...)
	w.until("readiness", worker.ready)
	first := batch(t, "first", 20, time.Now())
	w.publish(first)
	w.until("the first to be acked", w.settled)
	cfg := w.configOf("USAGE_JOURNAL")
	w.deleteStream("USAGE_JOURNAL")
	w.until("the halt", func() bool { return worker.halted("USAGE_JOURNAL", "missing") })
	w.createStream(cfg)
	w.until("the halt for another reason", func() bool { return worker.halted("USAGE_JOURNAL", "made anew") })
	w.stripe.Advance(5 * time.Second)
	w.again(first)
	w.publish(batch(t, "second", 20, time.Now().Add(10*time.Second)))
	w.declare(worker, "USAGE_JOURNAL")
	w.until("the worker to go on", worker.ready)
	w.until("everything to be acked", w.settled)
	w.audit(append(first, batch(t, "second", 20, time.Now())...))
	w.auditAmbiguous(true, first)
}

func (w *world) createStream(cfg jetstream.StreamConfig) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.js.CreateStream(ctx, cfg); err != nil {
		w.t.Fatal(err)
	}
}

// Consumers are deleted, at rest and under load: what is kept comes again (all of it, unless
// the server still finds the state of a consumer that was just deleted), and the
// journal recognises it. That is no reason to halt.
func TestConsumersAreMadeAnew(t *testing.T) {
	w := newWorld(t, forgetful)
	worker := w.start(append([]string{"METERWORKER_RATE=100"}, shortWindows...)...)
	w.until("readiness", worker.ready)
	events := batch(t, "event", 400, time.Now())
	w.publish(events[:100])
	w.until("the first to be acked", w.settled)
	w.stripe.Advance(5 * time.Second)
	w.deleteConsumers()
	w.until("the redeliveries to be recognised", func() bool {
		return w.settled() && worker.metric(`meterworker_ledger_lookups_total{result="delivered"}`) > 0
	})
	if n := w.stripe.Totals().Requests; n != 100 {
		t.Errorf("%d requests for 100 events", n)
	}
	w.publish(events[100:])
	w.until("some of it", func() bool { return w.stripe.Totals().Counted >= 200 })
	w.deleteConsumers()
	w.until("everything to be acked", func() bool { return w.settled() && w.stripe.Totals().Counted >= 400 })
	w.audit(events)
	w.auditAmbiguous(false, events)
	if strings.Contains(worker.log.String(), "halted") {
		t.Error("the worker has halted")
	}
}

func (w *world) deleteConsumers() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for p := range 24 {
		if err := w.js.DeleteConsumer(ctx, "USAGE", "worker-"+strconv.Itoa(p)); err != nil {
			w.t.Fatal(err)
		}
	}
}
