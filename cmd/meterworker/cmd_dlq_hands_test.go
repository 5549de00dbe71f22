package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// trail is what the audit trail holds.
func (o *testOutbox) trail() []audit.Record {
	o.t.Helper()
	trail, err := audit.Open(o.t.Context(), o.js)
	if err != nil {
		o.t.Fatal(err)
	}
	var records []audit.Record
	if err := trail.Each(o.t.Context(), audit.Filter{}, false, func(r audit.Record) error { records = append(records, r); return nil }); err != nil {
		o.t.Fatal(err)
	}
	return records
}

// script is a program that stands in for an editor.
func script(t *testing.T, commands string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "editor with a blank")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+commands+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return "'" + path + "'"
}

// with runs a command line with an environment of its own.
func (o *testOutbox) with(env environment, args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	env["NATS_URL"] = o.url
	return runCommand(o.t, env, args...)
}

func TestDLQEdit(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.InvalidValue), strings.Replace(eventBody, "3}", `"3.5"}`, 1))
	code, stdout, stderr := o.run(nil, "dlq", "edit", "1", "--set", "payload.value=4", "--set", "payload.note=x", "--dry-run")
	if code != 0 || stdout != "" {
		t.Errorf("dry run: exit %d, %q", code, stdout)
	}
	containsAll(t, stderr, []string{"+ payload.note: \"x\"\n- payload.value: \"3.5\"\n+ payload.value: 4\non usage.replay.api_calls.cus_1\n"})
	o.holds(0, 1)
	if n := len(o.trail()); n != 0 {
		t.Errorf("a dry run left %d records", n)
	}
	code, stdout, _ = o.run(nil, "dlq", "edit", "1", "--set", "payload.value=4", "--yes", "--why", "half a call", "--actor", "ann")
	if code != 0 || stdout != "1: replayed sequence=1 identifier=req-1\n" {
		t.Errorf("exit %d, %q", code, stdout)
	}
	o.holds(1, 0)
	if body := string(o.message(1).Data); body != strings.Replace(eventBody, "3}", "4}", 1) {
		t.Errorf("stored %s", body)
	}
	records := o.trail()
	if len(records) != 2 || records[0].Who.Actor != "ann" || records[0].Who.User != whoami() || records[0].Why != "half a call" ||
		records[0].Letters[0].Before != "req-1" || records[0].Changes["payload.value"] != (audit.Change{From: `"3.5"`, To: "4"}) ||
		records[1].Letters[0].Outcome != "replayed" || records[1].Letters[0].Published != 1 {
		t.Errorf("records %+v", records)
	}
}

func TestDLQEditRefuses(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	unknown := deadLetter(deadletter.ServerError)
	unknown.Outcome = deadletter.Unknown
	o.bury(unknown, eventBody)
	tests := []struct {
		args string
		code int
		want string
	}{
		{"1 --set payload.value=4", exitUsage, "there is no terminal to ask on"},
		{"1 --set value=4 --yes", exitUsage, `"value" is no field`},
		{"x --set payload.value=4 --yes", exitUsage, "is no id of a dead letter"},
		{"1 --yes", exitFailed, "neither VISUAL nor EDITOR is set"},
		{"1 --yes --set payload.value=4.5", exitFailed, "would die again: meter_event_invalid_value"},
		{"1 --yes --set payload.value=3", exitFailed, "nothing was changed"},
		{"1 --yes --unset payload.nope", exitFailed, "there is no payload.nope"},
		{"1 --yes --set identifier=other", exitFailed, "not for editing"},
		{"2 --yes --set payload.value=4", exitFailed, "--accept-double-billing"},
		{"9 --yes --set payload.value=4", exitFailed, "dead letter 9: not found"},
	}
	for _, tt := range tests {
		code, stdout, stderr := o.run(nil, append([]string{"dlq", "edit"}, strings.Fields(tt.args)...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit %d, %q, %q, want %d and %q", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
	}
	o.holds(0, 2)
	if n := len(o.trail()); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
	// The risk taken, under an identifier of its own.
	code, stdout, stderr := o.run(nil, "dlq", "edit", "2", "--yes", "--set", "payload.value=4", "--accept-double-billing")
	if code != 0 || !strings.Contains(stdout, "identifier=req-1~r1") || !strings.Contains(stderr, "- (billed as): req-1\n+ (billed as): req-1~r1\n") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestDLQEditInAnEditor(t *testing.T) {
	for _, tt := range []struct {
		name, body, editor string
		code               int
		want               string // in what is stored, or in the error
	}{
		{"value", eventBody, `sed -i 's/: 3/: 4/' "$1"`, 0, `"value":4}}`},
		{"from scratch", "\xff\x00", `printf '%s\n' '` + eventBody + `' > "$1"`, 0, eventBody},
		{"left as it is", eventBody, "true", exitFailed, "nothing was changed"},
		{"emptied", eventBody, `: > "$1"`, exitFailed, "would die again: undecodable"},
		{"failed", eventBody, "exit 3", exitFailed, "and nothing was done: exit status 3"},
		{"readable by others", eventBody, `case "$(stat -c %a "$1")$(stat -c %a "$(dirname "$1")")" in 600700) exit 4;; esac`, exitFailed, "exit status 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newTestOutbox(t)
			l := deadLetter(deadletter.Rejected)
			if tt.body != eventBody {
				l.Reason, l.Identifier, l.Timestamp = deadletter.Undecodable, "", 0
			}
			o.bury(l, tt.body)
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			code, _, stderr := o.with(environment{"EDITOR": "false", "VISUAL": script(t, tt.editor)}, "dlq", "edit", "1", "--yes")
			if code != tt.code {
				t.Fatalf("exit %d, %s", code, stderr)
			}
			if code == 0 {
				stderr = string(o.message(1).Data)
			}
			if !strings.Contains(stderr, tt.want) {
				t.Errorf("%q lacks %q", stderr, tt.want)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// An edit that died before it took its letter out may be stored: a replay of the letter
// under the old identifier would count beside it.
func TestDLQReplayAfterAnEditThatDied(t *testing.T) {
	o := newTestOutbox(t)
	conflict := deadLetter(deadletter.ServerError)
	conflict.Outcome = deadletter.Unknown
	o.bury(conflict, eventBody)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	trail, err := audit.Open(t.Context(), o.js)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []audit.Letter{{ID: 1, Sequence: 1, Before: "req-1", After: "req-1~r1"}, {ID: 2, Sequence: 2, Before: "req-1", After: "req-1"}} {
		if err := trail.Begin(audit.Edit, audit.Who{Actor: "ann"}, "", nil).Intent(t.Context(), audit.Record{Letters: []audit.Letter{l}}); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, _ := o.run(nil, "dlq", "replay", "1", "2")
	if code != exitFailed || !strings.Contains(stdout, "1: refused: an edit of it was begun at ") || !strings.Contains(stdout, "by ann and may be stored under the identifier req-1~r1") || !strings.Contains(stdout, "2: replayed") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	o.holds(1, 1)
	if code, stdout, _ = o.run(nil, "dlq", "replay", "1", "--accept-double-billing"); code != 0 {
		t.Errorf("exit %d, %q", code, stdout)
	}
	o.holds(2, 0)
}

func TestDLQDiscard(t *testing.T) {
	o := newTestOutbox(t)
	for range 150 { // more than one part
		o.bury(deadLetter(deadletter.Undecodable), "garbage")
	}
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	for args, want := range map[string]string{
		"--all --yes":                  "--why is missing",
		"--all --yes --why=":           "--why is missing",
		"--reason undecodable --why=x": "no terminal to ask on",
		"--why=x --yes":                "nothing is selected",
	} {
		if code, stdout, stderr := o.run(nil, append([]string{"dlq", "discard"}, strings.Fields(args)...)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q", args, code, stderr)
		}
	}
	if code, stdout, _ := o.run(nil, "dlq", "discard", "--all", "--dry-run"); code != 0 || strings.Count(stdout, ": would discard identifier=") != 151 {
		t.Errorf("dry run: exit %d, %q", code, stdout)
	}
	o.holds(0, 151)
	code, stdout, stderr := o.run(nil, "dlq", "discard", "--reason", "undecodable", "--yes", "--why", "a load test")
	if code != 0 || strings.Count(stdout, ": discarded identifier=") != 150 || !strings.Contains(stderr, "discarded 150, refused 0") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	o.holds(0, 1)
	records := o.trail()
	if len(records) != 4 || len(records[0].Letters) != audit.PartSize || records[0].Total != 150 || records[0].Why != "a load test" ||
		records[0].Letters[7].ID != 8 || records[0].Letters[7].Body != audit.Digest([]byte("garbage")) || records[3].Counts["discarded"] != 50 {
		t.Errorf("%d records, %+v", len(records), records[0])
	}
	if code, stdout, _ := o.run(nil, "dlq", "discard", "1", "151", "--why", "x"); code != exitFailed || !strings.Contains(stdout, "1: not found") || !strings.Contains(stdout, "151: discarded") {
		t.Errorf("named: exit %d, %q", code, stdout)
	}
	o.holds(0, 0)
}

// Whatever cannot be recorded is not done.
func TestNothingIsDoneWithoutARecord(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	_, kept, _ := o.run(nil, "dlq", "export")
	kept = strings.NewReplacer(`-1-rejected`, `-9-rejected`, `"Meterworker-Sequence":["1"]`, `"Meterworker-Sequence":["9"]`).Replace(kept)
	commands := []string{"dlq replay 1", "dlq replay --all --yes", "dlq discard 1 --why x", "dlq edit 1 --yes --set payload.value=4", "dlq import", "pause", "resume"}
	deny := func(wants string) {
		t.Helper()
		for _, line := range commands {
			code, stdout, stderr := o.run(strings.NewReader(kept), strings.Fields(line)...)
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, wants) {
				t.Errorf("%s: exit %d, %q, %q", line, code, stdout, stderr)
			}
		}
		o.holds(0, 1)
		if orders := o.orders(); orders.Paused || orders.Resumed > 0 {
			t.Errorf("orders %+v", orders)
		}
	}
	stream, err := o.js.Stream(t.Context(), outbox.AuditStream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgSize = 10
	if _, err := o.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	deny("nothing was done, since it cannot be recorded")
	if err := o.js.DeleteStream(t.Context(), outbox.AuditStream); err != nil {
		t.Fatal(err)
	}
	deny("stream USAGE_AUDIT does not exist")
	// To look at letters no record is needed.
	for _, line := range []string{"dlq list", "dlq show 1", "dlq export", "dlq replay 1 --dry-run", "dlq discard 1 --dry-run", "dlq edit 1 --dry-run --set payload.value=4"} {
		if code, _, stderr := o.run(nil, strings.Fields(line)...); code != 0 {
			t.Errorf("%s: exit %d, %q", line, code, stderr)
		}
	}
}

func TestDLQExportAndImport(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	o.bury(deadLetter(deadletter.Undecodable), "\xff\x00raw")
	code, lines, stderr := o.run(nil, "dlq", "export")
	if code != 0 || strings.Count(lines, "\n") != 2 || stderr != "" {
		t.Fatalf("exit %d, %q, %q", code, lines, stderr)
	}
	var letter exportObject
	if err := json.Unmarshal([]byte(strings.Split(lines, "\n")[1]), &letter); err != nil || letter.ID != 2 || letter.Base64 != "/wByYXc=" || letter.Body != "" || letter.Outcome != "refused" {
		t.Errorf("%+v, %v", letter, err)
	}
	path := filepath.Join(t.TempDir(), "letters.jsonl")
	if err := os.WriteFile(path, []byte(lines+"\n{}\nnot json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The stream is lost and made anew.
	if err := o.js.DeleteStream(t.Context(), outbox.DLQStream); err != nil {
		t.Fatal(err)
	}
	settings := outbox.Settings{Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second}
	var err error
	if o.streams, err = outbox.Open(t.Context(), o.js, settings); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"--dry-run", "would import 2, already there 0, refused 2, failed 0"},
		{"", "imported 2, already there 0, refused 2, failed 0"},
		{"", "imported 0, already there 2, refused 2, failed 0"},
	} {
		code, stdout, stderr := o.run(nil, append([]string{"dlq", "import", path}, strings.Fields(tt.args)...)...)
		if code != exitFailed || !strings.Contains(stderr, tt.want) || !strings.Contains(stdout, "line 4: refused: it is no exported letter: headers or body_base64 is missing") {
			t.Errorf("exit %d, %q, %q, want %q", code, stdout, stderr, tt.want)
		}
	}
	if _, again, _ := o.run(nil, "dlq", "export"); again != lines {
		t.Errorf("exported again:\n%s\nwant\n%s", again, lines)
	}
	records := o.trail()
	if len(records) != 2 || records[0].Action != audit.Import || len(records[0].Letters) != 2 || records[1].Counts["imported"] != 2 {
		t.Errorf("records %+v", records)
	}
}
