package outbox

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

func publishLetter(t *testing.T, d *DeadLetters, l deadletter.Letter, body string) {
	t.Helper()
	if err := d.Publish(t.Context(), l, l.Header(), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, d *DeadLetters, l deadletter.Letter, since time.Time) bool {
	t.Helper()
	is, err := d.Stored(t.Context(), l, since)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// TestDeadLetter: the body is the original, byte for byte, the headers are ours and
// nothing else, and publishing again stores nothing again.
func TestDeadLetter(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	l := letter(41)
	l.Detail, l.Code, l.Status, l.Identifier = "no such  customer ünï ", "resource_missing", 404, "req-1"
	body := "\x00{\"not\": json\xff\r\n\r\nNats-Rollup: all"
	header := l.Header()
	for range 3 {
		if err := s.DeadLetters().Publish(t.Context(), l, header, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.info(t, DLQStream).State.Msgs; n != 1 {
		t.Fatalf("%d dead letters for one message", n)
	}
	raw, err := s.dlq.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if raw.Subject != "usage.dlq.rejected.api_calls" || string(raw.Data) != body {
		t.Errorf("stored %s %q", raw.Subject, raw.Data)
	}
	got := map[string]string{}
	for name, values := range raw.Header {
		got[name] = strings.Join(values, "|")
	}
	want := maps.Clone(header)
	want["Nats-Msg-Id"] = fmt.Sprintf("dlq-%s-41-rejected", s.Epoch())
	for name := range want { // the protocol does not keep blanks at the ends of a value
		want[name], got[name] = strings.TrimSpace(want[name]), strings.TrimSpace(got[name])
	}
	if !maps.Equal(got, want) {
		t.Errorf("headers\n%v, want\n%v", got, want)
	}
}

// TestLargestMessageBecomesADeadLetter: whatever USAGE takes, the dead letters take
// with all their headers.
func TestLargestMessageBecomesADeadLetter(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	limit := int(w.info(t, UsageStream).Config.MaxMsgSize)
	if _, err := w.js.Publish(t.Context(), "usage.events.a.b", make([]byte, limit+1)); err == nil {
		t.Error("a message over the limit is stored")
	}
	body := strings.Repeat("x", limit)
	w.publish(t, "usage.events.a.b", body)
	l := letter(1)
	l.Detail, l.Identifier, l.Subject = strings.Repeat("d", 1000), strings.Repeat("i", 5000), "usage.events.a."+strings.Repeat("c", 5000)
	l.Code, l.RequestID, l.Episode = strings.Repeat("c", 200), strings.Repeat("r", 200), strings.Repeat("e", 200)
	l.FirstAttempt, l.LastAttempt, l.DeadAt, l.StoredAt = time.Now(), time.Now(), time.Now(), time.Now()
	publishLetter(t, s.DeadLetters(), l, body)
}

// TestStored finds a letter by its id, also after JetStream has forgotten the id.
func TestStored(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	d := s.DeadLetters()
	now := time.Now()
	if stored(t, d, letter(7), now) {
		t.Error("found in an empty stream")
	}
	w.update(t, DLQStream, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	publishLetter(t, d, letter(7), "x")
	eventually(t, "the window has passed", func() bool {
		publishLetter(t, d, letter(7), "x")
		return w.info(t, DLQStream).State.Msgs >= 2
	})
	if !stored(t, d, letter(7), now) {
		t.Error("not found")
	}
	other := letter(7)
	other.Reason = deadletter.Ambiguous
	for name, l := range map[string]deadletter.Letter{"another sequence": letter(8), "a longer sequence": letter(77), "another reason": other} {
		if stored(t, d, l, now) {
			t.Errorf("%s: found", name)
		}
	}
	if !stored(t, d, letter(7), now.Add(59*time.Minute)) {
		t.Error("not found within the margin for clocks")
	}
	if stored(t, d, letter(7), now.Add(2*time.Hour)) {
		t.Error("found among later ones")
	}
}

// TestStoredAmongMany: the search goes on over batches, and over what was taken out.
func TestStoredAmongMany(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	d := s.DeadLetters()
	now := time.Now()
	for i := range 1201 {
		publishLetter(t, d, letter(uint64(i+1)), "x")
	}
	for _, seq := range []uint64{1, 2, 500, 501, 1200} {
		if err := s.dlq.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	for seq, want := range map[uint64]bool{1: false, 3: true, 499: true, 501: false, 1199: true, 1200: false, 1201: true, 1202: false} {
		if got := stored(t, d, letter(seq), now); got != want {
			t.Errorf("letter %d: found is %v, want %v", seq, got, want)
		}
	}
	lister := s.dlq.ConsumerNames(t.Context())
	for name := range lister.Name() {
		t.Errorf("consumer %s is left", name)
	}
}

func TestDeadLettersWithoutStream(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	d := s.DeadLetters()
	if err := w.js.DeleteStream(t.Context(), DLQStream); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context(), letter(1), nil, nil); err == nil || !strings.Contains(err.Error(), "dead letter for 1") {
		t.Errorf("Publish: %v", err)
	}
	if is, err := d.Stored(t.Context(), letter(1), time.Now()); is || err == nil {
		t.Errorf("Stored: %v, %v", is, err)
	}
	if _, err := d.Counts(t.Context()); err == nil {
		t.Error("Counts passes")
	}
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"usage.dlq.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context(), letter(1), nil, nil); err == nil || !strings.Contains(err.Error(), "stream OTHER took it") {
		t.Errorf("Publish into another stream: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Publish(ctx, letter(1), nil, nil); err == nil {
		t.Error("Publish with an ended context passes")
	}
}

func TestCounts(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	d := s.DeadLetters()
	if counts, err := d.Counts(t.Context()); err != nil || len(counts) != 0 {
		t.Errorf("counts %v, %v", counts, err)
	}
	for i, subject := range []string{"usage.events.a.c", "usage.events.b.c", "usage.events.b.d", "odd"} {
		l := letter(uint64(i + 1))
		l.Subject = subject
		publishLetter(t, d, l, "x")
	}
	l := letter(9)
	l.Reason = deadletter.Panic
	publishLetter(t, d, l, "x")
	counts, err := d.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := map[deadletter.Reason]int{deadletter.Rejected: 4, deadletter.Panic: 1}; !maps.Equal(counts, want) {
		t.Errorf("counts %v, want %v", counts, want)
	}
}
