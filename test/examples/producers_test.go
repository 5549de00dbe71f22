package examples

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// producer is an example that tests run.
type producer struct {
	name    string
	command string
}

// producers are the programs, each with the command of the page.
func producers(t *testing.T) []producer {
	t.Helper()
	installed(t)
	var found []producer
	for _, example := range []producer{{"go", "./examples/go"}, {"node", "node examples/node"}, {"python", "python3 examples/python"}} {
		for _, b := range blocks(t, page(t)) {
			if b.mark == "run" && strings.Contains(b.text, example.command) {
				found = append(found, producer{example.name, b.prepared(t)})
			}
		}
	}
	if len(found) != 3 {
		t.Fatalf("the page has the commands %q, want one of each example", found)
	}
	return found
}

// prepared runs all lines of a block but the last, once, and returns the last, which runs the
// program, without its input.
func (b block) prepared(t *testing.T) string {
	t.Helper()
	text := strings.TrimSuffix(b.text, "\n")
	before, last := text[:strings.LastIndex(text, "\n")+1], text[strings.LastIndex(text, "\n")+1:]
	if before != "" && !done[before] {
		if got := run(t, "", before, ""); got.code != 0 {
			t.Fatalf("exit %d of %s\n%s", got.code, before, got.stderr)
		}
		done[before] = true
	}
	return strings.TrimSuffix(last, " < requests.jsonl")
}

// done are the preparations that have run.
var done = map[string]bool{}

// installed fails without a program that the page uses.
func installed(t *testing.T) {
	t.Helper()
	needs(t, "node", "nodejs npm")
	needs(t, "npm", "nodejs npm")
	needs(t, "python3", "python3")
	needs(t, "sha256sum", "coreutils")
}

// line is a request of the log.
func line(t *testing.T, fields map[string]any) string {
	t.Helper()
	request := map[string]any{"meter": "api_calls", "customer": "cus_123", "units": 1, "region": "eu", "at": time.Now().UTC().Format(time.RFC3339)}
	maps.Copy(request, fields)
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// A user's day with each example: usage of odd customers, at other times, taken back; the
// same log once more; mistakes, found before they are stored; another content.
func TestProducers(t *testing.T) {
	w := newWorld(t)
	stored := uint64(0)
	for _, p := range producers(t) {
		t.Run(p.name, func(t *testing.T) {
			stored = w.day(t, p, stored)
		})
	}
}

// day returns the last sequence in use.
func (w *world) day(t *testing.T, p producer, before uint64) uint64 {
	t.Helper()
	yesterday := time.Now().Add(-25 * time.Hour).Truncate(time.Second)
	id := func(name string) string { return p.name + "-" + name }
	good := line(t, map[string]any{"request": id("plain"), "units": 1024, "at": yesterday.UTC().Format(time.RFC3339)}) +
		line(t, map[string]any{"request": id("dotted"), "customer": "cus_x.y", "units": 2}) +
		line(t, map[string]any{"request": id("odd"), "customer": "ümläut *>", "meter": "api.calls v2", "units": 3}) +
		line(t, map[string]any{"request": id(`"quoted\" &=[]`), "customer": "😀", "units": 4, "region": `a"b\c`}) +
		line(t, map[string]any{"request": id("back"), "units": -1024, "at": yesterday.In(time.FixedZone("", 19800)).Format(time.RFC3339)})
	first := run(t, w.nats.ClientURL(), p.command, good)
	compare(t, first, 0, "stored sequence=%d identifier=", before, 5)
	again := run(t, w.nats.ClientURL(), p.command, good)
	compare(t, again, 0, "duplicate of sequence %d", before, 5)

	mistakes := w.mistakes(t, p, id)
	compare(t, run(t, w.nats.ClientURL(), p.command, line(t, map[string]any{"request": id("dotted"), "customer": "cus_x.y", "units": 20})),
		0, "stored sequence=%d identifier=", before+5, 1)
	w.settled()

	requests := w.stripe.requests(t)
	for identifier, want := range map[string]string{
		id("plain"):          fmt.Sprint("api_calls|cus_123|1024|eu|", yesterday.Unix()),
		id("dotted"):         "api_calls|cus_x.y|2|eu|",
		id("odd"):            "api.calls v2|ümläut *>|3|eu|",
		id(`"quoted\" &=[]`): `api_calls|😀|4|a"b\c|`,
		id("back"):           fmt.Sprint("api_calls|cus_123|-1024|eu|", yesterday.Unix()),
	} {
		form := requests[identifier]
		got := strings.Join([]string{
			form.Get("event_name"), form.Get("payload[stripe_customer_id]"), form.Get("payload[value]"), form.Get("payload[region]"), form.Get("timestamp"),
		}, "|")
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: sent %s, want %s", identifier, got, want)
		}
	}
	for _, identifier := range mistakes {
		if form, sent := requests[identifier]; sent {
			t.Errorf("%s was sent: %v", identifier, form)
		}
	}
	if reason := w.letters()[id("dotted")]; reason != "identifier_conflict" {
		t.Errorf("other content under %s has the reason %q, want identifier_conflict", id("dotted"), reason)
	}
	w.books(t, before)
	return before + 6
}

// books compares what is stored, billed and buried: six more are stored, five more billed.
func (w *world) books(t *testing.T, before uint64) {
	t.Helper()
	stream, err := w.js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	days := int(before/6) + 1
	if got, want := int(stream.CachedInfo().State.LastSeq), 6*days; got != want {
		t.Errorf("%d messages are stored, want %d", got, want)
	}
	if totals := w.stripe.Totals(); int(totals.Counted) != 5*days || totals.Duplicates != 0 {
		t.Errorf("counted %d, duplicates %d, want %d and none", totals.Counted, totals.Duplicates, 5*days)
	}
	if letters := w.letters(); len(letters) != days {
		t.Errorf("dead letters %v, want %d", letters, days)
	}
}

// mistakes publishes requests that are no usage and returns their identifiers.
func (w *world) mistakes(t *testing.T, p producer, id func(string) string) (identifiers []string) {
	t.Helper()
	var log strings.Builder
	var reasons []string
	add := func(reason string, fields map[string]any) {
		name := fmt.Sprintf("mistake %d", len(reasons))
		if _, given := fields["request"]; !given {
			fields["request"] = id(name)
		}
		log.WriteString(line(t, fields))
		reasons = append(reasons, reason)
		identifiers = append(identifiers, fmt.Sprint(fields["request"]))
	}
	add("meter_event_invalid_value", map[string]any{"units": int64(1_000_000_000_000_000)})
	add("meter_event_no_customer_defined", map[string]any{"customer": ""})
	add("invalid_payload", map[string]any{"customer": "cus\n1"})
	add("invalid_event_name", map[string]any{"meter": strings.Repeat("m", 101)})
	add("invalid_identifier", map[string]any{"request": strings.Repeat("i", 256)})
	add("timestamp_too_far_in_past", map[string]any{"at": time.Now().Add(-36 * 24 * time.Hour).UTC().Format(time.RFC3339)})
	add("timestamp_in_future", map[string]any{"at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
	add("", map[string]any{"request": ""})
	add("", map[string]any{"at": nil})
	add("", map[string]any{"units": 1.5})

	got := run(t, w.nats.ClientURL(), p.command, log.String()+"no JSON\n")
	if got.code == 0 || len(got.lines) != len(reasons)+1 {
		t.Fatalf("exit %d, %q, want a failure and %d lines", got.code, got.lines, len(reasons)+1)
	}
	for i, reason := range append(reasons, "") {
		if want := fmt.Sprintf("line %d: error: %s", i+1, reason); !strings.HasPrefix(got.lines[i], want) {
			t.Errorf("printed %q, want %q…", got.lines[i], want)
		}
	}
	return identifiers
}

// compare checks n lines, each with its own sequence after the given one.
func compare(t *testing.T, got outcome, code int, format string, before uint64, n int) {
	t.Helper()
	if got.code != code || len(got.lines) != n {
		t.Fatalf("exit %d, %d lines, want %d and %d\n%q\n%s", got.code, len(got.lines), code, n, got.lines, got.stderr)
	}
	for i, printed := range got.lines {
		want := fmt.Sprintf("line %d: "+format, i+1, before+uint64(i)+1)
		if !strings.HasPrefix(printed, want) {
			t.Errorf("printed %q, want %q…", printed, want)
		}
	}
}
