package journal_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

const (
	window    = 36 * 24 * time.Hour
	unlimited = 1 << 40
	number    = 3 // of the partition
)

// owner is one process that owns the partition, or did.
type owner struct {
	*journal.Partition
	t      *testing.T
	client *journaltest.Client
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

func config() journal.Config {
	return journal.Config{Worker: "test", Nonce: "w", Window: window, Limit: unlimited}
}

// claim takes the partition over as another process.
func claim(t *testing.T, store *journaltest.Store, faults func(journaltest.Call) journaltest.Fault) *owner {
	t.Helper()
	client := store.Client(faults)
	p, err := journal.Claim(t.Context(), client, config(), number)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{p, t, client}
	t.Cleanup(o.die)
	return o
}

// die ends the process without another word to the store.
func (o *owner) die() {
	o.client.Crash()
	_ = o.Close(context.Background())
}

// The message of most tests.
var event = journal.Entry{Sequence: 5, Key: 77, Fingerprint: 1}

const body = 500

func question(e journal.Entry) journal.Question {
	return journal.Question{Sequence: e.Sequence, Key: e.Key, Body: body, Fingerprint: e.Fingerprint, EventTime: time.Now()}
}

func as(e journal.Entry, s journal.State) journal.Entry {
	e.State = s
	return e
}

// letter is a dying or dead record of e: keyed by the body.
func letter(e journal.Entry, s journal.State) journal.Entry {
	e.State, e.Key = s, body
	if s == journal.Dying {
		e.Letter = []byte("the letter")
	}
	return e
}

func doubt(e journal.Entry, t0 time.Time) journal.Entry {
	e.State, e.T0 = journal.Unknown, t0
	return e
}

func (o *owner) intend(e journal.Entry) journal.Moment {
	o.t.Helper()
	t0, err := o.Intend(o.t.Context(), e)
	if err != nil {
		o.t.Fatal(err)
	}
	return t0
}

func (o *owner) record(entries ...journal.Entry) {
	o.t.Helper()
	if err := o.Record(o.t.Context(), entries...); err != nil {
		o.t.Fatal(err)
	}
}

// expect asks about e and compares verdict and doubt.
func (o *owner) expect(e journal.Entry, verdict journal.Verdict, unknown bool) journal.Known {
	o.t.Helper()
	known := o.Lookup(question(e))
	if known.Verdict != verdict || known.Unknown != unknown {
		o.t.Errorf("sequence %d: %s, unknown %t; want %s, %t", e.Sequence, known.Verdict, known.Unknown, verdict, unknown)
	}
	return known
}

// expectAge compares an age with the true one: never less, and hardly more.
func expectAge(t *testing.T, m journal.Moment, want time.Duration) {
	t.Helper()
	if age := m.Age(time.Now()); age < want || age > want+time.Second {
		t.Errorf("age %v, want %v", age, want)
	}
}

// stored are the entries of all stored messages of a kind, a slice for each message.
func stored(t *testing.T, store *journaltest.Store, kind journal.Kind) [][]journal.Entry {
	t.Helper()
	var all [][]journal.Entry
	for _, m := range store.Stored(number) {
		if m.Kind != kind {
			continue
		}
		var entries []journal.Entry
		if kind != journal.OwnerKind {
			var err error
			if entries, err = journal.Unpacked(m.Data); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, entries)
	}
	return all
}

func expectStored(t *testing.T, store *journaltest.Store, kind journal.Kind, want int) {
	t.Helper()
	if got := len(stored(t, store, kind)); got != want {
		t.Errorf("%d messages of kind %s are stored, want %d", got, kind, want)
	}
}

// nth is a fault for the n-th append of a kind, from 1, and none for the others.
func nth(kind journal.Kind, n int, fault journaltest.Fault) func(journaltest.Call) journaltest.Fault {
	count := 0
	return func(c journaltest.Call) journaltest.Fault {
		if c.Kind != kind || c.Op == journaltest.Purge {
			return journaltest.Fault{}
		}
		if count++; count == n {
			return fault
		}
		return journaltest.Fault{}
	}
}

// always is the same fault for every append of a kind.
func always(kind journal.Kind, fault journaltest.Fault) func(journaltest.Call) journaltest.Fault {
	return func(c journaltest.Call) journaltest.Fault {
		if c.Op == journaltest.Append && c.Kind == kind {
			return fault
		}
		return journaltest.Fault{}
	}
}

// started runs f and waits until it can go no further; the result comes later.
func started[T any](f func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	synctest.Wait()
	return result
}

func sequences(messages [][]journal.Entry) [][]uint64 {
	var all [][]uint64
	for _, entries := range messages {
		var one []uint64
		for _, e := range entries {
			one = append(one, e.Sequence)
		}
		slices.Sort(one)
		all = append(all, one)
	}
	return all
}
