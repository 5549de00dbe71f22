package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// program is a command line as a process of its own: signals and pipes are real.
func (o *testOutbox) program(args ...string) *exec.Cmd {
	o.t.Helper()
	self, err := os.Executable()
	if err != nil {
		o.t.Fatal(err)
	}
	path := filepath.Join(o.t.TempDir(), "meterworker") // the name makes it the program: see TestMain
	if err := os.Symlink(self, path); err != nil {
		o.t.Fatal(err)
	}
	cmd := exec.CommandContext(o.t.Context(), path, args...)
	cmd.Env = []string{"NATS_URL=" + o.url, "GOCOVERDIR=" + o.t.TempDir()}
	return cmd
}

// buryMany stores letters whose lines of output are about 600 bytes long, so that 120
// of them are more than a pipe holds.
func (o *testOutbox) buryMany(n int) {
	for range n {
		l := deadLetter(deadletter.Rejected)
		l.Identifier = strings.Repeat("é", 255)
		o.bury(l, eventBody)
	}
}

// The reader has gone before the first line: the letter in hand is finished, and no
// other begun. The process must live to do that.
func TestDLQReplayIntoAClosedPipe(t *testing.T) {
	o := newTestOutbox(t)
	o.buryMany(3)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := o.program("dlq", "replay", "--all", "--yes")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = writer, &errs
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Run() // the exit code says it
	_ = writer.Close()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit %d, want %d: %s", code, exitFailed, errs.String())
	}
	containsAll(t, errs.String(), []string{"replayed 1, ", "not begun: 2", "broken pipe"})
	o.holds(1, 2)
}

// A list into a closed pipe changes nothing, and is no success.
func TestDLQListIntoAClosedPipe(t *testing.T) {
	o := newTestOutbox(t)
	o.buryMany(200)
	cmd := o.program("dlq", "list", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("success")
	}
	o.holds(0, 200)
}

// Ctrl-C half-way: the process is blocked on a pipe that nobody reads, so that the
// signal finds it there. What it said it replayed it did, and nothing else is gone.
func TestDLQReplayInterruptedBySignal(t *testing.T) {
	o := newTestOutbox(t)
	const many = 400
	o.buryMany(many)
	cmd := o.program("dlq", "replay", "--all", "--yes")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err, errs.String())
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	said := strings.Count(first+string(rest), ": replayed sequence=")
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || said == 0 || said == many {
		t.Errorf("exit %d after %d of %d, want %d half-way: %s", code, said, many, exitFailed, errs.String())
	}
	containsAll(t, errs.String(), []string{"interrupted", "not begun: "})
	o.holds(uint64(said), uint64(many-said))

	// The rest goes by another run.
	if code, _, stderr := o.run(nil, "dlq", "replay", "--all", "--yes"); code != 0 {
		t.Errorf("exit %d, %s", code, stderr)
	}
	o.holds(many, 0)
}

// Two people replay everything at once: each letter is stored once, and neither fails
// for what the other has done.
func TestDLQReplayTwiceAtOnce(t *testing.T) {
	o := newTestOutbox(t)
	const many = 60
	o.buryMany(many)
	var outputs [2]bytes.Buffer
	var commands [2]*exec.Cmd
	for i := range commands {
		commands[i] = o.program("dlq", "replay", "--reason", "rejected", "--yes")
		commands[i].Stderr = &outputs[i]
		if err := commands[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("run %d: %v, %s", i, err, outputs[i].String())
		}
	}
	o.holds(many, 0)
	if n := o.stored(outbox.UsageStream); n != many {
		t.Errorf("%d messages for %d letters", n, many)
	}
}
