package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/usage"
)

func TestPublishOne(t *testing.T) {
	o := newTestOutbox(t)
	args := []string{"publish", "--event-name", "api calls", "--customer", "cus_1", "--value=-5", "--identifier", "req-1", "--timestamp", time.Now().Format(time.RFC3339), "--payload", "region=eu=1", "--payload", "plan="}
	code, stdout, stderr := o.run(nil, args...)
	if code != 0 || stdout != "stored sequence=1 identifier=req-1\n" || stderr != "" {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	m := o.message(1)
	event, err := usage.Parse(usage.Message{Subject: "usage.events.api=20calls.cus_1", Body: m.Data, StoredAt: m.Time}, time.Now())
	if err != nil || event.Value() != "-5" || event.Identifier() != "req-1" || fmt.Sprint(event.Payload()) != "[{plan } {region eu=1} {stripe_customer_id cus_1} {value -5}]" {
		t.Errorf("stored %q: %v, %v", m.Data, event.Payload(), err)
	}
	if _, stdout, _ = o.run(nil, args...); stdout != "duplicate of sequence 1\n" {
		t.Errorf("again: %q", stdout)
	}
	code, stdout, stderr = o.run(nil, "publish", "--event-name", "a", "--customer", "c", "--value", "1", "-o", "json")
	var got publishedObject
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || got.Sequence != 2 || got.Identifier == "" || !strings.Contains(stderr, "random identifier") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestPublishBadUsage(t *testing.T) {
	event := []string{"--event-name", "a", "--customer", "c", "--value", "1"}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--customer", "c", "--value", "1"}, "--event-name is missing"},
		{[]string{"--event-name", "a", "--value", "1"}, "--customer is missing"},
		{[]string{"--event-name", "a", "--customer", "c"}, "--value is missing"},
		{[]string{"--identifier", "x"}, "--event-name is missing"},
		{[]string{"--payload", "a=b"}, "--event-name is missing"},
		{[]string{"--event-name", "a", "--customer", "c", "--value", "1.5"}, "meter_event_invalid_value"},
		{[]string{"--event-name", "a", "--customer", "c", "--value", "0x10"}, "meter_event_invalid_value"},
		{[]string{"--event-name", "a", "--customer", "c", "--value", ""}, "meter_event_invalid_value"},
		{[]string{"--event-name", "", "--customer", "c", "--value", "1"}, "invalid_event_name"},
		{[]string{"--event-name", "a", "--customer", "", "--value", "1"}, "meter_event_no_customer_defined"},
		{append(event, "--identifier", ""), "invalid_identifier"},
		{append(event, "--timestamp", "yesterday"), "timestamp cannot be read"},
		{append(event, "--timestamp", "1"), "timestamp_too_far_in_past"},
		{append(event, "--payload", "novalue"), `--payload="novalue" is not KEY=VALUE`},
		{append(event, "--payload", "=x"), `--payload="=x" is not KEY=VALUE`},
		{append(event, "--payload", "a=1", "--payload", "a=2"), "a key of its own"},
		{append(event, "--payload", "value=2"), "a key of its own"},
		{append(event, "--payload", "a[b]=1"), "invalid_payload"},
		{append(event, "--timeout", "0s"), "--timeout=0s is not above 0"},
		{append(event, "stray"), "unexpected argument stray"},
	}
	for _, tt := range tests {
		// No server: bad usage is found before anything is dialled.
		code, stdout, stderr := runCommand(t, environment{"NATS_URL": "nats://127.0.0.1:1"}, append([]string{"publish"}, tt.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit %d, %q, want %d and %q", tt.args, code, stderr, exitUsage, tt.want)
		}
	}
}

func eventLine(i int) string {
	return fmt.Sprintf(`{"event_name":"api_calls","identifier":"req-%d","timestamp":%d,"payload":{"stripe_customer_id":"cus_%d","value":%d}}`,
		i, time.Now().Unix()-60, i%7, i)
}

func TestPublishLines(t *testing.T) {
	o := newTestOutbox(t)
	first := eventLine(1)
	input := strings.Join([]string{
		first,
		"", // counted, not published
		"garbage\x1b[2J",
		"  " + first + "\r",
		`{"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`,
		`{"event_name":"a","identifier":"no time","payload":{"stripe_customer_id":"c","value":1}}`,
		`{"event_name":"a","payload":{"stripe_customer_id":"c","value":"` + strings.Repeat("1", usage.MaxBody) + `"}}`,
		eventLine(2), // no line end
	}, "\n")
	code, stdout, stderr := o.run(strings.NewReader(input), "publish")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	want := []string{
		"line 1: ", "line 3: error: undecodable: ", "line 4: ", "line 5: stored sequence=",
		"line 6: stored sequence=", "line 7: error: too_large: ", "line 8: stored sequence=",
	}
	if code != exitFailed || len(lines) != len(want) {
		t.Fatalf("exit %d,\n%s", code, stdout)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %q, want %q…", lines[i], want[i])
		}
	}
	// Lines 1 and 4 are one event and race for the place: either may be the duplicate.
	if strings.Count(lines[0]+lines[2], "duplicate of sequence") != 1 || strings.Count(lines[0]+lines[2], "stored sequence") != 1 {
		t.Errorf("one stored, one duplicate, want\n%s", stdout)
	}
	containsAll(t, stderr, []string{"1 events had no identifier and got a random one", "1 events had no timestamp", "4 stored, 1 duplicates, 2 failed"})
	o.holds(4, 0)
}

func TestPublishKeepsTheOrderOfManyLines(t *testing.T) {
	o := newTestOutbox(t)
	const many = 1000
	var input strings.Builder
	for i := range many {
		input.WriteString(eventLine(i) + "\n")
	}
	code, stdout, stderr := o.run(strings.NewReader(input.String()), "publish", "-o", "json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	line := 0
	for text := range strings.Lines(stdout) {
		var got publishedObject
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got.Line != line+1 || got.Identifier != fmt.Sprintf("req-%d", line) || got.Sequence == 0 || got.Duplicate || got.Error != "" {
			t.Fatalf("line %d: %+v", line+1, got)
		}
		line++
	}
	if line != many {
		t.Errorf("%d results, want %d", line, many)
	}
	o.holds(many, 0)
}

// Nobody reads the results: what is under way is finished, nothing else is begun.
func TestPublishStopsWhenNobodyReads(t *testing.T) {
	o := newTestOutbox(t)
	const many = 1000
	var input strings.Builder
	for i := range many {
		input.WriteString(eventLine(i) + "\n")
	}
	code, stderr := o.until(t.Context(), strings.NewReader(input.String()), fullDisk{}, "publish")
	if code != exitFailed || !strings.Contains(stderr, "standard output is closed: stopped after line ") || !strings.Contains(stderr, errFull.Error()) {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if n := o.stored("USAGE"); n == 0 || n > 2*publishesAtOnce {
		t.Errorf("%d stored, want those under way only", n)
	}
}

// A signal ends the reading even of an input that never ends, after the answers
// for what was begun.
func TestPublishInterrupted(t *testing.T) {
	o := newTestOutbox(t)
	in, feed := io.Pipe()
	defer func() { _ = feed.Close() }()
	go func() { _, _ = io.WriteString(feed, eventLine(1)+"\n"+eventLine(2)+"\n") }()
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupter{lines: 2, cancel: cancel}
	code, stderr := o.until(ctx, in, out, "publish")
	if code != exitFailed || !strings.Contains(stderr, "interrupted after line 2 (2 stored, 0 duplicates, 0 failed)") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	o.holds(2, 0)
}

func TestPublishWithoutStream(t *testing.T) {
	o := newTestOutbox(t)
	if err := o.js.DeleteStream(t.Context(), "USAGE"); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := o.run(nil, "publish", "--event-name", "a", "--customer", "c", "--value", "1", "--identifier", "x", "--timeout", "300ms")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "error: the event may or may not be stored") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestReadLine(t *testing.T) {
	lines := make(chan inputLine)
	long := strings.Repeat("x", longestLine+10)
	go readLines(t.Context(), strings.NewReader(long+"\nshort\n\n  \r\nlast"), lines)
	want := []inputLine{{number: 1, body: []byte(long[:longestLine])}, {number: 2, body: []byte("short")}, {number: 5, body: []byte("last")}}
	for _, w := range want {
		if got := <-lines; got.number != w.number || string(got.body) != string(w.body) || got.err != nil {
			t.Errorf("line %d of %d bytes, %v, want %d of %d", got.number, len(got.body), got.err, w.number, len(w.body))
		}
	}
	if extra, more := <-lines; more {
		t.Errorf("line %d is one too many", extra.number)
	}
}
