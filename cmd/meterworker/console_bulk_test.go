package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// The page says of each reason how many there are and what will be refused; the run does
// that and leaves what died since.
func TestConsoleBulk(t *testing.T) {
	o := newTestOutbox(t)
	for i := range 5 {
		l := deadLetter(deadletter.Rejected)
		l.Identifier = fmt.Sprintf("req-%d", i)
		o.bury(l, strings.Replace(eventBody, "req-1", l.Identifier, 1))
	}
	o.bury(deadLetter(deadletter.Ambiguous), eventBody)
	o.bury(deadLetter(deadletter.InvalidValue), eventBody)
	c := o.console()
	page := c.must("GET", "/dead-letters/replay", nil, 200)
	for _, want := range []string{"Replay 7 dead letters?", "Stripe may have counted it", "it will die again with the reason meter_event_invalid_value"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	form := c.confirmed("/dead-letters/replay?q=REQ-")
	late := deadLetter(deadletter.Rejected)
	late.Identifier = "req-late"
	o.bury(late, strings.Replace(eventBody, "req-1", "req-late", 1))
	r := c.deed(form, url.Values{"actor": {"ann"}, "why": {"mended"}, "rate": {"10000"}}, nil)
	if r.Selected != 7 || r.Done != 7 || r.count("replayed") != 5 || r.count("refused") != 2 || len(r.Letters) != 2 {
		t.Errorf("run %+v", r)
	}
	o.holds(5, 3)
	intent, result := c.checkTrail(audit.Replay, "mended")
	if intent.Total != 7 || len(intent.Letters) != 5 || result.Counts["replayed"] != 5 || result.Counts["refused"] != 2 {
		t.Errorf("records %+v %+v", intent, result)
	}
	r = c.deed(c.confirmed("/dead-letters/discard?customer=cus_1"), url.Values{"actor": {"ann"}, "why": {"a test"}}, nil)
	if r.count("discarded") != 3 {
		t.Errorf("run %+v", r)
	}
	o.holds(5, 0)
	c.checkTrail(audit.Discard, "a test")
	if page := c.must("GET", "/audit?action=discard", nil, 200); !strings.Contains(page, "a test") || strings.Contains(page, "mended") {
		t.Errorf("audit %s", page)
	}
}

// A run that is stopped half-way, by a person or by the drain, and begun again: each letter
// is published once, and no two of them as one.
func TestConsoleBulkStoppedAndAgain(t *testing.T) {
	o := newTestOutbox(t)
	const many = 1200
	for i := range many {
		l := deadLetter(deadletter.Rejected)
		l.Identifier = fmt.Sprintf("req-%d", i)
		o.bury(l, strings.Replace(eventBody, "req-1", l.Identifier, 1))
	}
	c := o.console()
	some := func(n int) func(runState) bool { return func(r runState) bool { return r.Done >= n } }
	rate := url.Values{"rate": {"10000"}}
	r := c.deed(c.confirmed("/dead-letters/replay"), rate, some(100))
	c.must("POST", "/runs/"+r.ID+"/stop", nil, 303)
	if r = c.await(r.ID, nil); r.State != "stopped" || r.Done == many {
		t.Fatalf("stopped: %+v", r)
	}
	c.deed(c.confirmed("/dead-letters/replay"), rate, some(300))
	c.stop() // returns when nothing runs any more
	left := o.stored(outbox.DLQStream)
	if left == 0 || left+o.stored(outbox.UsageStream) != many {
		t.Errorf("%d letters and %d replays after the drain", left, o.stored(outbox.UsageStream))
	}
	c = o.console()
	if r := c.deed(c.confirmed("/dead-letters/replay"), rate, nil); r.count("replayed") != int(left) {
		t.Errorf("the rest: %+v", r)
	}
	o.holds(many, 0)
	seen := map[string]int{}
	for sequence := range uint64(many) {
		seen[o.message(sequence+1).Header.Get(deadletter.HeaderIdentifier)]++
	}
	if len(seen) != many {
		t.Errorf("%d identifiers, want %d", len(seen), many)
	}
	named := map[uint64]string{}
	for _, record := range o.trail() {
		for _, l := range record.Letters {
			if record.Stage == audit.Result && l.Outcome != "not_begun" {
				named[l.ID] = l.Outcome
			}
		}
	}
	if len(named) != many {
		t.Errorf("the trail tells the outcome of %d letters, want %d", len(named), many)
	}
}

// Both forms of a list say the same, and so do the case file and the trail.
func TestConsoleAPIIsTheCommands(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	o.bury(deadLetter(deadletter.Undecodable), "\xff<b>")
	o.run(nil, "dlq", "replay", "1")
	c := o.console()
	for target, line := range map[string]string{
		"/api/dead-letters": "dlq list -o json", "/api/dead-letters/groups": "dlq list --groups -o json", "/api/audit": "audit -o json",
		"/api/dead-letters?reason=undecodable&since=1h": "dlq list --reason undecodable --since 1h -o json",
	} {
		_, want, _ := o.run(nil, strings.Fields(line)...)
		got := c.must("GET", target, nil, 200)
		if a, b := objects(t, got), objects(t, want); !slices.Equal(a, b) || len(a) == 0 {
			t.Errorf("%s: %q, want %q", target, a, b)
		}
	}
	var status, byCommand map[string]any
	_, text, _ := o.run(nil, "status", "--over", "0s", "-o", "json")
	if err := json.Unmarshal([]byte(text), &byCommand); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(c.must("GET", "/api/status", nil, 200)), &status); err != nil {
		t.Fatal(err)
	}
	for name := range byCommand {
		if _, found := status[name]; !found {
			t.Errorf("the API's status lacks %s", name)
		}
	}
	if status["verdict"] != "no_workers" {
		t.Errorf("status %v", status)
	}
}

// objects are JSON lines, each in one form, sorted.
func objects(t *testing.T, lines string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(lines) {
		var object any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	slices.Sort(all)
	return all
}

// A server that is away is said to be, within seconds; the overview says what is unknown.
func TestConsoleWithoutNATS(t *testing.T) {
	o := newTestOutbox(t)
	o.url = "nats://127.0.0.1:1"
	c := o.console()
	if page := c.must("GET", "/", nil, 200); !strings.Contains(page, "unknown") || !strings.Contains(page, "nats://127.0.0.1:1") {
		t.Errorf("page %s", page)
	}
	c.must("GET", "/dead-letters", nil, 502)
	c.must("GET", "/dead-letters/1", nil, 502)
	c.must("POST", "/pause", url.Values{"why": {"x"}}, 502)
}
