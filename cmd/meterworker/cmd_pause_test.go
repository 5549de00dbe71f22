package main

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

func (o *testOutbox) orders() outbox.Orders {
	o.t.Helper()
	kv, err := o.streams.Durable(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	orders, err := outbox.ReadOrders(o.t.Context(), kv)
	if err != nil {
		o.t.Fatal(err)
	}
	return orders
}

func TestPauseWithoutWorkers(t *testing.T) {
	o := newTestOutbox(t)
	code, out, stderr := o.run(nil, "pause", "--why", "an invoice run")
	if code != 0 || out != "paused: no worker runs now; one that starts will wait\n" || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if got := o.orders(); !got.Paused || got.Why != "an invoice run" || got.By == "" || got.At.IsZero() {
		t.Errorf("orders %+v", got)
	}
	code, out, _ = o.run(nil, "resume", "-o", "json")
	if code != 0 || out != `{"order":"resumed","workers":0,"obeyed":0,"waiting":[]}`+"\n" {
		t.Errorf("exit %d, %q", code, out)
	}
	if got := o.orders(); got.Paused || got.Resumed != 1 {
		t.Errorf("orders %+v", got)
	}
}

// A worker that does not show that it has obeyed is named, and the order stands.
func TestPauseIsNotObeyed(t *testing.T) {
	o := newTestOutbox(t)
	deaf, err := o.streams.Members(t.Context(), "deaf\x1b[2J")
	if err != nil {
		t.Fatal(err)
	}
	deaf.Shows(outbox.Showing{State: delivery.StateClosed})
	if err := deaf.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := o.run(nil, "pause", "--timeout", "600ms")
	if code != exitFailed || out != "paused: 0 of 1 workers have stopped fetching\n" || !strings.Contains(stderr, "the order is stored") || !strings.Contains(stderr, "deaf") || strings.Contains(stderr, "\x1b") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if !o.orders().Paused {
		t.Error("the order does not stand")
	}
}

func TestPauseBadUsage(t *testing.T) {
	for _, command := range []string{"pause", "resume"} {
		for _, tt := range []struct {
			args []string
			code int
			want string
		}{
			{[]string{"--timeout", "0s"}, exitUsage, "--timeout=0s is not above 0"},
			{[]string{"-o", "yaml"}, exitUsage, "must be one of"},
			{[]string{"stray"}, exitUsage, "unexpected argument stray"},
			{nil, exitFailed, "nats://127.0.0.1:1"},
		} {
			code, out, stderr := runCommand(t, environment{"NATS_URL": "nats://127.0.0.1:1"}, append([]string{command}, tt.args...)...)
			if code != tt.code || out != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("%s %q: exit %d, %q, want %d and %q", command, tt.args, code, stderr, tt.code, tt.want)
			}
		}
	}
}

// A worker obeys the orders that it finds at its start, and each new word to resume
// once; it takes another's recovery for a reason to look, and nothing else.
func TestOrdersAreFollowed(t *testing.T) {
	o := newTestOutbox(t)
	gate := delivery.NewGate(func(string, string) {}, func() float64 { return 0.5 })
	f := &orders{open: o.streams.Durable, gate: gate, log: zap.NewNop()}
	follow := func(want string) {
		t.Helper()
		if err := f.follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state, _ := gate.Status(); state != want {
			t.Errorf("state %s, want %s", state, want)
		}
	}
	o.run(nil, "resume")
	gate.Halt(delivery.Pass{}, "a refused key")
	follow(delivery.StateHalted) // a word from before its start ends nothing
	o.run(nil, "pause")
	follow(delivery.StateHalted) // which is worse
	o.run(nil, "resume")
	follow(delivery.StateClosed)
	o.run(nil, "pause")
	follow(delivery.StatePaused)
	o.run(nil, "resume")
	follow(delivery.StateClosed)

	f.hear(map[string]string{"a": delivery.StateOpen, "b": delivery.StateClosed})
	f.hear(map[string]string{"a": delivery.StateRamp, "b": delivery.StateClosed, "c": delivery.StateClosed})
	follow(delivery.StateClosed) // it was not down: nothing to look for
}
