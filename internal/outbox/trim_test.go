package outbox

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestBacklog(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	p := partition(t, s, 0)
	var stored []time.Time
	expect := func(what string, pending, unacked int, floor uint64, oldest time.Time) {
		t.Helper()
		var got Backlog
		want := Backlog{pending, unacked, floor, oldest}
		eventually(t, what, func() bool {
			var err error
			if got, err = p.Backlog(t.Context()); err != nil {
				t.Fatal(err)
			}
			return got == want
		})
	}
	expect("nothing yet", 0, 0, 0, time.Time{})
	for i := range 3 {
		seq := w.publish(t, fmt.Sprintf("usage.events.a.c%d", i), "x")
		raw, err := s.usage.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, raw.Time)
	}
	expect("three wait", 3, 0, 0, stored[0])
	got := fetch(t, p, 2)
	expect("two are in hand", 1, 2, 0, stored[0])
	if err := got[1].Ack(); err != nil {
		t.Fatal(err)
	}
	expect("the second is acked", 1, 1, 0, stored[0])
	if err := got[0].Ack(); err != nil {
		t.Fatal(err)
	}
	expect("the third waits", 1, 0, 2, stored[2])
	if err := fetch(t, p, 1)[0].Nak(time.Hour); err != nil {
		t.Fatal(err)
	}
	expect("the third is handed back", 0, 1, 2, stored[2])
}

// TestTrim: only what is acked, old enough and of the partition goes.
func TestTrim(t *testing.T) {
	w := newWorld(t)
	settings := usual
	s := w.open(t, settings)
	mine, other := customers(t, s)
	p := partition(t, s, mine.partition)
	var seqs []uint64
	for range 5 {
		seqs = append(seqs, w.publish(t, mine.subject, "x"))
		w.publish(t, other.subject, "x")
	}
	all := fetch(t, p, 5)
	for _, m := range all[:4] {
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "four are acked", func() bool {
		b, err := p.Backlog(t.Context())
		return err == nil && b.Floor >= seqs[3] && b.Floor < seqs[4]
	})
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name     string
		resolved uint64
		cutoff   time.Time
		left     []uint64
	}{
		{"nothing is old", 0, all[0].StoredAt(), seqs},
		{"long before", 0, time.Unix(0, 0), seqs},
		{"one is old", 0, all[1].StoredAt(), seqs[1:]},
		{"all are old, two resolved", seqs[2], later, seqs[2:]},
		{"all are old", 0, later, seqs[4:]},
		{"again", 0, later, seqs[4:]},
	} {
		if err := s.Trim(t.Context(), p, c.resolved, c.cutoff); err != nil {
			t.Fatal(err)
		}
		if left := sequences(t, s, mine.partition); !slices.Equal(left, c.left) {
			t.Errorf("%s: %v are left, want %v", c.name, left, c.left)
		}
	}
	if left := sequences(t, s, other.partition); len(left) != 5 {
		t.Errorf("%v of the other partition are left", left)
	}
	if err := s.Trim(t.Context(), partition(t, s, other.partition), 0, later); err != nil {
		t.Fatal(err)
	}
	if left := sequences(t, s, other.partition); len(left) != 5 {
		t.Errorf("%v of what was never delivered are left", left)
	}
	consumers := 0
	lister := s.usage.ConsumerNames(t.Context())
	for range lister.Name() {
		consumers++
	}
	if consumers != settings.Partitions {
		t.Errorf("%d consumers after trimming, want %d", consumers, settings.Partitions)
	}
}

type customer struct {
	subject   string
	partition int
}

// customers returns two of different partitions, and leaves the stream empty.
func customers(t *testing.T, s *Streams) (a, b customer) {
	t.Helper()
	for i := range 100 {
		c := customer{subject: fmt.Sprintf("usage.events.a.c%d", i)}
		ack, err := s.js.Publish(t.Context(), c.subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.usage.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(raw.Subject, "usage.part.%d.", &c.partition); err != nil {
			t.Fatal(err)
		}
		if a.subject == "" {
			a = c
		} else if c.partition != a.partition {
			if err := s.usage.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			return a, c
		}
	}
	t.Fatal("all customers are in one partition")
	return a, b
}

// sequences are those that the stream still has of a partition.
func sequences(t *testing.T, s *Streams, number int) []uint64 {
	t.Helper()
	var all []uint64
	for next := uint64(1); ; {
		raw, err := s.usage.GetMsg(t.Context(), next, jetstream.WithGetMsgSubject(partitionSubjects(number)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw.Sequence)
		next = raw.Sequence + 1
	}
}
