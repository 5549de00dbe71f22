package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// hostileTexts are what a producer, Stripe or a file name may say to a terminal.
var hostileTexts = []string{
	"", "plain", hostile, "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\u009b31m", "\u202eexe.txt", "\u2066\u2069", "\u200b\ufeff",
	"\xff\xfe", "a\rb\nc\td", "\U000e0041", "=HYPERLINK(\"http://x\")", "\x7f\x08", "--help", "-", "\u2028", "\x00",
	"sk_live_" + hidden, `{"a":"\u001b[2J"}`, "{\"a\":\"\u202e\"}", strings.Repeat("[", 100),
}

// wantPlain fails unless a terminal shows the text and does nothing else.
func wantPlain(t *testing.T, what, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 || !json.Valid(mustJSON(t, text)) {
		t.Errorf("%s drives the terminal: %q", what, text[max(i, 0):])
	}
	if strings.Contains(text, hidden) {
		t.Errorf("%s shows a secret: %q", what, text)
	}
}

func mustJSON(t *testing.T, text string) []byte {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever stands in a dead letter, no form in which it is printed drives a terminal.
func FuzzTerminalLetters(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text, []byte(text), 400, uint64(7))
	}
	f.Add("req-1", []byte(eventBody), 0, uint64(0))
	f.Fuzz(func(t *testing.T, text string, body []byte, status int, id uint64) {
		if strings.Contains(text+string(body), hidden) {
			return // letters hold no keys; their bodies are shown as they are
		}
		l := replay.Letter{
			Letter: deadletter.Letter{
				Reason: deadletter.Reason(text), Outcome: deadletter.Outcome(text), Detail: text, Code: text, Status: status,
				RequestID: text, Subject: text, Identifier: text, Episode: text, Timestamp: int64(status), DeadAt: time.Unix(int64(status), 0),
			},
			ID: id, Body: body, Header: map[string][]string{text: {text}, "X": {string(body)}}, Fault: errors.New(text),
		}
		var b bytes.Buffer
		lineage := []replay.Ancestor{{Sequence: id, Identifier: text, ReplayOf: id, Edited: true}}
		object := newCaseObject(l, lineage, time.Now())
		err := errors.Join(printLetterRow(&b, l, 1), printLetterJSON(&b, l, 1), printCase(&b, l, lineage, time.Now()), writeJSONLine(&b, object))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(handsOn(t, l, text, id))
		for _, outcome := range []replay.Outcome{
			replay.Replayed, replay.Possible, replay.Refused, replay.Missing, replay.Failed, replay.Discarded, replay.PossibleDiscard,
			replay.Restored, replay.PossibleRestore, replay.Present,
		} {
			b.WriteString(resultText(replay.Result{ID: id, Outcome: outcome, Identifier: text, Detail: text, Duplicate: true}))
		}
		b.WriteString(breakdown(map[deadletter.Reason]int{l.Reason: 1}))
		wantPlain(t, "a dead letter", b.String())
		lines := strings.Split(b.String(), "\n")
		var back caseObject
		if json.Unmarshal([]byte(firstJSON(lines, `"headers"`)), &back) != nil || back.ID != id || back.Base64 != object.Base64 {
			t.Errorf("the object for programs does not come back: %+v", back)
		}
	})
}

// firstJSON is the first line that is an object with the key.
func firstJSON(lines []string, key string) string {
	for _, line := range lines {
		if strings.HasPrefix(line, `{"id":`) && strings.Contains(line, key) {
			return line
		}
	}
	return ""
}

// Whatever a setting, its file or an argument holds, neither a listing nor a refusal
// drives a terminal or shows a secret, and a listing as YAML is read back as it was.
func FuzzTerminalSettings(f *testing.F) {
	ways := len(linesWith("")) + 2
	for _, text := range hostileTexts {
		for way := range ways {
			f.Add(text, uint8(way))
		}
	}
	f.Fuzz(func(t *testing.T, text string, way uint8) {
		switch lines := linesWith(text); int(way) % ways {
		case len(lines):
			fileIsPlain(t, text)
		case len(lines) + 1:
			comesBack(t, text)
		default:
			env := environment{
				"NATS_URL": "nats://127.0.0.1:1", "METERWORKER_DATA_DIR": text, "METERWORKER_RATE": text, "METERWORKER_RAT" + text: "1", "STRIPE_API_KEY": text,
			}
			line := lines[int(way)%ways]
			_, stdout, stderr := runCommand(t, env, line...)
			wantPlain(t, strings.Join(line[:min(2, len(line))], " "), stdout+stderr)
		}
	})
}

// linesWith are command lines with the text in every place that takes one, beside those
// that show the settings. None of them serves or waits, whatever the text is.
func linesWith(text string) [][]string {
	return [][]string{
		{"config", "print"},
		{"config", "print", "-o", "json"},
		{"config", "check"},
		{"config", "check", "-o", "json"},
		{"config", "check", "--without-key", "--config=" + text},
		{"config", "check", "--api=" + text},
		{"config", text},
		{"config", "check", "--" + text},
		{"x" + text},
		{"dlq", "show", "--", "x" + text},
		{"dlq", "list", "--reason=" + text},
		{"dlq", "list", "--since=x" + text},
	}
}

// fileIsPlain has the text in a file of settings, and in its name where it can be one.
func fileIsPlain(t *testing.T, text string) {
	t.Helper()
	name := "settings.yaml"
	if !strings.ContainsAny(text, "/\x00") && len(text) < 100 {
		name = text + name
	}
	path := filepath.Join(t.TempDir(), name)
	pair, err := yaml.Marshal(map[string]string{"rate": text, "x" + text: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{pair, []byte(text), []byte("rate: " + text), []byte(text + ": 1")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, stdout, stderr := runCommand(t, nil, "config", "check", "--without-key", "--config="+path)
		wantPlain(t, "a file of settings", stdout+stderr)
	}
}

func comesBack(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(redact(text), redacted) || text == "" {
		return
	}
	_, stdout, _ := runCommand(t, environment{"METERWORKER_DATA_DIR": text}, "config", "print", "-o", "yaml")
	wantPlain(t, "config print -o yaml", stdout)
	var settings map[string]string
	err := yaml.Unmarshal([]byte(stdout), &settings)
	if got := settings["data-dir"]; err != nil || got != text && strings.ToValidUTF8(text, "") == text {
		t.Errorf("data-dir %q is printed as %q and read as %q, %v", text, stdout, got, err)
	}
}
