package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// graveyard is a world with a worker, and dead letters of events that Stripe never saw.
type graveyard struct {
	*world
	streams *outbox.Streams
	worker  *worker
	serial  uint64
}

func newGraveyard(t *testing.T) *graveyard {
	t.Helper()
	g := &graveyard{world: newWorld(t, simulator.Config{Rate: -1}), serial: 1_000_000} // numbers that USAGE will not give
	g.worker = g.start("METERWORKER_ATTEMPT_TIMEOUT=1s", "METERWORKER_ACK_WAIT=5s", "METERWORKER_SAFE_WINDOW=1h")
	g.until("readiness", g.worker.ready)
	var err error
	g.streams, err = outbox.Open(t.Context(), g.js, outbox.Settings{Mode: "test", Partitions: 24, Replicas: 1, Manage: true, AckWait: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// bury stores a letter as a worker would.
func (g *graveyard) bury(e usage.Event, reason deadletter.Reason, outcome deadletter.Outcome, code string) {
	g.t.Helper()
	g.serial++
	body, err := e.MarshalJSON()
	if err != nil {
		g.t.Fatal(err)
	}
	now := time.Now()
	l := deadletter.Letter{
		Reason: reason, Outcome: outcome, Code: code, DeadAt: now, StoredAt: now, FirstAttempt: now.Add(-2 * time.Hour), Attempts: 1,
		Subject: e.Subject(), Sequence: g.serial, Identifier: e.Identifier(), Timestamp: e.Timestamp(),
	}
	if err := g.streams.DeadLetters().Publish(g.t.Context(), l, l.Header(), body); err != nil {
		g.t.Fatal(err)
	}
}

func (g *graveyard) letters() uint64 {
	g.t.Helper()
	stream, err := g.js.Stream(g.t.Context(), outbox.DLQStream)
	if err != nil {
		g.t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func (g *graveyard) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(g.t.Context(), binary, args...)
	cmd.Env = []string{"NATS_URL=" + g.nats.ClientURL()}
	return cmd
}

// dlq runs a command line to its end.
func (g *graveyard) dlq(line string) (output string, code int) {
	g.t.Helper()
	cmd := g.command(append([]string{"dlq"}, strings.Fields(line)...)...)
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	_ = cmd.Run() // the exit code says it
	return all.String(), cmd.ProcessState.ExitCode()
}

// Of each kind of letter: what may be counted goes out only when the risk is taken, under an
// identifier of its own, and each event is counted once.
func TestLettersByHandAndTheBooks(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	var counted []usage.Event
	events := func(name string, value int64) (e usage.Event) { return event(t, "api_calls", "cus_"+name, name, value) }
	for _, tt := range []struct {
		name    string
		reason  deadletter.Reason
		outcome deadletter.Outcome
		code    string
		line    string // of the command, %d for the id; then the same with the risk taken
		risky   bool
		billed  string // identifier
		value   int64
	}{
		{"edit of a refused one", deadletter.Rejected, deadletter.Refused, "no_meter", "edit %d --yes --set payload.value=9", false, "", 9},
		{"edit of one never sent", deadletter.InvalidValue, deadletter.Refused, "", "edit %d --yes --set payload.value=9", false, "", 9},
		{"edit of unknown outcome", deadletter.ServerError, deadletter.Unknown, "", "edit %d --yes --set payload.value=9", true, "~r1", 9},
		{"edit of an ambiguous one", deadletter.Ambiguous, deadletter.Unknown, "", "edit %d --yes --set payload.value=9", true, "~r1", 9},
		{"edit of one rejected later", deadletter.RejectedLater, deadletter.Refused, "no_meter", "edit %d --yes --set payload.value=9", false, "~r1", 9},
		{"edit of one rejected later, perhaps counted", deadletter.RejectedLater, deadletter.Refused, "new", "edit %d --yes --set payload.value=9", true, "~r1", 9},
		{"edit of a conflict", deadletter.IdentifierConflict, deadletter.Refused, "", "edit %d --yes --set payload.value=9", false, "~r1", 9},
		{"replay of a refused one", deadletter.Rejected, deadletter.Refused, "", "replay %d --wait 60s", false, "", 1},
		{"replay of one rejected later", deadletter.RejectedLater, deadletter.Refused, "no_meter", "replay %d --wait 60s", false, "~r1", 1},
		{"replay of an ambiguous one", deadletter.Ambiguous, deadletter.Unknown, "", "replay %d --wait 60s", true, "", 1},
	} {
		name := strings.ReplaceAll(strings.ReplaceAll(tt.name, " ", "_"), ",", "")
		g.bury(events(name, 1), tt.reason, tt.outcome, tt.code)
		stream, err := g.js.Stream(t.Context(), outbox.DLQStream)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf(tt.line, stream.CachedInfo().State.LastSeq)
		if tt.risky {
			if output, code := g.dlq(line); code != 1 || !strings.Contains(output, "--accept-double-billing") || g.letters() != 1 {
				t.Fatalf("%s without the risk: exit code %d, %s", tt.name, code, output)
			}
			line += " --accept-double-billing"
		}
		if output, code := g.dlq(line); code != 0 || g.letters() != 0 {
			t.Fatalf("%s: exit code %d, %s", tt.name, code, output)
		}
		counted = append(counted, event(t, "api_calls", "cus_"+name, name+tt.billed, tt.value))
	}
	g.until("all to be settled", func() bool {
		return g.worker.metric(`meterworker_settled_total{disposition="delivered"}`) == float64(len(counted))
	})
	if n := g.letters(); n != 0 {
		t.Errorf("%d letters died again", n)
	}
	g.audit(counted)
}

// Edited and published again as it was, by two people at once: one is counted.
func TestEditAndConflictAreCountedOnce(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	first := event(t, "api_calls", "cus_1", "same", 1)
	g.publish([]usage.Event{first})
	g.publish([]usage.Event{event(t, "api_calls", "cus_1", "same", 2)})
	g.until("the conflict", func() bool { return g.letters() == 1 })
	if output, code := g.dlq("show 1"); code != 0 || !strings.Contains(output, "identifier_conflict") || !strings.Contains(output, "published by a producer") {
		t.Errorf("exit code %d, %s", code, output)
	}
	if output, code := g.dlq("edit 1 --yes --set payload.value=3 --why usage_of_its_own"); code != 0 || !strings.Contains(output, "same~r1") {
		t.Errorf("exit code %d, %s", code, output)
	}
	g.until("both to be delivered", func() bool { return g.worker.metric(`meterworker_settled_total{disposition="delivered"}`) == 2 })
	g.audit([]usage.Event{first, event(t, "api_calls", "cus_1", "same~r1", 3)})
}

// A replay that is killed again and again, while another one runs beside it, and the
// worker as well: nothing is lost, nothing is counted twice, and the trail names every letter.
func TestReplaysAreKilledAndTheBooks(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const many = 400
	var all []usage.Event
	for i := range many {
		e := event(t, "api_calls", fmt.Sprintf("cus_%d", i%20), fmt.Sprintf("id-%d", i), int64(i%7+1))
		all = append(all, e)
		g.bury(e, deadletter.Rejected, deadletter.Refused, "")
	}
	for _, after := range []int{1, 40, 70} {
		cmd := g.command("dlq", "replay", "--all", "--yes", "--rate", "0")
		beside := g.command("dlq", "replay", "--all", "--yes", "--rate", "0", "--limit", "90")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := beside.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range after {
			if _, err := lines.ReadString('\n'); err != nil {
				break // the other one took them
			}
		}
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, lines)
		_, _ = cmd.Wait(), beside.Wait() // killed, and perhaps in each other's way
	}
	g.worker = g.worker.killAndRestart()
	if output, code := g.dlq("replay --all --yes --rate 0"); code != 0 {
		t.Fatalf("exit code %d, %s", code, tail(output, 2000))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g.until("everything to be acked", func() bool {
		pending := 0
		for p := range 24 {
			consumer, err := g.js.Consumer(ctx, outbox.UsageStream, fmt.Sprintf("worker-%d", p))
			if err != nil {
				t.Fatal(err)
			}
			pending += int(consumer.CachedInfo().NumPending) + consumer.CachedInfo().NumAckPending
		}
		return pending == 0
	})
	if n := g.letters(); n != 0 {
		t.Errorf("%d letters left", n)
	}
	g.audit(all)
	trail := g.command("audit", "--action", "replay", "-o", "json")
	output, err := trail.Output()
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= many; id++ {
		if !bytes.Contains(output, fmt.Appendf(nil, `"id":%d,`, id)) {
			t.Errorf("the trail does not name letter %d", id)
		}
	}
}
