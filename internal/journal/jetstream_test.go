package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

func TestJetStreamKeepsTheProtocol(t *testing.T) {
	b := startBroker(t)
	var refusals atomic.Int32
	first := take(t, journal.NewJetStream(b.connect(), func() { refusals.Add(1) }))
	first.intend(event)
	first.record(as(event, journal.Delivered))
	open := numbered(1)
	t0 := first.intend(open)
	dying := numbered(2)
	first.record(doubt(dying, first.Stamp(t0)), letter(dying, journal.Dying))
	first.expect(event, journal.WasDelivered, false)

	second := take(t, b.store())
	second.expect(event, journal.WasDelivered, false)
	known := second.expect(open, journal.Fresh, true)
	if age := known.Oldest.Age(time.Now()); age < t0.Age(time.Now()) || age > within {
		t.Errorf("the attempt is %v old, at its intent's return it was %v", age, t0.Age(time.Now()))
	}
	if known := second.expect(dying, journal.IsDying, false); string(known.Letter) != "the letter" {
		t.Errorf("letter %q", known.Letter)
	}
	if _, err := first.Intend(t.Context(), replay); !errors.Is(err, journal.ErrLost) {
		t.Errorf("the former owner's intent: %v", err)
	}
	<-first.Lost()
	if n := refusals.Load(); n != 1 {
		t.Errorf("%d refusals were reported, want 1", n)
	}
	second.intend(replay)
	if other := take(t, b.store()); other.Ledger.Newest() != replay.Sequence {
		t.Errorf("newest sequence %d, want %d", other.Ledger.Newest(), replay.Sequence)
	}
}

// A cluster would answer "duplicate" to the repeat after the take-over, too: see
// journaltest.Store.
func TestJetStreamTellsRepeatsFromFormerOwners(t *testing.T) {
	b := startBroker(t)
	s, ctx := b.store(), t.Context()
	mark := func(id string) uint64 {
		t.Helper()
		marker, err := s.Mark(ctx, number, id, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		return marker
	}
	marker := mark("m1")
	if again := mark("m1"); again != marker {
		t.Errorf("the same marker again is %d, not %d", again, marker)
	}
	first, err := s.Append(ctx, number, journal.IntentKind, marker, "i1", []byte("x"))
	if err != nil || first.Duplicate {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := s.Append(ctx, number, journal.IntentKind, marker, "i1", []byte("x"))
	if err != nil || !again.Duplicate || again.Sequence != first.Sequence {
		t.Errorf("the same id again: %+v, %v", again, err)
	}
	mark("m2")
	for id, partition := range map[string]int{"i1": number, "i2": number, "i3": number + 1} {
		if answer, err := s.Append(ctx, partition, journal.IntentKind, marker, id, []byte("x")); !errors.Is(err, journal.ErrLost) {
			t.Errorf("%s after the take-over: %+v, %v", id, answer, err)
		}
	}
}

// read collects what Read yields.
func read(t *testing.T, s *journal.JetStream, partition int, marker uint64, each func(journal.Stored)) ([]journal.Stored, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var all []journal.Stored
	err := s.Read(ctx, partition, marker, func(m journal.Stored) error {
		all = append(all, m)
		if each != nil {
			each(m)
		}
		return nil
	})
	return all, err
}

func TestJetStreamReadsOnePartitionUpToTheMarker(t *testing.T) {
	b := startBroker(t)
	s, ctx := b.store(), t.Context()
	for _, partition := range []int{1, 11, number} {
		if _, err := s.Mark(ctx, partition, fmt.Sprint("m", partition), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	marker, err := s.Mark(ctx, 1, "m", []byte("mine"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, 1, journal.DoneKind, marker, "d", []byte("mine too")); err != nil {
		t.Fatal(err)
	}
	all, err := read(t, s, 1, marker, nil)
	if err != nil || len(all) != 2 || all[1].Sequence != marker || all[1].Kind != journal.OwnerKind || string(all[1].Data) != "mine" {
		t.Fatalf("%+v, %v", all, err)
	}
	if age := time.Since(all[1].Time); age < 0 || age > within {
		t.Errorf("stamp %v", all[1].Time)
	}
}

// A claim whose marker went away must not wait for it for ever.
func TestJetStreamMissesAMarkerThatIsGone(t *testing.T) {
	for name, later := range map[string]bool{"nothing came after it": false, "another one came after it": true} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			js := b.connect()
			s := journal.NewJetStream(js, func() {})
			o := take(t, s)
			stream, err := js.Stream(t.Context(), journal.StreamName)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			if later {
				take(t, s)
			}
			if _, err := read(t, s, number, 1, nil); !errors.Is(err, journal.ErrLost) {
				t.Errorf("Read: %v, want ErrLost", err)
			}
			if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrLost) {
				t.Errorf("Intend: %v, want ErrLost", err)
			}
		})
	}
}

// A reader whose consumer goes away half-way goes on where it was.
func TestJetStreamReadsOnWhenItsConsumerIsGone(t *testing.T) {
	const messages = 2000
	b := startBroker(t)
	js := b.connect()
	s := journal.NewJetStream(js, func() {})
	for i := range messages {
		if _, err := js.PublishAsync(fmt.Sprintf("usage.journal.%d.done", number), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	marker, err := s.Mark(t.Context(), number, "m", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), journal.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	all, err := read(t, s, number, marker, func(m journal.Stored) {
		if m.Sequence%700 != 0 {
			return
		}
		for name := range stream.ConsumerNames(t.Context()).Name() {
			if stream.DeleteConsumer(t.Context(), name) == nil {
				gone++
			}
		}
	})
	if err != nil || gone != 2 {
		t.Fatalf("%v after %d consumers were deleted", err, gone)
	}
	for i, m := range all {
		if m.Sequence != uint64(i)+1 {
			t.Fatalf("message %d was read as the %d-th one", m.Sequence, i+1)
		}
	}
	if len(all) != messages+1 {
		t.Errorf("%d messages were read, want %d", len(all), messages+1)
	}
}

func TestJetStreamPurgesIntentsOnly(t *testing.T) {
	b := startBroker(t)
	s, ctx := b.store(), t.Context()
	marker, err := s.Mark(ctx, number, "m", nil)
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range 6 {
		kind := []journal.Kind{journal.IntentKind, journal.DoneKind}[i%2]
		answer, err := s.Append(ctx, number, kind, marker, fmt.Sprint(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if kind == journal.IntentKind {
			last = answer.Sequence
		}
	}
	if err := s.PurgeIntents(ctx, number, last); err != nil {
		t.Fatal(err)
	}
	if marker, err = s.Mark(ctx, number, "m2", nil); err != nil {
		t.Fatal(err)
	}
	all, err := read(t, s, number, marker, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, m := range all {
		got += string(m.Kind) + " "
	}
	if want := "owner " + strings.Repeat("done ", 2) + "intent done owner "; got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
}

func TestAnUnknownFormatInJetStreamRefusesTheClaim(t *testing.T) {
	b := startBroker(t)
	js := b.connect()
	if _, err := js.Publish(t.Context(), fmt.Sprintf("usage.journal.%d.done", number), []byte{99, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	_, err := journal.Claim(t.Context(), journal.NewJetStream(js, func() {}), config(), number)
	if !errors.Is(err, journal.ErrFormat) {
		t.Errorf("%v, want ErrFormat", err)
	}
}
