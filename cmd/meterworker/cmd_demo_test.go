package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/simulator"
)

// runDemo plays a demo in this process and checks that nothing is left behind: no
// goroutine, no folder.
func runDemo(t *testing.T, c *DemoCmd) (*demo, demoEvidence) {
	t.Helper()
	running := goleak.IgnoreCurrent()
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	var log bytes.Buffer
	d, err := newDemo(c, &process{Out: io.Discard, Err: &log, Env: environment{}})
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := d.play(t.Context())
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, &log)
	}
	goleak.VerifyNone(t, running)
	wantEmpty(t, folder)
	return d, evidence
}

func wantEmpty(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// presented is what a command line would have printed and its exit code.
func presented(d *demo, evidence demoEvidence) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := &process{Out: &out, Err: &errs}
	code = report(p, d.present(p, evidence))
	return code, out.String(), errs.String()
}

func TestDemoBalances(t *testing.T) {
	d, evidence := runDemo(t, &DemoCmd{Events: 300, Replicas: 1, Output: "json"})
	code, stdout, stderr := presented(d, evidence)
	if code != 0 {
		t.Fatalf("exit %d: %s\n%s", code, stderr, stdout)
	}
	var b demoBooks
	if err := json.Unmarshal([]byte(stdout), &b); err != nil {
		t.Fatal(err)
	}
	if !b.Balanced || b.Published != 300 || b.Delivered+b.Duplicates+b.Dead != 300 || b.Lost != 0 || b.Double != 0 || len(b.Differences) != 0 {
		t.Errorf("books: %+v", b)
	}
	for _, flaw := range demoFlaws {
		if b.DeadLetters[flaw.reason] != 1 {
			t.Errorf("dead letters with reason %s: %d, want 1", flaw.reason, b.DeadLetters[flaw.reason])
		}
	}
	for reason, n := range map[deadletter.Reason]int{deadletter.ServerError: demoFailingSize, deadletter.Rejected: demoDeletedSize, deadletter.IdentifierConflict: 2} {
		if b.DeadLetters[reason] != n {
			t.Errorf("dead letters with reason %s: %d, want %d", reason, b.DeadLetters[reason], n)
		}
	}
	for _, fault := range demoFaults {
		if b.Faults[fault.Kind] == 0 {
			t.Errorf("fault %s was never played", fault.Kind)
		}
	}
	if b.Violations != 0 || b.PeakPerSecond == 0 || len(b.Meters) != len(demoMeters) {
		t.Errorf("violations %d, peak %d, meters %v", b.Violations, b.PeakPerSecond, b.Meters)
	}

	// The same run with one delivery less in Stripe's books must not pass.
	// What Stripe rejected later does not count as delivered: its loss would be none.
	at := slices.IndexFunc(evidence.stripe.Events, func(e simulator.Counted) bool { return e.RefusedLater == 0 })
	missing := evidence.stripe.Events[at]
	evidence.stripe.Events = slices.Delete(evidence.stripe.Events, at, at+1)
	d.command.Output = "text"
	code, stdout, stderr = presented(d, evidence)
	if code != 1 || !strings.Contains(stdout, `lost "`+missing.Identifier+`"`) || !strings.Contains(stderr, "do not balance") {
		t.Errorf("without %s: exit %d, %s\n%s", missing.Identifier, code, stderr, stdout)
	}
}

func TestDemoBalancesWithSeveralWorkers(t *testing.T) {
	d, evidence := runDemo(t, &DemoCmd{Events: 300, Replicas: 3, Output: "text"})
	code, stdout, stderr := presented(d, evidence)
	if code != 0 || !strings.Contains(stdout, "The books balance") || !strings.Contains(stdout, "meterworker publish") {
		t.Errorf("exit %d: %s\n%s", code, stderr, stdout)
	}
	served := 0
	for _, worker := range d.stage.daemons {
		if worker.cfg.Rate != demoRate {
			t.Errorf("a worker of three has the rate %v, want all of the account's", worker.cfg.Rate)
		}
		if settledBy(t, worker) > 0 {
			served++
		}
	}
	if served != 3 {
		t.Errorf("%d of 3 workers have settled anything", served)
	}
}

func settledBy(t *testing.T, worker *daemon) int {
	t.Helper()
	one := demo{stage: &demoStage{daemons: []*daemon{worker}}}
	return one.counts().settled()
}

// cancelOn ends a context when a text is written.
type cancelOn struct {
	text   string
	cancel context.CancelFunc

	mu      sync.Mutex
	written bytes.Buffer
}

func (c *cancelOn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written.Write(b)
	if strings.Contains(c.written.String(), c.text) {
		c.cancel()
	}
	return len(b), nil
}

func TestDemoIsInterrupted(t *testing.T) {
	for _, text := range []string{"starting", "published"} {
		t.Run(text, func(t *testing.T) {
			running := goleak.IgnoreCurrent()
			folder := t.TempDir()
			t.Setenv("TMPDIR", folder)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			screen := &cancelOn{text: text, cancel: cancel}
			var out bytes.Buffer
			code := execute(ctx, []string{"demo", "--events", "20000"}, &process{Out: &out, Err: screen, Env: environment{}, Terminal: true})
			if code != 1 || !strings.Contains(screen.written.String(), "interrupted") || out.Len() > 0 {
				t.Errorf("exit %d, standard output %q, standard error %q", code, &out, &screen.written)
			}
			goleak.VerifyNone(t, running)
			wantEmpty(t, folder)
		})
	}
}

func TestDemoRefusesBadUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--events", "99"}, {"--events", "1000001"}, {"--replicas", "0"}, {"--replicas", "13"}, {"-o", "yaml"},
	} {
		if code, stdout, stderr := runCommand(t, environment{}, append([]string{"demo"}, args...)...); code != 2 || stdout != "" || stderr == "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// What the user has set for real workers must not reach the demo, the live key
// least of all.
func TestDemoReadsNoSettings(t *testing.T) {
	for _, pair := range []string{"STRIPE_API_KEY=sk_live_x", "NATS_URL=nats://127.0.0.1:1", "METERWORKER_PARTITIONS=7"} {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	d, _ := runDemo(t, &DemoCmd{Events: demoLeast, Replicas: 1, Output: "json"})
	cfg := d.stage.daemons[0].cfg
	if cfg.Live || !strings.HasPrefix(cfg.NATSURL, "nats://127.0.0.1:") || cfg.Partitions != 24 || !strings.HasPrefix(cfg.APIBase, "http://127.0.0.1:") {
		t.Errorf("live %v, NATS %s, Stripe %s, partitions %d", cfg.Live, cfg.NATSURL, cfg.APIBase, cfg.Partitions)
	}
}

func TestDemoScreen(t *testing.T) {
	tests := []struct {
		live bool
		want string
	}{
		{true, "one\r\x1b[Kwarning\ntwo\r\x1b[Kend\n\n"},
		{false, "one\nwarning\ntwo\nend\n\n"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		s := &demoScreen{out: &out, live: tt.live}
		s.show("one")
		if n, err := s.Write([]byte("warning\n")); n != 8 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		s.show("two")
		s.end("end")
		if out.String() != tt.want {
			t.Errorf("live %v: %q, want %q", tt.live, out.String(), tt.want)
		}
	}
}
