package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

// worker shows itself as one that owns the partitions.
func (o *testOutbox) worker(name string, shows outbox.Showing, owns ...int) *outbox.Members {
	o.t.Helper()
	m, err := o.streams.Members(o.t.Context(), name)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, p := range owns {
		m.Owns(p, true)
	}
	m.Shows(shows)
	if err := m.Beat(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	return m
}

// status runs the command for JSON.
func (o *testOutbox) status(args ...string) (s status, code int) {
	o.t.Helper()
	code, stdout, stderr := o.run(nil, append([]string{"status", "-o", "json", "--over", "1ms"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		o.t.Fatalf("exit %d, %q, %q: %v", code, stdout, stderr, err)
	}
	return s, code
}

func (o *testOutbox) publish(subject string, n int) {
	o.t.Helper()
	for range n {
		if _, err := o.js.Publish(o.t.Context(), subject, []byte(eventBody)); err != nil {
			o.t.Fatal(err)
		}
	}
}

// An idle fleet, one that nobody serves, and one with a backlog look different.
func TestStatusReadsTheOutbox(t *testing.T) {
	o := newTestOutbox(t)
	if s, code := o.status(); s.Verdict != verdictNoWorkers || code != exitFailed || len(s.Unowned) != 4 || len(s.Why) != 1 {
		t.Errorf("without workers: exit %d, %+v", code, s)
	}
	closed := outbox.Showing{State: delivery.StateClosed, Rate: 12.5, Held: 1, Ledger: 10, LedgerOf: 100}
	a := o.worker("a", closed, 0, 1)
	o.worker("b", outbox.Showing{State: delivery.StateClosed}, 2, 3)
	if s, code := o.status(); s.Verdict != verdictIdle || code != 0 || len(s.Unowned) != 0 || s.Backlog.Pending != 0 {
		t.Errorf("idle: exit %d, %+v", code, s)
	}
	o.publish("usage.events.api_calls.cus_1", 3)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	o.bury(deadLetter(deadletter.Ambiguous), eventBody)
	kv, err := o.streams.Control(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Minute).UTC()
	record := `{"configured":50,"rate":40,"next":"2026-01-01T00:00:00Z","paused":"` + until.Format(time.RFC3339) + `","epoch":"e"}`
	if _, err := kv.Put(t.Context(), "bucket", []byte(record)); err != nil {
		t.Fatal(err)
	}
	s, code := o.status()
	if s.Verdict != verdictDelivering || code != 0 || s.Mode != "test" || s.Partitions != 4 {
		t.Errorf("exit %d, %+v", code, s)
	}
	if b := s.Backlog; b.Pending != 3 || b.Ready != 3 || b.InHand != 0 || b.InBackOff != 0 || b.OldestAt == "" || b.OldestSeconds > 60 {
		t.Errorf("backlog %+v", b)
	}
	if l := s.DeadLetters; l.Total != 2 || l.ByReason["rejected"] != 1 || l.ByReason["ambiguous"] != 1 {
		t.Errorf("dead letters %+v", l)
	}
	if r := s.Rate; r.Configured != 50 || r.InForce != 40 || r.Used != 12.5 || r.PausedUntil != until.Format(time.RFC3339) {
		t.Errorf("rate %+v", r)
	}
	if w := s.Workers; len(w) != 2 || w[0].Name != "a" || !slices.Equal(w[0].Partitions, []int{0, 1}) || w[0].Rate != 12.5 || w[0].LedgerMaxBytes != 100 {
		t.Errorf("workers %+v", w)
	}
	if names := streamNames(s); !slices.Equal(names, []string{"USAGE", "USAGE_JOURNAL", "USAGE_DLQ", "USAGE_AUDIT"}) || s.Streams[0].MaxBytes <= 0 || s.Streams[0].Messages != 3 {
		t.Errorf("streams %+v", s.Streams)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, code = o.status(); s.Verdict != verdictUnowned || code != exitFailed || !slices.Equal(s.Unowned, []int{0, 1}) {
		t.Errorf("after a left: exit %d, %+v", code, s)
	}
}

func streamNames(s status) []string {
	var names []string
	for _, stream := range s.Streams {
		names = append(names, stream.Name)
	}
	return names
}

// What was handed out is in hand or in back-off, by what the workers say to hold.
func TestStatusTellsBackOffFromInHand(t *testing.T) {
	o := newTestOutbox(t)
	o.publish("usage.events.api_calls.cus_1", 5)
	taken := 0
	for p := range 4 {
		part, err := o.streams.Partition(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if err := part.Fetch(3, func(*outbox.Message) { taken++ }); err != nil {
			t.Fatal(err)
		}
	}
	o.worker("a", outbox.Showing{State: delivery.StateClosed, Held: 1}, 0, 1, 2, 3)
	s, _ := o.status()
	if want := (statusBacklog{Pending: 5, Ready: 2, InHand: 1, InBackOff: 2}); taken != 3 || s.Backlog.Pending != want.Pending || s.Backlog.Ready != want.Ready ||
		s.Backlog.InHand != want.InHand || s.Backlog.InBackOff != want.InBackOff {
		t.Errorf("%d taken, backlog %+v, want %+v", taken, s.Backlog, want)
	}
}

func TestStatusShowsAPause(t *testing.T) {
	o := newTestOutbox(t)
	o.worker("a", outbox.Showing{State: delivery.StatePaused}, 0, 1, 2, 3)
	o.run(nil, "pause", "--why", "an invoice run", "--timeout", "1s")
	s, code := o.status()
	if s.Verdict != verdictPaused || code != exitFailed || !s.Orders.Paused || s.Orders.Why != "an invoice run" || s.Orders.By == "" || s.Orders.At == "" {
		t.Errorf("exit %d, %+v", code, s)
	}
}

// A journal that was deleted halts the fleet: the verdict says so, with the remedy.
func TestStatusShowsABrokenStream(t *testing.T) {
	o := newTestOutbox(t)
	o.worker("a", outbox.Showing{State: delivery.StateClosed}, 0, 1, 2, 3)
	watch := o.streams.Continuity()
	if err := watch.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := watch.Note(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.js.DeleteStream(t.Context(), outbox.JournalStream); err != nil {
		t.Fatal(err)
	}
	s, code := o.status()
	if s.Verdict != verdictHalted || code != exitFailed || len(s.ToDeclare) != 1 || !strings.Contains(s.Why[0], "accept-restored --stream USAGE_JOURNAL") {
		t.Errorf("exit %d, %+v", code, s)
	}
	if names := streamNames(s); !slices.Equal(names, []string{"USAGE", "USAGE_DLQ", "USAGE_AUDIT"}) {
		t.Errorf("streams %v", names)
	}
}

// The fields are a contract: docs/status.md has every one of them and no other.
func TestStatusFieldsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "## Fields")
	if !ok {
		t.Fatal("docs/status.md has no section of fields")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, match[1])
	}
	l := sight(waits(5, 3, time.Hour), later(2*time.Second, 120))
	l.Sizes, l.Letters = []outbox.Size{{Stream: "USAGE"}}, map[deadletter.Reason]int{}
	text, err := json.Marshal(newStatus(sight(waits(9, 0, time.Hour)), l))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	existing := fieldsOf("", object)
	slices.Sort(documented)
	slices.Sort(existing)
	if !slices.Equal(documented, existing) {
		t.Errorf("documented %q\nexisting   %q", documented, existing)
	}
	for _, v := range verdicts {
		if !strings.Contains(string(page), "| `"+string(v.word)+"` |") {
			t.Errorf("docs/status.md lacks the verdict %s", v.word)
		}
	}
}

// fieldsOf names the fields as jq does: a.b, a[].b.
func fieldsOf(prefix string, object map[string]any) []string {
	var fields []string
	for name, value := range object {
		fields = append(fields, prefix+name)
		switch v := value.(type) {
		case map[string]any:
			fields = append(fields, fieldsOf(prefix+name+".", v)...)
		case []any:
			if len(v) > 0 {
				if element, ok := v[0].(map[string]any); ok {
					fields = append(fields, fieldsOf(prefix+name+"[].", element)...)
				}
			}
		}
	}
	return fields
}

// frames cancels after so many writes.
type frames struct {
	text strings.Builder
	left int
	end  context.CancelFunc
}

func (f *frames) Write(b []byte) (int, error) {
	if f.left--; f.left == 0 {
		f.end()
	}
	return f.text.Write(b)
}

func TestStatusWatch(t *testing.T) {
	o := newTestOutbox(t)
	o.worker("a", outbox.Showing{State: delivery.StateClosed}, 0, 1, 2, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &frames{left: 2, end: cancel}
	code, stderr := o.until(ctx, nil, out, "status", "--watch=500ms", "-o", "json")
	if lines := strings.Count(out.text.String(), "\n"); code != 0 || stderr != "" || lines != 2 {
		t.Fatalf("exit %d, %q, %d lines", code, stderr, lines)
	}
	first, second, _ := strings.Cut(out.text.String(), "\n")
	if !strings.Contains(first, `"flow":null`) || !strings.Contains(second, `"flow":{"over_seconds":`) {
		t.Errorf("%s\n%s", first, second)
	}
}

func TestStatusBadUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--watch=1ms"}, exitUsage, `"1ms" is no duration from 500ms up`},
		{[]string{"--watch=often"}, exitUsage, `"often" is no duration`},
		{[]string{"--over", "2m"}, exitUsage, "--over=2m0s is not from 0s to 1m"},
		{[]string{"--watch", "2s"}, exitUsage, "unexpected argument 2s"},
		{nil, exitFailed, "nats://127.0.0.1:1"},
	} {
		code, out, stderr := runCommand(t, environment{"NATS_URL": "nats://127.0.0.1:1"}, append([]string{"status"}, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit %d, %q, want %d and %q", tt.args, code, stderr, tt.code, tt.want)
		}
	}
}
