package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// settle plays the worker: it takes one message of USAGE after the other and does with it
// what end says, then acks.
func (o *testOutbox) settle(ctx context.Context, end func(m jetstream.Msg) error) error {
	for p := 0; ctx.Err() == nil; p = (p + 1) % o.streams.Partitions() {
		consumer, err := o.js.Consumer(ctx, outbox.UsageStream, "worker-"+string(rune('0'+p)))
		if err != nil {
			return err
		}
		batch, err := consumer.FetchNoWait(10)
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			if err := errors.Join(end(m), m.DoubleAck(ctx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Of each replay it is said whether it was delivered, died again, or waits.
func TestDLQReplayWaits(t *testing.T) {
	o := newTestOutbox(t)
	for range 2 {
		o.bury(deadLetter(deadletter.Rejected), eventBody)
	}
	other := deadLetter(deadletter.Rejected)
	other.Identifier = "req-2"
	o.bury(other, strings.ReplaceAll(eventBody, "req-1", "req-2"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- o.settle(ctx, func(m jetstream.Msg) error {
			if m.Headers().Get("Meterworker-Identifier") != "req-2" {
				return nil
			}
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			again := other
			again.Reason, again.Sequence, again.Replays, again.Subject = deadletter.InvalidValue, meta.Sequence.Stream, 1, "usage.replay.api_calls.cus_1"
			return o.streams.DeadLetters().Publish(ctx, again, again.Header(), m.Data())
		})
	}()
	code, stdout, stderr := o.run(nil, "dlq", "replay", "1", "3", "--wait", "60s")
	if code != exitFailed || !strings.Contains(stdout, "1: delivered\n") || !strings.Contains(stdout, "3: died again as 4 (meter_event_invalid_value)\n") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	containsAll(t, stderr, []string{"replayed 2, ", "delivered 1, died again 1, still waiting 0"})
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	code, stdout, stderr = o.run(nil, "dlq", "replay", "2", "--wait", "1ms", "-o", "json")
	if code != 0 || !strings.Contains(stdout, `{"id":2,"result":"waiting","identifier":"req-1","sequence":3,"letter":0,"reason":""}`+"\n") || !strings.Contains(stderr, "still waiting 1") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestWorse(t *testing.T) {
	told, fault := &silentError{exitFailed}, errors.New("fault")
	for _, tt := range []struct{ a, b, want error }{{nil, nil, nil}, {told, fault, fault}, {fault, told, fault}, {told, nil, told}, {nil, fault, fault}} {
		if got := worse(tt.a, tt.b); !errors.Is(got, tt.want) || (got == nil) != (tt.want == nil) {
			t.Errorf("worse(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// Letters go one by one, each no sooner than the one before it and the interval.
func TestPace(t *testing.T) {
	p := newPace(1000)
	began := time.Now()
	for range 20 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 19*time.Millisecond {
		t.Errorf("20 at 1,000/s took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []*pace{newPace(0), newPace(1), p} {
		p.next = time.Now().Add(time.Hour)
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	}
}

func TestDLQListGroups(t *testing.T) {
	o := newTestOutbox(t)
	code, stdout, stderr := o.run(nil, "dlq", "list")
	if code != 0 || stdout != "0 dead letters\n\n" || stderr != "meterworker: no dead letters match\n" {
		t.Errorf("none: exit %d, %q, %q", code, stdout, stderr)
	}
	died := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, code := range []string{"no_meter", "no_meter", ""} {
		l := deadLetter(deadletter.Rejected)
		l.Code, l.DeadAt = code, died
		o.bury(l, eventBody)
	}
	want := `{"reason":"rejected","code":"no_meter","count":2,"oldest":"2026-01-02T03:04:05Z","event_names":["api_calls"],"more_event_names":false}` + "\n" +
		`{"reason":"rejected","code":"","count":1,"oldest":"2026-01-02T03:04:05Z","event_names":["api_calls"],"more_event_names":false}` + "\n"
	if code, stdout, stderr = o.run(nil, "dlq", "list", "--groups", "-o", "json"); code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = o.run(nil, "dlq", "list", "--limit", "1")
	if code != 0 || strings.Count(stdout, "\n") != 8 || !strings.HasPrefix(stdout, "3 dead letters: rejected 3\n\nREASON ") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	if code, stdout, stderr = o.run(nil, "dlq", "list", "--groups", "--limit", "1"); code != exitUsage || stdout != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

// A spreadsheet runs nothing of what a producer wrote, and splits no text.
func TestExportCSV(t *testing.T) {
	o := newTestOutbox(t)
	for _, text := range []string{"=1+1", "+1", "@x", "-1+1", " =1", "＝1", "|calc", "%0", "a\";=1", "a\n=1", "\t=1"} {
		l := deadLetter(deadletter.Rejected)
		l.Detail, l.Code = text, text
		o.bury(l, text)
	}
	code, stdout, _ := o.run(nil, "dlq", "export", "--format", "csv")
	rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	if code != 0 || err != nil || len(rows) != 12 || !slices.Equal(rows[0], exportColumns) {
		t.Fatalf("exit %d, %v, %d rows", code, err, len(rows))
	}
	for _, row := range rows[1:] {
		for i, field := range row {
			if strings.ContainsAny(field, "\n\r\t") || strings.ContainsAny(strings.TrimLeft(field, " ")+"x", "=+@|%＝") && strings.IndexAny(strings.TrimLeft(field, " "), "=+@|%＝") == 0 {
				t.Errorf("%s is %q", rows[0][i], field)
			}
		}
	}
	if got := strings.Count(stdout, `"`) % 2; got != 0 || !strings.HasPrefix(stdout, `"id","reason"`) {
		t.Errorf("not all fields are quoted: %.100s", stdout)
	}
	for text, want := range map[string]string{"-5": "-5", "-5.5": "-5.5", "-5+1": "'-5+1", "5": "5", "": "", "a=1": "a=1", "\x1b=": `\x1b=`, "－5": "'－5"} {
		if got := harmless(text); got != want {
			t.Errorf("harmless(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestAudit(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	if code, stdout, stderr := o.run(nil, "audit"); code != 0 || stdout != "" || stderr != "meterworker: no records match\n" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	env := environment{"METERWORKER_ACTOR": "bob"}
	if code, _, stderr := o.with(env, "dlq", "replay", "1", "--why", "\x1b[2J", "--nats-url", strings.Replace(o.url, "//", "//ann:hunter2@", 1)); code != 0 {
		t.Fatal(stderr)
	}
	o.run(nil, "pause", "--why", "x", "--timeout", "1ms")
	code, stdout, _ := o.run(nil, "audit", "--letters")
	containsAll(t, stdout, []string{"RECORDED AT", "replay", "letter 1", "1 rejected api_calls cus_1 req-1", "replayed 1", "bob", `\x1b[2J`, "pause", "the order is stored"})
	if code != 0 || strings.Count(stdout, "RECORDED AT") != 1 {
		t.Errorf("exit %d, %q", code, stdout)
	}
	code, stdout, _ = o.run(nil, "audit", "--actor", "bob", "-o", "json")
	containsAll(t, stdout, []string{`"action":"replay"`, `"actor":"bob"`, `"nats_user":"ann"`, `"why":"\u001b[2J"`, `"stage":"intent"`, `"stage":"result"`})
	if code != 0 || strings.Count(stdout, "\n") != 2 || strings.Contains(stdout, "hunter2") || strings.Contains(stdout, "pause") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	for args, want := range map[string]string{
		"--action fly": `--action="fly" is none of replay, edit,`, "--actor=": "--actor is empty", "--since soon": "neither a time", "-o yaml": "must be one of",
	} {
		if code, stdout, stderr := o.run(nil, append([]string{"audit"}, strings.Fields(args)...)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q", args, code, stderr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupter{lines: 5, cancel: cancel} // the heading and four records
	if code, stderr := o.until(ctx, nil, out, "audit", "--follow"); code != exitFailed || stderr != "" {
		t.Errorf("follow: exit %d, %q", code, stderr)
	}
}

func TestRecordedArguments(t *testing.T) {
	got := recordedArguments([]string{"dlq", "--nats-url", "nats://a:p/w@h", "--nats-url=nats://b:p@h", "--why", "sk_live_" + hidden, "17"})
	if text := strings.Join(got, " "); strings.Contains(text, hidden) || strings.Contains(text, "p/w") || strings.Contains(text, "b:p") || !strings.HasSuffix(text, " 17") || len(got) != 7 {
		t.Errorf("%q", got)
	}
}

// Plain text is shown as text, what drives a terminal as a hex dump.
func TestReadable(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1}`: "{\n  \"a\": 1\n}", "<html>\n": "<html>\n", "{\"a\":\n": "{\"a\":\n", "\x00\x01": "00000000  00 01 ", "\x1b[2J": "00000000  1b 5b ", "\xff": "00000000  ff ",
	} {
		if got := readable([]byte(body)); !strings.HasPrefix(got, want) || bytes.ContainsFunc([]byte(got), func(r rune) bool { return r != '\n' && !visible(r) }) {
			t.Errorf("%q is shown as %q", body, got)
		}
	}
}
