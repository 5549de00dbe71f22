package journal_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

func TestCloseWritesWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, always(journal.DoneKind, journaltest.Fault{Before: time.Second}))
		var results []<-chan error
		for i := range 10 {
			results = append(results, started(func() error { return o.Record(context.Background(), as(numbered(i), journal.Delivered)) }))
		}
		if err := o.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, result := range results {
			if err := <-result; err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		}
		<-o.Lost()
		if err := o.Err(); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
		if err := o.Record(t.Context(), as(event, journal.Delivered)); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("recorded after the end: %v", err)
		}
		if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("intended after the end: %v", err)
		}
		if err := o.Close(t.Context()); err != nil {
			t.Errorf("closed twice: %v", err)
		}
		next := claim(t, store, nil)
		for i := range 10 {
			next.expect(numbered(i), journal.WasDelivered, false)
		}
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, always(journal.DoneKind, journaltest.Fault{Refuse: true, After: time.Second}))
		result := started(func() error { return o.Record(context.Background(), as(event, journal.Delivered)) })
		queued := started(func() error { return o.Record(context.Background(), as(replay, journal.Delivered)) })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := o.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if a, b := <-result, <-queued; a == nil || b == nil {
			t.Errorf("answered %v and %v, although nothing was stored", a, b)
		}
	})
}

// Whoever waits with a deadline is let go; what it asked for may still happen.
func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, always(journal.DoneKind, journaltest.Fault{Before: time.Minute}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.Record(ctx, as(event, journal.Delivered)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		o.expect(event, journal.Fresh, false)
		pass(2 * time.Minute)
		o.expect(event, journal.WasDelivered, false)
	})
}
