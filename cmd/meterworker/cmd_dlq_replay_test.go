package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

func TestDLQReplay(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.ServerError), eventBody)
	code, stdout, stderr := o.run(nil, "dlq", "replay", "1", "1")
	if code != 0 || stdout != "1: replayed sequence=1 identifier=req-1\n" || !strings.Contains(stderr, "replayed 1, refused 0, failed 0, not found 0") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	o.holds(1, 0)
	m := o.message(1)
	if string(m.Data) != eventBody || !strings.HasSuffix(m.Subject, ".replay.api_calls.cus_1") || m.Header.Get("Meterworker-Replays") != "1" {
		t.Errorf("stored %q, %q, %q", m.Subject, m.Header, m.Data)
	}
	code, stdout, _ = o.run(nil, "dlq", "replay", "1")
	if code != exitFailed || stdout != "1: not found (replayed or discarded already?)\n" {
		t.Errorf("again: exit %d, %q", code, stdout)
	}
	o.holds(1, 0)
}

func TestDLQReplayRefuses(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody) // 1
	o.bury(deadLetter(deadletter.Ambiguous), eventBody)
	old := deadLetter(deadletter.Rejected)
	old.Timestamp = time.Now().Add(-35*24*time.Hour - 2*time.Second).Unix()
	o.bury(old, eventBody) // 3
	o.bury(deadLetter(deadletter.InvalidValue), eventBody)
	later := deadLetter(deadletter.RejectedLater)
	later.Code = "no_meter"
	o.bury(later, eventBody) // 5

	// The dry run says the same and changes nothing.
	want := []string{
		"1: would replay identifier=req-1\n", "2: refused: Stripe may have counted it", "3: refused: the usage is older than 35 days",
		"4: refused: it will die again with the reason meter_event_invalid_value", "5: would replay identifier=req-1~r1\n",
	}
	code, stdout, stderr := o.run(nil, "dlq", "replay", "--all", "--dry-run")
	containsAll(t, stdout, want)
	if code != exitFailed || !strings.Contains(stderr, "dry run, nothing was changed: would replay 2, refused 3") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	o.holds(0, 5)

	code, stdout, stderr = o.run(nil, "dlq", "replay", "--all", "--yes", "-o", "json")
	containsAll(t, stdout, []string{
		`{"id":1,"result":"replayed","identifier":"req-1","sequence":1,"duplicate":false,"detail":""}` + "\n",
		`{"id":2,"result":"refused","identifier":"req-1","sequence":0,`, `{"id":3,"result":"refused",`,
		`{"id":4,"result":"replayed","identifier":"req-1","sequence":2,"duplicate":false,"detail":"it will die again`,
		`{"id":5,"result":"replayed","identifier":"req-1~r1","sequence":3,`,
	})
	if code != exitFailed || !strings.Contains(stderr, "replayed 3, refused 2, failed 0, not found 0") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	o.holds(3, 2)

	// The ambiguous one goes when the risk is taken; the old one never.
	code, stdout, _ = o.run(nil, "dlq", "replay", "--all", "--yes", "--accept-double-billing")
	containsAll(t, stdout, []string{"2: replayed sequence=4", "3: refused: "})
	if code != exitFailed || o.message(4).Header.Get("Meterworker-Accept-Double-Billing") != "true" {
		t.Errorf("exit %d, headers %q", code, o.message(4).Header)
	}
	o.holds(4, 1)
}

func containsAll(t *testing.T, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("lacks %q in\n%s", part, text)
		}
	}
}

func TestDLQBadUsage(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"replay"}, "nothing is selected"},
		{[]string{"replay", "--yes"}, "nothing is selected"},
		{[]string{"replay", "--limit", "1", "--yes"}, "nothing is selected"},
		{[]string{"replay", "--dry-run"}, "nothing is selected"},
		{[]string{"replay", "--all"}, "no terminal to ask on"},
		{[]string{"replay", "--reason", "rejected"}, "no terminal to ask on"},
		{[]string{"replay", "--all", "1"}, "give ids, or filters, or --all"},
		{[]string{"replay", "--customer", "cus_1", "1"}, "give ids, or filters, or --all"},
		{[]string{"replay", "--limit", "1", "1"}, "give ids, or filters, or --all"},
		{[]string{"replay", "--customer", "", "--yes"}, "--customer is empty"},
		{[]string{"replay", "--since", "", "--yes"}, "--since is empty"},
		{[]string{"replay", "--reason", "", "--yes"}, `--reason="" is none of`},
		{[]string{"replay", "--reason", "rejected,nope", "--yes"}, `--reason="nope" is none of undecodable,`},
		{[]string{"replay", "--all", "--limit", "0", "--yes"}, "--limit=0 is not at least 1"},
		{[]string{"replay", "--all", "--limit=-1", "--yes"}, "--limit=-1 is not at least 1"},
		{[]string{"list", "--since", "1h", "--until", "2h"}, "--since is not before --until"},
		{[]string{"list", "--since", "soon"}, "neither a time"},
		{[]string{"list", "-o", "xml"}, `must be one of "table","json"`},
		{[]string{"show"}, "expected \"<id>\""},
		{[]string{"show", "1", "2"}, "unexpected argument 2"},
	}
	for _, id := range []string{"", "-", "0", "00", "-1", "+1", " 1", "1 ", "0x1", "1_0", "1.0", "1e3", "18446744073709551616", "\x1b[2J", "１", "NaN", strings.Repeat("9", 1000)} {
		tests = append(tests,
			struct {
				args []string
				want string
			}{[]string{"replay", "--yes", "--", id}, "is no id of a dead letter"},
			struct {
				args []string
				want string
			}{[]string{"show", "--", id}, "is no id of a dead letter"})
	}
	tests = append(tests, struct {
		args []string
		want string
	}{[]string{"replay", "--", "--help"}, `"--help" is no id`}, struct {
		args []string
		want string
	}{[]string{"replay", "1", ""}, `"" is no id`}, struct {
		args []string
		want string
	}{[]string{"replay", "1", "-"}, `"-" is no id`})
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60q", tt.args), func(t *testing.T) {
			code, stdout, stderr := o.run(nil, append([]string{"dlq"}, tt.args...)...)
			if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit %d, %q, %q, want %d and %q", code, stdout, stderr, exitUsage, tt.want)
			}
			if strings.ContainsRune(stderr, '\x1b') || len(stderr) > 2000 {
				t.Errorf("unfit for a terminal: %q", stderr)
			}
		})
	}
	o.holds(0, 1)
}

// interrupter ends a context when the n-th line is written.
type interrupter struct {
	text   bytes.Buffer
	lines  int
	cancel context.CancelFunc
}

func (w *interrupter) Write(b []byte) (int, error) {
	n, err := w.text.Write(b)
	if strings.Count(w.text.String(), "\n") >= w.lines {
		w.cancel()
	}
	return n, err
}

func TestDLQReplayInterrupted(t *testing.T) {
	o := newTestOutbox(t)
	for range 10 {
		o.bury(deadLetter(deadletter.Rejected), eventBody)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupter{lines: 3, cancel: cancel}
	code, stderr := o.until(ctx, nil, out, "dlq", "replay", "--all", "--yes")
	if code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
	containsAll(t, stderr, []string{"replayed 3, refused 0", "not begun: 7, which wait as before", "interrupted"})
	o.holds(3, 7)
	// A list that is interrupted says nothing more.
	ctx, cancel = context.WithCancel(t.Context())
	const two = 8 // lines to the second letter
	out = &interrupter{lines: two, cancel: cancel}
	if code, stderr = o.until(ctx, nil, out, "dlq", "list"); code != exitFailed || stderr != "" || strings.Count(out.text.String(), "\n") != two {
		t.Errorf("list: exit %d, %q, %q", code, stderr, out.text.String())
	}
}

func TestDLQReplayStopsWhenNobodyReads(t *testing.T) {
	o := newTestOutbox(t)
	for range 5 {
		o.bury(deadLetter(deadletter.Rejected), eventBody)
	}
	code, stderr := o.until(t.Context(), nil, fullDisk{}, "dlq", "replay", "--all", "--yes")
	if code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
	containsAll(t, stderr, []string{"replayed 1, ", "not begun: 4", errFull.Error()})
	o.holds(1, 4)
}

// One letter is tried after the other until it is plain that none will go.
func TestDLQReplayStopsAfterFailures(t *testing.T) {
	o := newTestOutbox(t)
	for range 10 {
		o.bury(deadLetter(deadletter.Rejected), eventBody)
	}
	stream, err := o.js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgSize = 10
	if _, err := o.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := o.run(nil, "dlq", "replay", "--all", "--yes")
	if code != exitFailed || strings.Count(stdout, "failed: publish: ") != failuresInARow {
		t.Errorf("exit %d, %q", code, stdout)
	}
	containsAll(t, stderr, []string{"failed 3", "not begun: 7", "stopped after 3 failures in a row"})
	o.holds(0, 10)
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes \r\n": true, "n\n": false, "\n": false, "": false, "yeah\n": false, "y": true} {
		var errs bytes.Buffer
		err := confirm(t.Context(), &process{In: strings.NewReader(answer), Err: &errs}, "Replay 3 dead letters?")
		if (err == nil) != want || !strings.HasPrefix(errs.String(), "Replay 3 dead letters? [y/N] ") {
			t.Errorf("%q: %v, %q, want %v", answer, err, errs.String(), want)
		}
	}
}

// slowPerson says yes after a while, in which another letter dies.
type slowPerson struct{ meanwhile func() }

func (p slowPerson) Read(b []byte) (int, error) {
	p.meanwhile()
	return copy(b, "yes\n"), nil
}

// What is replayed is what was shown when the person said yes.
func TestDLQReplayIsOfWhatWasCounted(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	letters, err := replay.Open(t.Context(), o.js)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	p := &process{Out: &out, Err: &errs, In: slowPerson{func() { o.bury(deadLetter(deadletter.Rejected), eventBody) }}}
	conn := &client{js: o.js}
	r, err := (&DLQReplayCmd{LetterSelection: LetterSelection{All: true}, Output: "text"}).newRun(t.Context(), p, conn, letters)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.run(t.Context(), nil, replay.Filter{}); err != nil {
		t.Errorf("error %v, %s", err, errs.String())
	}
	containsAll(t, errs.String(), []string{"Replay 2 dead letters? [y/N]", "replayed 2, "})
	o.holds(2, 1)
}
