package audit

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/internal/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTrail is the trail of an outbox that was just made.
func newTrail(t *testing.T) (*Trail, jetstream.JetStream) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{StoreDir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	conn, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Open(t.Context(), js, outbox.Settings{Mode: "test", Partitions: 2, Replicas: 1, Manage: true, AckWait: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	trail, err := Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return trail, js
}

func (t *Trail) all(tt *testing.T, f Filter) []Record {
	tt.Helper()
	var records []Record
	if err := t.Each(tt.Context(), f, false, func(r Record) error { records = append(records, r); return nil }); err != nil {
		tt.Fatal(err)
	}
	return records
}

var ann = Who{Actor: "ann", User: "root@host", NATSUser: "operator"}

func TestRecordsComeBack(t *testing.T) {
	trail, _ := newTrail(t)
	run := trail.Begin(Edit, ann, "a typo", []string{"dlq", "edit", "7"})
	letter := Letter{ID: 7, Reason: "rejected", Before: "a", After: "a~r1", Body: Digest([]byte("x"))}
	intent := Record{Total: 1, Letters: []Letter{letter}, Changes: map[string]Change{"payload.value": {"1", "2"}}, Note: "n"}
	if err := run.Intent(t.Context(), intent); err != nil {
		t.Fatal(err)
	}
	if err := run.Result(t.Context(), Record{Counts: map[string]int{"replayed": 1}}); err != nil {
		t.Fatal(err)
	}
	got := trail.all(t, Filter{})
	if len(got) != 2 || got[0].Stage != Intent || got[1].Stage != Result || got[0].Run != got[1].Run || got[0].Part != 1 || got[1].Part != 1 {
		t.Fatalf("records %+v", got)
	}
	first := got[0]
	if first.Who != ann || first.Why != "a typo" || !slices.Equal(first.Command, []string{"dlq", "edit", "7"}) || first.Letters[0] != letter ||
		first.Changes["payload.value"] != (Change{"1", "2"}) || first.StoredAt.IsZero() || first.Sequence != 1 || first.Note != "n" {
		t.Errorf("intent %+v", first)
	}
	if got[1].Counts["replayed"] != 1 {
		t.Errorf("result %+v", got[1])
	}
}

func TestFilters(t *testing.T) {
	trail, _ := newTrail(t)
	for _, action := range Actions() {
		who := ann
		if action == Discard {
			who.Actor = "bob"
		}
		if err := trail.Begin(action, who, "", nil).Intent(t.Context(), Record{}); err != nil {
			t.Fatal(err)
		}
	}
	stored := trail.all(t, Filter{})[3].StoredAt
	tests := []struct {
		name   string
		filter Filter
		want   int
	}{
		{"all", Filter{}, len(Actions())},
		{"actions", Filter{Actions: []Action{Pause, Resume}}, 2},
		{"actor", Filter{Actor: "bob"}, 1},
		{"user of the system", Filter{Actor: "root@host"}, len(Actions())},
		{"user of NATS", Filter{Actor: "operator"}, len(Actions())},
		{"nobody", Filter{Actor: "bo"}, 0},
		{"since, inclusive", Filter{Since: stored}, len(Actions()) - 3},
		{"until, exclusive", Filter{Until: stored}, 3},
	}
	for _, tt := range tests {
		if got := len(trail.all(t, tt.filter)); got != tt.want {
			t.Errorf("%s: %d records, want %d", tt.name, got, tt.want)
		}
	}
}

// Whoever follows hears of what is recorded later.
func TestFollow(t *testing.T) {
	trail, _ := newTrail(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run := trail.Begin(Pause, ann, "", nil)
	if err := run.Intent(ctx, Record{}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := trail.Each(ctx, Filter{}, true, func(Record) error {
		if seen++; seen == 2 {
			cancel()
			return nil
		}
		return run.Result(ctx, Record{})
	})
	if !errors.Is(err, context.Canceled) || seen != 2 {
		t.Errorf("%d records, %v", seen, err)
	}
}

// What cannot be recorded is an error that says that nothing was done.
func TestIntentFailsWithoutTheStream(t *testing.T) {
	trail, js := newTrail(t)
	run := trail.Begin(Discard, ann, "x", nil)
	if err := js.DeleteStream(t.Context(), outbox.AuditStream); err != nil {
		t.Fatal(err)
	}
	if err := run.Intent(t.Context(), Record{}); err == nil || !strings.HasPrefix(err.Error(), "nothing was done, since it cannot be recorded") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(t.Context(), js); err == nil || !strings.Contains(err.Error(), "stream USAGE_AUDIT does not exist") {
		t.Errorf("error %v", err)
	}
}

// A record that another stream takes is none.
func TestIntentFailsInAForeignStream(t *testing.T) {
	trail, js := newTrail(t)
	if err := js.DeleteStream(t.Context(), outbox.AuditStream); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"usage.audit.*"}}); err != nil {
		t.Fatal(err)
	}
	if err := trail.Begin(Discard, ann, "x", nil).Intent(t.Context(), Record{}); err == nil || !strings.Contains(err.Error(), "stream OTHER took the record") {
		t.Errorf("error %v", err)
	}
}

// The result is stored although the command was interrupted.
func TestResultOutlivesTheInterruption(t *testing.T) {
	trail, _ := newTrail(t)
	ctx, cancel := context.WithCancel(t.Context())
	run := trail.Begin(Replay, ann, "", nil)
	if err := run.Intent(ctx, Record{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := run.Result(ctx, Record{}); err != nil {
		t.Error(err)
	}
	if n := len(trail.all(t, Filter{})); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// Whatever stands in the letters, a record of the largest part fits into a message, and the
// same record twice is one.
func TestLargestRecord(t *testing.T) {
	trail, _ := newTrail(t)
	long := strings.Repeat("\u0001é\xff", 100_000)
	record := Record{Run: "r", Part: 1, Stage: Intent, Action: Discard, Why: long, Note: long, Command: slices.Repeat([]string{long}, 1000), Changes: map[string]Change{}}
	for i := range 1000 {
		record.Changes[strings.Repeat("k", i+1)+long] = Change{long, long}
	}
	for range PartSize {
		record.Letters = append(record.Letters, Letter{1, long, long, long, long, long, 1, long, long, Digest(nil), Digest(nil), long, 1, long})
	}
	data, err := record.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 1<<20 || !json.Valid(data) {
		t.Errorf("%d bytes", len(data))
	}
	for range 2 {
		if err := trail.append(t.Context(), Record{Run: "r", Part: 1, Stage: Intent, Action: Discard}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(trail.all(t, Filter{})); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	record.Letters = append(record.Letters, Letter{})
	if _, err := record.encode(); err == nil {
		t.Error("a record of more than one part")
	}
	if _, err := (Record{Action: "fly"}).encode(); err == nil {
		t.Error("a record of an unknown action")
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct{ text, want string }{{"abc", "abc"}, {"abcd", "abc…"}, {"abé", "ab…"}, {"\x01a", "…"}, {"\xff", "\uFFFD"}, {"", ""}} {
		if got := cut(tt.text, 3); got != tt.want {
			t.Errorf("cut(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
