package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// single has all customers in one partition.
func single(ackWait time.Duration) Settings {
	s := usual
	s.Partitions, s.AckWait = 1, ackWait
	return s
}

// consumerInfo asks the server about the only partition.
func consumerInfo(t *testing.T, s *Streams) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := s.usage.Consumer(t.Context(), "worker-0")
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo()
}

func TestMessage(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	m := nats.NewMsg("usage.events.api=2Ecalls.cus_1")
	m.Data = []byte{0, 1, 0xff, '\n'}
	m.Header = nats.Header{"Nats-Msg-Id": {"req-1"}, "traceparent": {"00-ab", "second"}}
	before := time.Now()
	if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.publish(t, "usage.replay.api=2Ecalls.cus_1", "")
	got := fetch(t, partition(t, s, 0), 2)
	first, replay := got[0], got[1]
	if first.Sequence() != 1 || first.Subject() != "usage.events.api=2Ecalls.cus_1" || string(first.Body()) != string(m.Data) {
		t.Errorf("got %d %s %q", first.Sequence(), first.Subject(), first.Body())
	}
	for name, want := range map[string]string{"Nats-Msg-Id": "req-1", "traceparent": "00-ab", "Traceparent": "", "none": ""} {
		if value := first.Header(name); value != want {
			t.Errorf("header %s is %q, want %q", name, value, want)
		}
	}
	raw, err := s.usage.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !first.StoredAt().Equal(raw.Time) || first.StoredAt().Before(before.Add(-time.Second)) {
		t.Errorf("stored at %v, by the stream at %v", first.StoredAt(), raw.Time)
	}
	if replay.Subject() != "usage.replay.api=2Ecalls.cus_1" || len(replay.Body()) != 0 || replay.Header("Nats-Msg-Id") != "" {
		t.Errorf("replay %s %q", replay.Subject(), replay.Body())
	}
}

func TestPublished(t *testing.T) {
	for stored, want := range map[string]string{
		"usage.part.0.events.a.b":     "usage.events.a.b",
		"usage.part.23.replay.a=2E.b": "usage.replay.a=2E.b",
		"usage.events.a.b":            "usage.events.a.b",
		"other.part.0.events.a.b":     "other.part.0.events.a.b",
		"usage.part.0":                "usage.part.0",
		"":                            "",
	} {
		if got := published(stored); got != want {
			t.Errorf("published(%q) = %q, want %q", stored, got, want)
		}
	}
}

// TestFetch hands out as many as asked for, in order, and each once.
func TestFetch(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	for i := range 10 {
		w.publish(t, fmt.Sprintf("usage.events.a.c%d", i), "x")
	}
	p := partition(t, s, 0)
	var seen []uint64
	for _, n := range []int{1, 4, 5} {
		got := 0
		if err := p.Fetch(n, func(m *Message) { got++; seen = append(seen, m.Sequence()) }); err != nil {
			t.Fatal(err)
		}
		if got != n {
			t.Errorf("asked for %d, got %d", n, got)
		}
	}
	if want := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(seen, want) {
		t.Errorf("got %v", seen)
	}
	if p.Held() != 10 {
		t.Errorf("%d held, want 10", p.Held())
	}
	if err := p.Fetch(5, func(m *Message) { t.Errorf("%d came again", m.Sequence()) }); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}

// TestCopyOfHeld: what is redelivered while it is held is not handed out twice, and
// the ack goes to the copy that the server waits for.
func TestCopyOfHeld(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(200*time.Millisecond))
	w.publish(t, "usage.events.a.b", "x")
	p := partition(t, s, 0)
	m := fetch(t, p, 1)[0]
	first := m.raw
	eventually(t, "a copy", func() bool {
		if err := p.Fetch(1, func(*Message) { t.Error("handed out twice") }); err != nil {
			t.Fatal(err)
		}
		return m.raw != first
	})
	if p.Held() != 1 {
		t.Errorf("%d held", p.Held())
	}
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ack arrives", func() bool {
		info := consumerInfo(t, s)
		return info.NumAckPending == 0 && info.AckFloor.Stream == 1
	})
	if p.Held() != 0 {
		t.Errorf("%d held after the ack", p.Held())
	}
	if err := m.Ack(); err == nil {
		t.Error("a second ack passes")
	}
}

// TestSettledTwiceFreesNobodyElse: a late word about a message that has come anew does
// not let go of the new one.
func TestSettledTwiceFreesNobodyElse(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(200*time.Millisecond))
	w.publish(t, "usage.events.a.b", "x")
	p := partition(t, s, 0)
	old := fetch(t, p, 1)[0]
	old.Drop()
	fetch(t, p, 1)
	old.Drop()
	if p.Held() != 1 {
		t.Errorf("%d held, want the new one", p.Held())
	}
}

// TestKeepAlive: what is held is not redelivered, however many AckWaits pass. They
// are counted by a message that nobody keeps alive.
func TestKeepAlive(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(500*time.Millisecond))
	w.publish(t, "usage.events.a.kept", "x")
	p, clock := partition(t, s, 0), partition(t, s, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var alive sync.WaitGroup
	alive.Go(func() { p.KeepAlive(ctx) })
	kept := fetch(t, p, 1)[0]
	w.publish(t, "usage.events.a.dropped", "x")
	for round := range 4 {
		for _, m := range fetch(t, clock, 1) {
			if m.Sequence() == kept.Sequence() {
				t.Fatalf("redelivered in round %d although it is kept alive", round)
			}
			m.Drop()
		}
	}
	cancel()
	alive.Wait()
	eventually(t, "redelivery without heartbeats", func() bool {
		again := fetch(t, clock, 1)[0]
		again.Drop()
		return again.Sequence() == kept.Sequence()
	})
}

func TestNak(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	w.publish(t, "usage.events.a.b", "x")
	p := partition(t, s, 0)
	for _, delay := range []time.Duration{0, -time.Second, 300 * time.Millisecond} {
		m := fetch(t, p, 1)[0]
		before := time.Now()
		if err := m.Nak(delay); err != nil {
			t.Fatal(err)
		}
		if p.Held() != 0 {
			t.Errorf("%d held after the message was handed back", p.Held())
		}
		again := fetch(t, p, 1)[0]
		if after := time.Since(before); again.Sequence() != 1 || after < delay || after > 20*time.Second {
			t.Errorf("handed back for %v, %d came after %v", delay, again.Sequence(), after)
		}
		again.Drop()
		if err := again.Nak(0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDrop: without a word the message comes again after AckWait, to whoever
// pulls.
func TestDrop(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(300*time.Millisecond))
	w.publish(t, "usage.events.a.b", "x")
	p, next := partition(t, s, 0), partition(t, s, 0)
	before := time.Now()
	fetch(t, p, 1)[0].Drop()
	if p.Held() != 0 {
		t.Errorf("%d held", p.Held())
	}
	if again := fetch(t, next, 1)[0]; again.Sequence() != 1 {
		t.Errorf("%d came", again.Sequence())
	}
	if after := time.Since(before); after < 300*time.Millisecond {
		t.Errorf("came again after %v, before AckWait", after)
	}
}

// TestConsumerIsCreatedAgain: a consumer that somebody deleted is there for the next
// pull, with everything that is kept.
func TestConsumerIsCreatedAgain(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	w.publish(t, "usage.events.a.b", "x")
	p := partition(t, s, 0)
	if err := fetch(t, p, 1)[0].Ack(); err != nil {
		t.Fatal(err)
	}
	if err := s.usage.DeleteConsumer(t.Context(), "worker-0"); err != nil {
		t.Fatal(err)
	}
	if err := p.Fetch(1, func(*Message) {}); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("pull without a consumer: %v", err)
	}
	if m := fetch(t, p, 1)[0]; m.Sequence() != 1 {
		t.Errorf("%d came", m.Sequence())
	}
	if err := s.usage.DeleteConsumer(t.Context(), "worker-0"); err != nil {
		t.Fatal(err)
	}
	s.settings.Manage = false
	err := p.Fetch(1, func(*Message) {})
	refusal(t, err, "consumer worker-0 does not exist")
}

func TestFetchWithoutServer(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	p := partition(t, s, 0)
	w.conn.Close()
	if err := p.Fetch(1, func(*Message) {}); err == nil || !strings.Contains(err.Error(), "pull partition 0") {
		t.Errorf("got %v", err)
	}
}
