package outbox

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func survey(t *testing.T, s *Streams) Survey {
	t.Helper()
	v, err := s.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What waits is counted over all partitions, also those that nobody serves, and its oldest
// is the first that is not acked.
func TestSurveyCountsWhatWaits(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	if v := survey(t, s); v.Waiting.Ready+v.Waiting.Unacked != 0 || !v.Waiting.Oldest.IsZero() || len(v.Waiting.Missing) != 0 || v.Stored != 0 {
		t.Errorf("empty: %+v", v.Waiting)
	}
	w.publish(t, "usage.events.api_calls.a", "{}")
	w.publish(t, "usage.events.api_calls.a", "{}")
	stored := w.info(t, UsageStream)
	for _, customer := range []string{"b", "c", "d", "e"} {
		w.publish(t, "usage.events.api_calls."+customer, "{}")
	}
	// A consumer counts what was stored a moment after the publisher's acknowledgement.
	eventually(t, "the consumers to count six", func() bool { return survey(t, s).Waiting.Ready == 6 })
	v := survey(t, s)
	if v.Waiting.Ready != 6 || v.Waiting.Unacked != 0 || v.Waiting.Oldest.After(stored.State.LastTime) || v.Stored != 6 || v.Partitions != 3 || v.Mode != "test" {
		t.Errorf("six wait: %+v", v)
	}
	settleFirst(t, w, 2)
	after := survey(t, s).Waiting
	if after.Ready+after.Unacked != 4 || !after.Oldest.After(stored.State.LastTime) {
		t.Errorf("the two oldest are acked: %+v, the second is of %s", after, stored.State.LastTime)
	}
	if err := w.js.DeleteConsumer(t.Context(), UsageStream, "worker-1"); err != nil {
		t.Fatal(err)
	}
	if v := survey(t, s); !slices.Equal(v.Waiting.Missing, []int{1}) {
		t.Errorf("without a consumer: %+v", v.Waiting)
	}
	var names []string
	for _, size := range v.Sizes {
		names = append(names, size.Stream)
	}
	if !slices.Equal(names, []string{UsageStream, JournalStream, DLQStream, AuditStream}) || v.Sizes[0].Messages != 6 || v.Sizes[0].MaxBytes <= 0 || v.Sizes[0].First.IsZero() || !v.Sizes[2].First.IsZero() {
		t.Errorf("sizes %+v", v.Sizes)
	}
}

// settleFirst acks the messages up to a sequence.
func settleFirst(t *testing.T, w *world, through uint64) {
	t.Helper()
	for _, name := range []string{"worker-0", "worker-1", "worker-2"} {
		consumer, err := w.js.Consumer(t.Context(), UsageStream, name)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := consumer.FetchNoWait(10)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream > through {
				continue
			}
			if err := m.DoubleAck(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The members' document outlives them: how old it is, by the server's own clock, tells.
func TestSurveyTellsTheLivingFromTheDead(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	if v := survey(t, s); len(v.Live()) != 0 || !slices.Equal(v.Unowned(), []int{0, 1, 2}) {
		t.Errorf("nobody: %+v", v)
	}
	a := join(t, s, "a")
	a.Owns(0, true)
	a.Owns(2, true)
	a.Shows(Showing{State: "closed", Reason: strings.Repeat("é", longestReason), Rate: 2.5, Held: 3, Ledger: 4, LedgerOf: 5})
	beat(t, a)
	v := survey(t, s)
	got := v.Live()["a"]
	if v.Silent > GoneAfter || !slices.Equal(v.Unowned(), []int{1}) || got.Rate != 2.5 || got.Held != 3 || got.Ledger != 4 || got.LedgerOf != 5 {
		t.Errorf("one: %+v", v)
	}
	if r := []rune(got.Reason); len(got.Reason) > longestReason+len("…") || r[0] != 'é' || r[len(r)-1] != '…' || strings.ContainsRune(got.Reason, '\uFFFD') {
		t.Errorf("reason %q", got.Reason)
	}
	v.Silent = GoneAfter + time.Millisecond
	if len(v.Live()) != 0 || len(v.Unowned()) != 3 {
		t.Errorf("silent: %+v", v.Live())
	}
}

// What is gone does not stop the look; it is named.
func TestSurveyOfWhatIsGone(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	watch := s.Continuity()
	if err := watch.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := watch.Note(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{JournalStream, DLQStream} {
		if err := w.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if v := survey(t, s); len(v.Findings) != 2 || len(v.Sizes) != 2 || len(v.Letters) != 0 {
		t.Errorf("findings %v, sizes %v", v.Findings, v.Sizes)
	}
}
