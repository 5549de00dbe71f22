package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/journal"
)

// lines reads the history and writes each line as "partition sequence state".
func lines(t *testing.T, js jetstream.JetStream, partition int, from, until time.Time) []string {
	t.Helper()
	var all []string
	err := journal.NewHistory(js).Read(t.Context(), partition, from, until, func(l journal.Line) bool {
		all = append(all, fmt.Sprint(l.Partition, " ", l.Sequence, " ", l.State))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func claimOf(t *testing.T, store journal.Store, partition int) *owner {
	t.Helper()
	p, err := journal.Claim(t.Context(), store, config(), partition)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{Partition: p, t: t}
	t.Cleanup(o.leave)
	return o
}

// The history of all partitions or one, of all times or some, in order, without markers.
func TestHistory(t *testing.T) {
	b := startBroker(t)
	js := b.connect()
	ever := time.Now().Add(24 * time.Hour)
	if got := lines(t, js, journal.AnyPartition, time.Time{}, ever); got != nil {
		t.Errorf("of an empty journal %v", got)
	}
	one, two := claimOf(t, b.store(), 1), claimOf(t, b.store(), 2)
	if got := lines(t, js, journal.AnyPartition, time.Time{}, ever); got != nil {
		t.Errorf("of markers %v", got)
	}
	t0 := one.intend(numbered(10))
	one.record(as(numbered(10), journal.Delivered))
	two.intend(numbered(20))
	two.record(doubt(numbered(20), two.Stamp(t0)), letter(numbered(20), journal.Dying))
	claimOf(t, b.store(), 1) // a marker at the very end
	want := []string{"1 10 open", "1 10 delivered", "2 20 open", "2 20 unknown", "2 20 dying"}
	if got := lines(t, js, journal.AnyPartition, time.Time{}, ever); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := lines(t, js, 2, time.Time{}, ever); !slices.Equal(got, want[2:]) {
		t.Errorf("of one partition %v, want %v", got, want[2:])
	}
	var at time.Time // of the record of 10
	err := journal.NewHistory(js).Read(t.Context(), 1, time.Time{}, ever, func(l journal.Line) bool {
		at = l.At
		return l.State != journal.Delivered
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(t, js, journal.AnyPartition, at, ever); !slices.Equal(got, want[1:]) {
		t.Errorf("from %s: %v, want %v", at, got, want[1:])
	}
	if got := lines(t, js, journal.AnyPartition, time.Time{}, at); !slices.Equal(got, want[:2]) {
		t.Errorf("until %s: %v, want %v", at, got, want[:2])
	}
	if got := lines(t, js, journal.AnyPartition, ever, ever); got != nil {
		t.Errorf("of the future %v", got)
	}
}

// It is read over many batches, and a reader who has enough is not read on to.
func TestLongHistory(t *testing.T) {
	b := startBroker(t)
	js := b.connect()
	o := claimOf(t, b.store(), 1)
	const n = 1300 // messages: more than two batches
	for i := range n / 2 {
		o.intend(numbered(i + 1))
		o.record(as(numbered(i+1), journal.Delivered))
	}
	if got := lines(t, js, 1, time.Time{}, time.Now().Add(time.Hour)); len(got) != n || got[n-1] != fmt.Sprint("1 ", n/2, " delivered") {
		t.Errorf("%d lines, want %d", len(got), n)
	}
	read := 0
	err := journal.NewHistory(js).Read(t.Context(), 1, time.Time{}, time.Now().Add(time.Hour), func(journal.Line) bool {
		read++
		return read < 7
	})
	if err != nil || read != 7 {
		t.Errorf("read %d, %v", read, err)
	}
	stream, err := js.Stream(t.Context(), journal.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		t.Errorf("consumer %s is left", name)
	}
}

// What cannot be read is an error, and never an empty history.
func TestHistoryOutOfReach(t *testing.T) {
	b := startBroker(t)
	js := b.connect()
	if _, err := js.Publish(t.Context(), "usage.journal.1.done", []byte{99}); err != nil {
		t.Fatal(err)
	}
	all := func(journal.Line) bool { return true }
	if err := journal.NewHistory(js).Read(t.Context(), 1, time.Time{}, time.Now().Add(time.Hour), all); !errors.Is(err, journal.ErrFormat) {
		t.Errorf("of another version: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := journal.NewHistory(js).Read(ended, 1, time.Time{}, time.Now().Add(time.Hour), all); err == nil {
		t.Error("with an ended context")
	}
	if err := js.DeleteStream(t.Context(), journal.StreamName); err != nil {
		t.Fatal(err)
	}
	if err := journal.NewHistory(js).Read(t.Context(), 1, time.Time{}, time.Now().Add(time.Hour), all); err == nil {
		t.Error("without a stream")
	}
}
