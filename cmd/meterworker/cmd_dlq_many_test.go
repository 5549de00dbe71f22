package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/natstest"
	"github.com/meterworker/meterworker/internal/outbox"
)

const manyLetters = 50_000

// newGraveyard is an outbox with many dead letters. Its server does not sync each write: that
// would take a minute, and nothing is lost here.
func newGraveyard(t *testing.T) *testOutbox {
	t.Helper()
	server := natstest.Start(t)
	o := &testOutbox{t: t, url: server.ClientURL()}
	var err error
	if o.js, err = jetstream.New(server.Connect().Conn(), jetstream.WithPublishAsyncMaxPending(1000)); err != nil {
		t.Fatal(err)
	}
	settings := outbox.Settings{Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second}
	if o.streams, err = outbox.Open(t.Context(), o.js, settings); err != nil {
		t.Fatal(err)
	}
	for i := range manyLetters {
		l := deadLetter(deadletter.Rejected)
		l.Sequence, l.Identifier, l.Detail = uint64(i+1), fmt.Sprintf("req-%d", i), strings.Repeat("d", 200)
		if i%2 == 1 {
			l.Code = "no_meter"
		}
		m := natsMessage(l, strings.Replace(eventBody, "req-1", l.Identifier, 1))
		if _, err := o.js.PublishMsgAsync(m, jetstream.WithMsgID(l.MessageID(o.streams.Epoch())), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-o.js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		t.Fatal("the letters are not stored")
	}
	o.holds(0, manyLetters)
	return o
}

// peak is the most memory that the running process had resident, in KiB.
func peak(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no VmHWM in\n%s", status)
	return 0
}

// peakAt runs a command line and returns its peak when it has written so many lines: it waits
// then, since what is left is more than a pipe holds. The rest is counted, too.
func (o *testOutbox) peakAt(lines int, args ...string) (kib, all int) {
	o.t.Helper()
	cmd := o.program(args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	for range lines {
		if _, err := reader.ReadString('\n'); err != nil {
			o.t.Fatal(err)
		}
	}
	kib = peak(o.t, cmd)
	rest, err := io.ReadAll(reader)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		o.t.Error(err)
	}
	return kib, lines + strings.Count(string(rest), "\n")
}

// However many letters there are, none is hidden and the memory of a command stays what it was.
func TestManyDeadLetters(t *testing.T) {
	o := newGraveyard(t)
	const room = 60 << 10    // KiB over a process that has read a page; all the letters are 45 MiB, and several times that as objects
	const unread = 2_000     // lines; the shortest of them are 100 KiB, more than pipe and reader hold
	const early = unread / 2 // a process that has just begun
	idle, _ := o.peakAt(early, "dlq", "list", "-o", "json", "--limit", strconv.Itoa(early+unread))
	for _, tt := range []struct {
		line  string
		lines int // in all
	}{
		{"dlq list -o json", manyLetters},
		{"dlq list", manyLetters + 7}, // total, two groups and letters with their headings, empty lines
		{"dlq export", manyLetters},
		{"dlq replay --all --dry-run", manyLetters},
		{"dlq replay --all --yes --rate 0 --limit 5000", 5000},
	} {
		kib, lines := o.peakAt(tt.lines-unread, strings.Fields(tt.line)...)
		if lines != tt.lines {
			t.Errorf("%s: %d lines, want %d", tt.line, lines, tt.lines)
		}
		if kib > idle+room {
			t.Errorf("%s: %d MiB at the most, %d when idle", tt.line, kib>>10, idle>>10)
		}
		t.Logf("%s: %d MiB, idle %d", tt.line, kib>>10, idle>>10)
	}
	o.holds(5000, manyLetters-5000)
}

// natsMessage is a letter as it is published.
func natsMessage(l deadletter.Letter, body string) *nats.Msg {
	m := nats.NewMsg(l.StreamSubject())
	m.Data = []byte(body)
	for name, value := range l.Header() {
		m.Header.Set(name, value)
	}
	return m
}
