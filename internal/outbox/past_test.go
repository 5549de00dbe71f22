package outbox

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// pastOf is what a reading of the past visits, as subject and body.
func pastOf(t *testing.T, s *Streams, f PastFilter) []string {
	t.Helper()
	var got []string
	last := uint64(0)
	err := s.Past(t.Context(), f, func(k Kept) error {
		if k.Sequence <= last {
			t.Errorf("%d after %d", k.Sequence, last)
		}
		last = k.Sequence
		got = append(got, k.Subject+" "+string(k.Body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPast(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.publish(t, "usage.events.a.cus_1", "1")
	w.publish(t, "usage.events.b.cus_1", "2")
	w.publish(t, "usage.replay.a.cus_1", "3")
	w.publish(t, "usage.events.a.cus_2", "4")
	all := []string{"usage.events.a.cus_1 1", "usage.events.b.cus_1 2", "usage.replay.a.cus_1 3", "usage.events.a.cus_2 4"}
	third, err := s.usage.GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		filter PastFilter
		want   []string
	}{
		"everything":     {PastFilter{}, all},
		"from a time on": {PastFilter{From: third.Time}, all[2:]},
		"from then on":   {PastFilter{From: time.Now().Add(time.Hour)}, nil},
		"replays":        {PastFilter{ReplaysOnly: true}, all[2:3]},
		"a meter":        {PastFilter{EventName: "b"}, all[1:2]},
		"a customer":     {PastFilter{Customer: "cus_1"}, all[:3]},
		"both":           {PastFilter{EventName: "a", Customer: "cus_2"}, all[3:]},
		"nobody":         {PastFilter{Customer: "cus_3"}, nil},
	} {
		if got := pastOf(t, s, tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Several pages come whole, whatever producers store: also a message that looks like a word of the server's.
func TestPastIsWhole(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	const many = pastPage + 20
	for range many {
		w.publish(t, "usage.events.a.cus_1", "x")
	}
	if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "usage.events.a.cus_1", Header: nats.Header{"Status": {"404"}}}); err != nil {
		t.Fatal(err)
	}
	w.publish(t, "usage.events.a.cus_1", "x")
	if got := pastOf(t, s, PastFilter{}); len(got) != many+2 {
		t.Errorf("%d messages, want %d", len(got), many+2)
	}
}

// A reading ends with what its visitor says, and with its context; the next one begins at once.
func TestPastEndsEarly(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	for range 3 {
		w.publish(t, "usage.events.a.cus_1", "x")
	}
	enough := errors.New("enough")
	visits := 0
	if err := s.Past(t.Context(), PastFilter{}, func(Kept) error { visits++; return enough }); !errors.Is(err, enough) || visits != 1 {
		t.Errorf("%d visits, %v", visits, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Past(ctx, PastFilter{}, func(Kept) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := pastOf(t, s, PastFilter{}); len(got) != 3 {
		t.Errorf("%d messages", len(got))
	}
}

func TestFloors(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, single(30*time.Second))
	for range 3 {
		w.publish(t, "usage.events.a.cus_1", "x")
	}
	got := fetch(t, partition(t, s, 0), 3)
	for _, m := range []*Message{got[0], got[2]} {
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the first to be settled", func() bool {
		floors, err := s.Floors(t.Context())
		return err == nil && slices.Equal(floors, []uint64{1})
	})
}

// What came of reports is read in order; without webhooks there is no such stream.
func TestFinishedReports(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	var got []string
	visit := func(result []byte) error { got = append(got, string(result)); return nil }
	if received, err := s.Finished(t.Context(), time.Time{}, visit); received || err != nil {
		t.Errorf("%v, %v", received, err)
	}
	r := w.reports(t, s)
	for _, id := range []string{"evt_1", "evt_2"} {
		if err := r.Put(t.Context(), id, "kind", nil); err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(t.Context(), id, []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	if received, err := s.Finished(t.Context(), time.Time{}, visit); !received || err != nil || !slices.Equal(got, []string{"evt_1", "evt_2"}) {
		t.Errorf("%v, %v, %v", received, got, err)
	}
	if _, err := s.Finished(t.Context(), time.Now().Add(time.Hour), visit); err != nil || len(got) != 2 {
		t.Errorf("later: %v, %v", got, err)
	}
}
