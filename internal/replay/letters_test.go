package replay

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

func TestFilters(t *testing.T) {
	b := newBench(t)
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	bury := func(reason deadletter.Reason, change func(*deadletter.Letter), text string) {
		l := letter(reason)
		l.DeadAt = noon
		change(&l)
		b.bury(l, text)
	}
	same := func(*deadletter.Letter) {}
	bury(deadletter.Rejected, func(l *deadletter.Letter) { l.Code = "no_meter" }, body)                                  // 1
	bury(deadletter.ServerError, func(l *deadletter.Letter) { l.Episode = "4"; l.DeadAt = noon.Add(time.Hour) }, body)   // 2
	bury(deadletter.Undecodable, func(l *deadletter.Letter) { l.Subject = "usage.events.other=20one.cus_2" }, "garbage") // 3
	bury(deadletter.SubjectMismatch, same, `{"event_name":"other one","payload":{"stripe_customer_id":"cus_3"}}`)        // 4
	bury(deadletter.Rejected, func(l *deadletter.Letter) { l.DeadAt = time.Time{} }, body)                               // 5: dates by when it was buried
	tests := []struct {
		name   string
		filter Filter
		want   []uint64
	}{
		{"all", Filter{}, []uint64{1, 2, 3, 4, 5}},
		{"limit", Filter{Limit: 2}, []uint64{1, 2}},
		{"limit of those selected", Filter{Limit: 1, EventName: "other one"}, []uint64{3}},
		{"through", Filter{Through: 3}, []uint64{1, 2, 3}},
		{"through, between two", Filter{Through: 3, Reasons: []deadletter.Reason{deadletter.Rejected}}, []uint64{1}},
		{"one reason", Filter{Reasons: []deadletter.Reason{deadletter.Rejected}}, []uint64{1, 5}},
		{"reasons, one twice", Filter{Reasons: []deadletter.Reason{deadletter.ServerError, deadletter.Undecodable, deadletter.ServerError}}, []uint64{2, 3}},
		{"reason without letters", Filter{Reasons: []deadletter.Reason{deadletter.Panic}}, []uint64{}},
		{"event name of body and of subject", Filter{EventName: "other one"}, []uint64{3, 4}},
		{"customer", Filter{Customer: "cus_1"}, []uint64{1, 2, 5}},
		{"customer of the subject", Filter{Customer: "cus_2"}, []uint64{3}},
		{"code", Filter{Code: "no_meter"}, []uint64{1}},
		{"episode", Filter{Episode: "4"}, []uint64{2}},
		{"text in the event name, whatever its case", Filter{Text: "OTHER"}, []uint64{3, 4}},
		{"text in the customer", Filter{Text: "us_1"}, []uint64{1, 2, 5}},
		{"text nowhere", Filter{Text: "garbage"}, []uint64{}},
		{"since, inclusive", Filter{Since: noon.Add(time.Hour)}, []uint64{2, 5}},
		{"until, exclusive", Filter{Until: noon.Add(time.Hour)}, []uint64{1, 3, 4}},
		{"both of two", Filter{Customer: "cus_1", Episode: "4"}, []uint64{2}},
		{"one of two", Filter{Customer: "cus_3", Episode: "4"}, []uint64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := b.ids(t.Context(), tt.filter); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// Page after page, with gaps, without a cap and without what dies meanwhile.
func TestEachReadsAllPages(t *testing.T) {
	b := newBench(t)
	const many = 1500
	for i := range many {
		l := letter(deadletter.Rejected)
		l.Identifier = numbered(i)
		b.bury(l, body)
	}
	if err := b.letters.dlq.DeleteMsg(t.Context(), 700); err != nil {
		t.Fatal(err)
	}
	var want []uint64
	for id := uint64(1); id <= many; id++ {
		if id != 700 {
			want = append(want, id)
		}
	}
	var got []uint64
	err := b.letters.Each(t.Context(), Filter{}, func(l Letter) error {
		if len(got) == 10 {
			b.bury(letter(deadletter.Rejected), body) // dies while it is read
		}
		got = append(got, l.ID)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d letters, %v; want %d, each once, in order", len(got), err, len(want))
	}
}

// Whoever scrolls for longer than the server keeps a reader loses nothing.
func TestEachGoesOnWithoutItsReader(t *testing.T) {
	b := newBench(t)
	const many = (2 + mostTries) * pageSize
	for range many {
		b.bury(letter(deadletter.Rejected), body)
	}
	var got []uint64
	err := b.letters.Each(t.Context(), Filter{}, func(l Letter) error {
		if got = append(got, l.ID); l.ID%pageSize == 1 {
			for name := range b.letters.dlq.ConsumerNames(t.Context()).Name() {
				if err := b.letters.dlq.DeleteConsumer(t.Context(), name); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil || len(got) != many || !slices.IsSorted(got) || len(slices.Compact(got)) != many {
		t.Errorf("%d letters, %v; want %d, each once, in order", len(got), err, many)
	}
}

// What is replayed leaves while it is read.
func TestEachWhileLettersLeave(t *testing.T) {
	b := newBench(t)
	const many = 2*pageSize + 10
	for range many {
		b.bury(letter(deadletter.Rejected), body)
	}
	seen := 0
	err := b.letters.Each(t.Context(), Filter{}, func(l Letter) error {
		if seen++; seen == 1 { // all after the first page
			for id := l.ID + pageSize; id <= many; id++ {
				if err := b.letters.dlq.DeleteMsg(t.Context(), id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil || seen < pageSize {
		t.Errorf("%d letters, %v; want %d at least", seen, err, pageSize)
	}
}

func TestEachEnds(t *testing.T) {
	b := newBench(t)
	if got := b.ids(t.Context(), Filter{}); len(got) != 0 {
		t.Errorf("letters %v of an empty stream", got)
	}
	for range 3 {
		b.bury(letter(deadletter.Rejected), body)
	}
	errEnough := errors.New("enough")
	if err := b.letters.Each(t.Context(), Filter{}, func(Letter) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Errorf("error %v, want the visit's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	err := b.letters.Each(ctx, Filter{}, func(Letter) error { seen++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("after cancelling: %d letters, %v", seen, err)
	}
}
