package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// fleetOf is the view of one member on a fleet of others.
func fleetOf(self string, ids ...string) *Members {
	m := &Members{self: self, live: map[string]member{}}
	for _, id := range ids {
		m.live[id] = member{}
	}
	return m
}

func owner(t *testing.T, partition int, ids []string) string {
	t.Helper()
	var owners []string
	for _, id := range ids {
		if mine, taken := fleetOf(id, ids...).Proposed(partition); mine {
			owners = append(owners, id)
		} else if taken {
			t.Errorf("partition %d is taken by nobody", partition)
		}
	}
	if len(owners) != 1 {
		t.Fatalf("partition %d is proposed to %v", partition, owners)
	}
	return owners[0]
}

// TestBalanceAndMovement: each partition is proposed to exactly one member, evenly; a
// member that comes or goes moves its own share only.
func TestBalanceAndMovement(t *testing.T) {
	const partitions = 2400
	var ids []string
	before := map[int]string{}
	for n := 1; n <= 8; n++ {
		joined := fmt.Sprintf("host-%d/127.0.0.1:8080", n)
		ids = append(ids, joined)
		share := map[string]int{}
		for p := range partitions {
			now := owner(t, p, ids)
			share[now]++
			if was := before[p]; was != "" && was != now && now != joined {
				t.Fatalf("partition %d moved from %s to %s when %s joined", p, was, now, joined)
			}
			before[p] = now
		}
		for id, got := range share {
			if fair := partitions / n; got < fair*4/5 || got > fair*6/5 {
				t.Errorf("%s has %d of %d partitions among %d", id, got, partitions, n)
			}
		}
	}
	left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == ids[3] })
	for p := range partitions {
		if now := owner(t, p, left); before[p] != ids[3] && now != before[p] {
			t.Fatalf("partition %d moved from %s to %s when %s left", p, before[p], now, ids[3])
		}
	}
}

func join(t *testing.T, s *Streams, id string) *Members {
	t.Helper()
	m, err := s.Members(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func beat(t *testing.T, members ...*Members) {
	t.Helper()
	for _, m := range members {
		if err := m.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// document is what the bucket says.
func document(t *testing.T, w *world) map[string]member {
	t.Helper()
	kv, err := w.js.KeyValue(t.Context(), "usage_control")
	if err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "members")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]member
	if err := json.Unmarshal(entry.Value(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestJoinAndLeave(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a := join(t, s, "a")
	if meta := w.info(t, "KV_usage_control").Config.Metadata; meta["mode"] != usual.Mode || meta["epoch"] != s.Epoch() || meta["format"] != "1" {
		t.Errorf("the bucket's metadata: %v", meta)
	}
	if mine, _ := a.Proposed(0); mine || a.Live() != 0 {
		t.Error("something is proposed before the first beat")
	}
	beat(t, a)
	if mine, taken := a.Proposed(0); !mine || taken || a.Live() != 1 {
		t.Errorf("alone: mine %v, taken %v, live %d", mine, taken, a.Live())
	}
	a.Owns(0, true)
	a.Owns(2, true)
	a.Owns(1, true)
	a.Owns(1, false)
	b := join(t, s, "b")
	beat(t, a, b)
	if _, taken := b.Proposed(2); !taken {
		t.Error("b does not see that a owns 2")
	}
	if _, taken := b.Proposed(1); taken {
		t.Error("b sees 1 as taken")
	}
	if _, taken := a.Proposed(2); taken {
		t.Error("a takes itself for another")
	}
	if got := document(t, w)["a"].Owns; !slices.Equal(got, []int{0, 2}) {
		t.Errorf("a owns %v", got)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	beat(t, b)
	if mine, taken := b.Proposed(2); !mine || taken || b.Live() != 1 {
		t.Errorf("after a left: mine %v, taken %v, live %d", mine, taken, b.Live())
	}
	kv, err := w.js.KeyValue(t.Context(), "usage_control")
	if err != nil {
		t.Fatal(err)
	}
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.History() != 1 || w.info(t, "KV_usage_control").Config.Storage != jetstream.MemoryStorage {
		t.Errorf("bucket %+v", status)
	}
}

// TestDeadMember: a member is taken for gone after four looks at the same beat, and is
// back with its next one.
// TestOneNameTwice: two live workers under one name part; a restarted one keeps the
// name of its former life.
func TestOneNameTwice(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	former := join(t, s, "host")
	beat(t, former, former, former)
	a := join(t, s, "host")
	beat(t, a, a)
	if all := document(t, w); len(all) != 1 {
		t.Fatalf("a restart left %v", all)
	}
	b := join(t, s, "host")
	for range 3 {
		beat(t, a, b)
	}
	if a.Live() != 2 || b.Live() != 2 || len(document(t, w)) != 2 {
		t.Errorf("live: %d and %d of 2; document %v", a.Live(), b.Live(), document(t, w))
	}
	for p := range usual.Partitions {
		first, _ := a.Proposed(p)
		second, _ := b.Proposed(p)
		if first == second {
			t.Errorf("partition %d is proposed to both or neither", p)
		}
	}
}

func TestDeadMember(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b, c := join(t, s, "a"), join(t, s, "b"), join(t, s, "c")
	for range 3 { // b was slow before, but alive
		beat(t, b, c)
		for range missedBeats {
			beat(t, a, c)
			if a.Live() != 3 {
				t.Fatalf("%d live while b is late", a.Live())
			}
		}
	}
	beat(t, a)
	if _, there := document(t, w)["b"]; a.Live() != 2 || there {
		t.Errorf("%d live after four looks at the same beat, in the document: %v", a.Live(), there)
	}
	beat(t, b, a)
	if a.Live() != 3 || b.Live() != 3 {
		t.Errorf("%d and %d live after b has come back", a.Live(), b.Live())
	}
}

// TestPausedMember: who was paused itself takes nobody for gone on its first looks.
func TestPausedMember(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b := join(t, s, "a"), join(t, s, "b")
	beat(t, a, b, a)
	for range 10 * missedBeats { // a is frozen, and taken out
		beat(t, b)
	}
	beat(t, a)
	if a.Live() != 2 {
		t.Errorf("%d live for a after its pause", a.Live())
	}
}

// TestBeatsAtOnce: whoever loses the swap tries again, and takes out nobody whom it
// has not looked at.
func TestBeatsAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	var all []*Members
	for i := range 8 {
		all = append(all, join(t, s, fmt.Sprint(i)))
	}
	for round := range 10 {
		var beats sync.WaitGroup
		for _, m := range all {
			beats.Go(func() {
				if err := m.Beat(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		beats.Wait()
		if n := len(document(t, w)); n != len(all) {
			t.Fatalf("round %d: %d members in the document, want %d", round, n, len(all))
		}
	}
	beat(t, all...)
	for _, m := range all {
		if m.Live() != len(all) {
			t.Errorf("%s sees %d live", m.self, m.Live())
		}
	}
}

// TestLostDocument: whatever happens to the bucket, the next beat brings it back, and
// those who were alive before still count.
func TestLostDocument(t *testing.T) {
	put := func(value string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			kv, err := w.js.KeyValue(t.Context(), ControlBucket)
			if err == nil {
				_, err = kv.Put(t.Context(), membersKey, []byte(value))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, lose := range map[string]func(*testing.T, *world){
		"bucket deleted": func(t *testing.T, w *world) {
			t.Helper()
			if err := w.js.DeleteKeyValue(t.Context(), ControlBucket); err != nil {
				t.Fatal(err)
			}
		},
		"key deleted": func(t *testing.T, w *world) {
			t.Helper()
			kv, err := w.js.KeyValue(t.Context(), ControlBucket)
			if err == nil {
				err = kv.Delete(t.Context(), membersKey)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"null": put("null"), "empty": put(""), "cut": put(`{"a":{"be`), "another shape": put(`[1]`),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.open(t, usual)
			a, b := join(t, s, "a"), join(t, s, "b")
			b.Owns(1, true)
			beat(t, a, b, a)
			lose(t, w)
			beat(t, a)
			if _, taken := a.Proposed(1); !taken || a.Live() != 2 {
				t.Errorf("after the loss: live %d, 1 taken: %v", a.Live(), taken)
			}
			beat(t, b)
			if n := len(document(t, w)); n != 2 {
				t.Errorf("%d members in the document", n)
			}
			for range missedBeats + 1 {
				beat(t, a)
			}
			if a.Live() != 1 {
				t.Errorf("%d live after b has gone", a.Live())
			}
		})
	}
}

// TestServerRestart: a server that runs alone forgets what is in memory.
func TestServerRestart(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	a, b := join(t, s, "a"), join(t, s, "b")
	beat(t, a, b, a)
	w.server.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Beat(ctx); err == nil {
		t.Error("a beat without a server passes")
	}
	w.server.Run()
	eventually(t, "both are back", func() bool {
		return a.Beat(t.Context()) == nil && b.Beat(t.Context()) == nil
	})
	beat(t, a)
	if a.Live() != 2 || b.Live() != 2 {
		t.Errorf("%d and %d live", a.Live(), b.Live())
	}
	w.open(t, usual) // the streams were on file
}
