package replay

import (
	"slices"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// The way back goes over a replay and an edit to what the producer published.
func TestAncestors(t *testing.T) {
	b := newBench(t)
	if _, err := b.js.Publish(t.Context(), "usage.events.api_calls.cus_1", []byte(body)); err != nil {
		t.Fatal(err)
	}
	b.serial = 0
	first := b.bury(letter(deadletter.Rejected), body) // of message 1
	if got := b.replay(first, Permission{}); got.Sequence != 2 {
		t.Fatalf("result %+v", got)
	}
	l := letter(deadletter.Rejected)
	l.Subject, l.Replays = "usage.replay.api_calls.cus_1", 1
	second := b.bury(l, body) // of message 2
	died, err := b.letters.Get(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	r, refusal := Revise(died, []byte(fixed), Permission{}, time.Now())
	if got := b.letters.Publish(t.Context(), r); refusal != "" || got.Sequence != 3 {
		t.Fatalf("result %+v, %s", got, refusal)
	}
	l.Replays = 2
	died, err = b.letters.Get(t.Context(), b.bury(l, fixed)) // of message 3
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.letters.Lineage(t.Context(), died)
	for i := range got {
		got[i].StoredAt = time.Time{}
	}
	want := []Ancestor{
		{Sequence: 3, ReplayOf: second, Identifier: "req-1", Edited: true}, {Sequence: 2, ReplayOf: first, Identifier: "req-1"}, {Sequence: 1},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	// What is trimmed is the end of the way, and another message is none of it.
	if err := b.letters.usage.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if got, err = b.letters.Lineage(t.Context(), died); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	died.Body = []byte("other")
	if got, err = b.letters.Lineage(t.Context(), died); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A replay is delivered when it is acked and no letter says otherwise; where sequences are
// counted on from elsewhere, it is told by what it is.
func TestWatch(t *testing.T) {
	b := newBench(t)
	w, err := b.letters.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l := letter(deadletter.Rejected)
		l.Identifier = numbered(i)
		got := b.replay(b.bury(l, body), Permission{})
		if err := w.Add(t.Context(), got); err != nil {
			t.Fatal(err)
		}
	}
	if fates, err := w.Look(t.Context()); err != nil || len(fates) != 0 || w.Left() != 3 {
		t.Errorf("before anything is settled: %+v, %v", fates, err)
	}
	l := letter(deadletter.InvalidValue)
	l.Subject, l.Replays, l.Identifier = "usage.replay.api_calls.cus_1", 1, numbered(1)
	b.serial = 1 // the letter names message 2
	second := b.bury(l, body)
	l.Identifier, l.Subject = "other", "usage.replay.api_calls.cus_2"
	b.bury(l, body) // names message 3, and is not of ours
	fates, err := w.Look(t.Context())
	if err != nil || len(fates) != 1 || fates[0].Ending != DiedAgain || fates[0].Letter != second || fates[0].Sequence != 2 || fates[0].Reason != deadletter.InvalidValue {
		t.Errorf("%+v, %v", fates, err)
	}
	l.Identifier, l.Subject = numbered(2), "usage.replay.api_calls.cus_1"
	b.serial = 10_000_000 // beyond a restored copy
	b.bury(l, body)
	if fates, err = w.Look(t.Context()); err != nil || len(fates) != 1 || fates[0].Ending != DiedAgain || fates[0].Sequence != 3 {
		t.Errorf("%+v, %v", fates, err)
	}
	if fates = w.Rest(); len(fates) != 1 || fates[0].Sequence != 1 || fates[0].Ending != Waiting || w.Left() != 0 {
		t.Errorf("the rest: %+v", fates)
	}
}
