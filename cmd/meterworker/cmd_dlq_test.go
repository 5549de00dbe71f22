package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/meterworker/meterworker/internal/deadletter"
)

func TestDLQListFields(t *testing.T) {
	o := newTestOutbox(t)
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o.bury(deadletter.Letter{
		Reason: deadletter.Rejected, Outcome: deadletter.Refused, Detail: "no such customer", Code: "no_meter", Status: 400,
		RequestID: "req_9", Attempts: 2, FirstAttempt: day.Add(time.Second), LastAttempt: day.Add(2 * time.Second),
		DeadAt: day.Add(3 * time.Second), Subject: "usage.events.api_calls.cus_1", Sequence: 77, StoredAt: day,
		Identifier: "req-1", Timestamp: day.Unix(), Episode: "4", Replays: 3,
	}, eventBody)
	o.bury(deadletter.Letter{Reason: deadletter.Undecodable, Subject: "usage.events.api=2Ecalls.cus=202", Sequence: 78}, "<html>")
	want := `{"id":1,"reason":"rejected","code":"no_meter","status":400,"detail":"no such customer","identifier":"req-1",` +
		`"event_name":"api_calls","customer":"cus_1","value":"3","attempts":2,"first_attempt":"2026-01-02T03:04:06Z",` +
		`"last_attempt":"2026-01-02T03:04:07Z","dead_at":"2026-01-02T03:04:08Z","stored_at":"2026-01-02T03:04:05Z",` +
		`"subject":"usage.events.api_calls.cus_1","sequence":77,"request_id":"req_9","replays":3,"expires_at":"2026-02-06T03:04:05Z"}` + "\n" +
		`{"id":2,"reason":"undecodable","code":"","status":0,"detail":"","identifier":"","event_name":"api.calls","customer":"cus 2",` +
		`"value":"","attempts":0,"first_attempt":"","last_attempt":"","dead_at":"","stored_at":"","subject":"usage.events.api=2Ecalls.cus=202",` +
		`"sequence":78,"request_id":"","replays":0,"expires_at":""}` + "\n"
	code, stdout, stderr := o.run(nil, "dlq", "list", "-o", "json")
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d, %q,\n got %s\nwant %s", code, stderr, stdout, want)
	}
}

func TestDLQListFilters(t *testing.T) {
	o := newTestOutbox(t)
	now := time.Now().UTC()
	aged := func(reason deadletter.Reason, age time.Duration, code, episode string) {
		l := deadLetter(reason)
		l.DeadAt, l.Code, l.Episode = now.Add(-age), code, episode
		o.bury(l, eventBody)
	}
	aged(deadletter.Rejected, 30*time.Hour, "no_meter", "")
	aged(deadletter.ServerError, 3*time.Hour, "", "4")
	aged(deadletter.Ambiguous, time.Hour, "", "4")
	tests := []struct {
		args string
		want []uint64
	}{
		{"", []uint64{1, 2, 3}},
		{"--reason rejected --reason ambiguous", []uint64{1, 3}},
		{"--reason rejected,ambiguous", []uint64{1, 3}},
		{"--since 2h", []uint64{3}},
		{"--since 1d", []uint64{2, 3}},
		{"--until 2h", []uint64{1, 2}},
		{"--since 1d --until 2h", []uint64{2}},
		{"--since " + now.Add(-4*time.Hour).Format(time.RFC3339), []uint64{2, 3}},
		{"--code no_meter", []uint64{1}},
		{"--episode 4", []uint64{2, 3}},
		{"--episode 4 --limit 1", []uint64{2}},
		{"--event-name api_calls", []uint64{1, 2, 3}},
		{"--event-name api", nil},
		{"--customer cus_1", []uint64{1, 2, 3}},
		{"--customer *", nil},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := o.run(nil, append([]string{"dlq", "list", "-o", "json"}, strings.Fields(tt.args)...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d, %q", code, stderr)
			}
			if got := idsOf(t, stdout); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func idsOf(t *testing.T, lines string) []uint64 {
	t.Helper()
	var ids []uint64
	for line := range strings.Lines(lines) {
		var o struct {
			ID uint64 `json:"id"`
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, o.ID)
	}
	return ids
}

func TestDLQListManyAndBulkReplay(t *testing.T) {
	o := newTestOutbox(t)
	const many = 1500
	for i := range many {
		l := deadLetter(deadletter.Rejected)
		l.Identifier = fmt.Sprintf("req-%d", i)
		o.bury(l, eventBody)
	}
	_, stdout, _ := o.run(nil, "dlq", "list", "-o", "json")
	if ids := idsOf(t, stdout); len(ids) != many || ids[0] != 1 || ids[many-1] != many {
		t.Errorf("%d letters listed, want %d", len(ids), many)
	}
	_, stdout, _ = o.run(nil, "dlq", "list")
	const heading = 6 // the total, the counts under their heading, the letters' heading, and two empty lines
	if n := strings.Count(stdout, "\n"); n != many+heading || strings.Count(stdout, "DEAD AT") != 1 {
		t.Errorf("%d lines, want %d and %d", n, heading, many)
	}
	code, stdout, stderr := o.run(nil, "dlq", "replay", "--reason", "rejected", "--limit", "100", "--yes")
	if code != 0 || strings.Count(stdout, ": replayed sequence=") != 100 || !strings.Contains(stderr, "100 dead letters match: rejected 100") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	o.holds(100, many-100)
}

// hostile is what a producer may put into a message to drive a terminal.
const hostile = "\x1b[2J\u009b31m\u202eevil\u2066\u0000\r\n\u200b\U000e0041"

func TestDLQOutputDrivesNoTerminal(t *testing.T) {
	o := newTestOutbox(t)
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	l := deadLetter(deadletter.InvalidIdentifier)
	l.Identifier, l.Detail, l.Code = "\u202eid", "\u2066detail", "\u202ecode"
	o.bury(l, fmt.Sprintf(`{"event_name":%s,"payload":{"stripe_customer_id":%s,"value":%s,%s:["%s"]}}`,
		quoted, quoted, quoted, quoted, "\u202e raw \u009b31m \U000e0041"))
	o.bury(deadLetter(deadletter.Undecodable), hostile+"\xff\xfe")
	l = deadLetter(deadletter.Rejected)
	l.Subject = "usage.events.=1B[2J.\u202ecus"
	o.bury(l, "{}")
	lines := []string{
		"dlq list", "dlq list -o json", "dlq show 1", "dlq show 2", "dlq show 3", "dlq show 1 -o json", "dlq show 2 -o json",
		"dlq replay 1 2 3 --dry-run", "dlq replay 1 2 3 --dry-run -o json", "dlq replay 1 2 3",
	}
	for _, line := range lines {
		_, stdout, stderr := o.run(nil, strings.Fields(line)...)
		if stdout == "" {
			t.Errorf("%s: no output; %s", line, stderr)
		}
		if i := strings.IndexFunc(stdout+stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: %q", line, (stdout + stderr)[i:])
		}
	}
}

func TestDLQShow(t *testing.T) {
	o := newTestOutbox(t)
	l := deadLetter(deadletter.Rejected)
	l.Timestamp = time.Now().Add(-34*24*time.Hour - 30*time.Second).Unix()
	o.bury(l, eventBody)
	l = deadLetter(deadletter.Ambiguous)
	l.Timestamp = time.Now().Add(-36 * 24 * time.Hour).Unix()
	o.bury(l, strings.Repeat("[", 5000))
	_, stdout, _ := o.run(nil, "dlq", "show", "1")
	for _, want := range []string{
		"Dead letter 1\n", "time left      0d 23h 59m, until ", "\n  Meterworker-Subject: usage.events.api_calls.cus_1\n", "\n  Nats-Msg-Id: dlq-",
		"advice         Stripe refused it;", "may be counted no\n", "Body (" + fmt.Sprint(len(eventBody)) + " bytes)\n{\n  \"event_name\": \"api_calls\",",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q in\n%s", want, stdout)
		}
	}
	_, stdout, _ = o.run(nil, "dlq", "show", "2")
	for _, want := range []string{"time left      none: Stripe takes it no more since ", strings.Repeat("[", 5000)} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q in\n%s", want, stdout)
		}
	}
	code, stdout, stderr := o.run(nil, "dlq", "show", "3")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "dead letter 3: not found (replayed or discarded already?)") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	var file caseObject
	if _, stdout, _ = o.run(nil, "dlq", "show", "1", "-o", "json"); json.Unmarshal([]byte(stdout), &file) != nil || file.ID != 1 ||
		file.Body != eventBody || file.Outcome != "refused" || len(file.Headers["Meterworker-Reason"]) != 1 || file.Left < 23.9 || file.Left > 24 {
		t.Errorf("case file %+v", file)
	}
}

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	tests := map[string]time.Time{
		"2h": now.Add(-2 * time.Hour), "7d": now.AddDate(0, 0, -7), "2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05+02:00": time.Date(2026, 1, 2, 1, 4, 5, 0, time.UTC),
	}
	for text, want := range tests {
		if got, err := parseMoment("--since", &text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-2h", "0", "0s", "0d", "-1d", "1.5d", "d", "99999d", "2", "yesterday", "2026-01-02", "2026-13-02T03:04:05Z", "9999999h", "\x1b"} {
		if got, err := parseMoment("--since", &text, now); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

// The list of choices, for completion, is the closed list.
func TestReasonChoices(t *testing.T) {
	_, script, _ := runCommand(t, nil, "completion", "bash")
	for _, reason := range deadletter.Reasons() {
		if !strings.Contains(script, " "+string(reason)) && !strings.Contains(script, "'"+string(reason)) {
			t.Errorf("completion lacks the reason %s", reason)
		}
	}
}

func TestEscapes(t *testing.T) {
	tests := []struct{ text, escaped, json string }{
		{"plain ~ naïve 漢 ½", "plain ~ naïve 漢 ½", `"plain ~ naïve 漢 ½"`},
		{"a\x1b\x7f", `a\x1b\x7f`, `"a\u001b\u007f"`},
		{"\u009b", `\u009b`, `"\u009b"`},
		{"\u202e\u2028\u200b", `\u202e\u2028\u200b`, `"\u202e\u2028\u200b"`},
		{"\U000e0041", `\U000e0041`, `"\udb40\udc41"`},
		{"\xff", `\xff`, `"\ufffd"`},
	}
	for _, tt := range tests {
		if got := escapeText(tt.text); got != tt.escaped {
			t.Errorf("escapeText(%q) = %q, want %q", tt.text, got, tt.escaped)
		}
		var b strings.Builder
		if err := writeJSONLine(&b, tt.text); err != nil || b.String() != tt.json+"\n" {
			t.Errorf("JSON of %q is %q, want %q", tt.text, b.String(), tt.json)
		}
	}
	if got := cell("abcdef", 4); got != "abc…" {
		t.Errorf("cell %q", got)
	}
}
