package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

func TestRestore(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), "\x00odd", [2]string{"Nats-Rollup-X", "all"})
	before, err := b.letters.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := b.letters.Keep(before.Header, before.Body)
	if err != nil {
		t.Fatal(err)
	}
	index, err := b.letters.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := b.letters.Restore(t.Context(), index, kept); got.Outcome != Present || !index.Has(kept) {
		t.Errorf("a letter that waits: %+v", got)
	}
	// Taken out just now: the server still remembers its message id.
	if err := b.letters.dlq.DeleteMsg(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := b.letters.Restore(t.Context(), Index{}, kept); got.Outcome != Failed || !strings.Contains(got.Detail, "in 2 minutes") {
		t.Errorf("taken out just now: %+v", got)
	}
	// The whole stream is lost, and made anew.
	if err := b.js.DeleteStream(t.Context(), outbox.DLQStream); err != nil {
		t.Fatal(err)
	}
	settings := outbox.Settings{Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second}
	if b.streams, err = outbox.Open(t.Context(), b.js, settings); err != nil {
		t.Fatal(err)
	}
	if b.letters, err = Open(t.Context(), b.js); err != nil {
		t.Fatal(err)
	}
	index = Index{}
	got := b.letters.Restore(t.Context(), index, kept)
	if got.Outcome != Restored {
		t.Fatalf("result %+v", got)
	}
	if again := b.letters.Restore(t.Context(), index, kept); again.Outcome != Present {
		t.Errorf("again: %+v", again)
	}
	if again := b.letters.Restore(t.Context(), Index{}, kept); again.Outcome != Present {
		t.Errorf("by somebody else: %+v", again)
	}
	after, err := b.letters.Get(t.Context(), got.ID)
	if err != nil {
		t.Fatal(err)
	}
	delete(before.Header, "Nats-Rollup-X")
	if !maps.EqualFunc(after.Header, before.Header, slices.Equal) || string(after.Body) != string(before.Body) {
		t.Errorf("put back as %q %q, it was %q %q", after.Header, after.Body, before.Header, before.Body)
	}
}

func TestKeepRefuses(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	l, err := b.letters.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ header, value, want string }{
		{jetstream.MsgIDHeader, "", "it is no dead letter"},
		{jetstream.MsgIDHeader, "dlq-other-1-rejected", "belongs to another outbox"},
		{jetstream.MsgIDHeader, "replay-x", "it is no dead letter"},
		{deadletter.HeaderReason, "bored", "is not a reason"},
		{deadletter.HeaderReason, "panic", "it is no dead letter"},
		{deadletter.HeaderSequence, "2", "it is no dead letter"},
		{deadletter.HeaderSequence, "x", "is not a sequence"},
		{deadletter.HeaderSubject, "usage.events.a.>", "not a subject of usage"},
		{deadletter.HeaderSubject, "usage.events.a b.c", "not a subject of usage"},
	} {
		header := maps.Clone(l.Header)
		header[tt.header] = []string{tt.value}
		if _, err := b.letters.Keep(header, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q: %v, want %q", tt.header, tt.value, err, tt.want)
		}
	}
	if _, err := b.letters.Keep(nil, nil); err == nil {
		t.Error("no headers at all")
	}
}

func TestDiscard(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	if got := b.letters.Discard(t.Context(), id); got.Outcome != Discarded || got.Identifier != "req-1" {
		t.Errorf("result %+v", got)
	}
	if got := b.letters.Discard(t.Context(), id); got.Outcome != Missing {
		t.Errorf("again: %+v", got)
	}
	if usage, dead := b.stored(outbox.UsageStream), b.stored(outbox.DLQStream); usage != 0 || dead != 0 {
		t.Errorf("%d messages and %d letters", usage, dead)
	}
}

// A letter without a body and with a header that the client library takes for the server's
// word is a letter like any other, and ends no page.
func TestLettersThatLookLikeTheServers(t *testing.T) {
	for _, status := range []string{"404", "408", "409", "503", "100"} {
		b := newBench(t)
		b.bury(letter(deadletter.Rejected), body)
		l := letter(deadletter.Undecodable)
		m := nats.NewMsg(l.StreamSubject())
		for name, value := range l.Header() {
			m.Header.Set(name, value)
		}
		m.Header.Set("Status", status)
		if _, err := b.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		b.bury(letter(deadletter.Rejected), body)
		if got := b.ids(t.Context(), Filter{}); !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("status %s: letters %v, want 1 to 3", status, got)
		}
	}
}

func TestGroups(t *testing.T) {
	b := newBench(t)
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	bury := func(reason deadletter.Reason, code, subject string, died time.Time) {
		l := letter(reason)
		l.Code, l.Subject, l.DeadAt = code, subject, died
		b.bury(l, body)
	}
	bury(deadletter.Rejected, "no_meter", "usage.events.b.cus_1", noon)
	bury(deadletter.Rejected, "no_meter", "usage.events.a=20.cus_1", noon.Add(-time.Hour))
	bury(deadletter.Rejected, "", "usage.events.a.cus_1", noon)
	bury(deadletter.Panic, "", "", noon)
	want := []Group{
		{deadletter.Rejected, "no_meter", 2, noon.Add(-time.Hour), []string{"a ", "b"}, false},
		{deadletter.Panic, "", 1, noon, []string{""}, false},
		{deadletter.Rejected, "", 1, noon, []string{"a"}, false},
	}
	equal := func(a, b Group) bool {
		return a.Reason == b.Reason && a.Code == b.Code && a.Count == b.Count && a.Oldest.Equal(b.Oldest) && slices.Equal(a.EventNames, b.EventNames) && a.MoreNames == b.MoreNames
	}
	got, err := b.letters.Groups(t.Context(), Filter{})
	if err != nil || !slices.EqualFunc(got, want, equal) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	// With bodies, since the customer stands there.
	if got, err = b.letters.Groups(t.Context(), Filter{Customer: "cus_1", Reasons: []deadletter.Reason{deadletter.Rejected}}); err != nil || len(got) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	counts, err := b.letters.Counts(t.Context())
	if err != nil || counts[deadletter.Rejected] != 3 || counts[deadletter.Panic] != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	for i := range mostNames {
		bury(deadletter.Ambiguous, "", "usage.events.n"+numbered(i)+".c", noon)
	}
	bury(deadletter.Ambiguous, "", "usage.events.more.c", noon)
	if got, err = b.letters.Groups(t.Context(), Filter{}); err != nil || got[0].Count != mostNames+1 || len(got[0].EventNames) != mostNames || !got[0].MoreNames {
		t.Errorf("%+v, %v", got[0], err)
	}
}
