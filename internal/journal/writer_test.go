package journal_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

// numbered is a message of its own.
func numbered(i int) journal.Entry {
	return journal.Entry{Sequence: uint64(i), Key: 1000 + uint64(i), Fingerprint: 1} //nolint:gosec // small
}

// single is a store that fails the test when two writes are in flight at once.
type single struct {
	journal.Store
	t     *testing.T
	inUse atomic.Int32
}

func (s *single) Append(ctx context.Context, partition int, kind journal.Kind, marker uint64, id string, data []byte) (journal.Appended, error) {
	if s.inUse.Add(1) > 1 {
		s.t.Error("two writes of one partition are in flight")
	}
	defer s.inUse.Add(-1)
	return s.Store.Append(ctx, partition, kind, marker, id, data) //nolint:wrapcheck // passed through
}

func TestWhatPilesUpDuringAWriteIsOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		slow := func(journaltest.Call) journaltest.Fault { return journaltest.Fault{Before: time.Second} }
		p, err := journal.Claim(t.Context(), &single{Store: store.Client(slow), t: t}, config(0), number)
		if err != nil {
			t.Fatal(err)
		}
		o := &owner{Partition: p, client: store.Client(nil)}
		defer func() { _ = p.Close(context.Background()) }()
		var done sync.WaitGroup
		done.Go(func() { o.intend(t, numbered(0)) })
		synctest.Wait() // the first one is under way
		for i := 1; i <= 50; i++ {
			done.Go(func() { o.intend(t, numbered(i)) })
			done.Go(func() { o.record(t, as(numbered(100+i), journal.Delivered)) })
		}
		began := time.Now()
		done.Wait()
		for kind, want := range map[journal.Kind][]int{journal.IntentKind: {1, 50}, journal.DoneKind: {50}} {
			var got []int
			for _, entries := range stored(t, store, kind) {
				got = append(got, len(entries))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: messages of %v entries, want %v", kind, got, want)
			}
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want three writes of a second", took)
		}
		if n := o.Open(); n != 51 {
			t.Errorf("%d intents are open, want 51", n)
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, always(journal.DoneKind, journaltest.Fault{Before: time.Second}))
		var done sync.WaitGroup
		for i := range 21 {
			e := as(numbered(i), journal.Dying)
			e.Letter = make([]byte, 60<<10)
			done.Go(func() { o.record(t, e) })
			synctest.Wait()
		}
		done.Wait()
		messages := 0
		for _, m := range store.Stored(number) {
			if m.Kind == journal.DoneKind {
				messages++
				if len(m.Data) > journal.MaxPacked+64 {
					t.Errorf("a message of %d bytes", len(m.Data))
				}
			}
		}
		if messages != 6 { // the first alone, then four at a time
			t.Errorf("%d messages, want 6", messages)
		}
		next := claim(t, store, nil)
		for i := range 21 {
			next.expect(t, numbered(i), journal.Fresh, false) // under another body
			q := question(numbered(i))
			q.Body = q.Key
			if v := next.Lookup(q).Verdict; v != journal.IsDying {
				t.Errorf("letter %d: %s", i, v)
			}
		}
	})
}

func TestWhatCannotBeStoredIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		huge := as(event, journal.Dying)
		huge.Letter = bytes.Repeat([]byte{1}, journal.MaxPacked)
		for name, e := range map[string]journal.Entry{
			"too large": huge, "an intent": as(event, journal.Open), "no state": event, "an unknown state": as(event, journal.Dead+1),
		} {
			if err := o.Record(t.Context(), as(event, journal.Delivered), e); err == nil {
				t.Errorf("%s was recorded", name)
			}
		}
		expectStored(t, store, journal.DoneKind, 0)
		o.expect(t, event, journal.Fresh, false)
		o.record(t, as(event, journal.Delivered)) // it goes on
	})
}

// The entries of one call are together in one message, the doubt before the letter.
func TestUnknownSurvivesARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		t0 := o.intend(t, event)
		time.Sleep(time.Hour)
		o.record(t, doubt(event, o.Stamp(t0)), letter(event, journal.Dying))
		messages := stored(t, store, journal.DoneKind)
		if len(messages) != 1 || len(messages[0]) != 2 || messages[0][0].State != journal.Unknown || messages[0][1].State != journal.Dying {
			t.Fatalf("stored: %+v", messages)
		}
		o.record(t, letter(event, journal.Dead))
		expectAge(t, o.expect(t, replay, journal.Fresh, true).Oldest, time.Hour)
		time.Sleep(30 * time.Hour)
		expectAge(t, claim(t, store, nil).expect(t, replay, journal.Fresh, true).Oldest, 31*time.Hour)
	})
}

func TestAdoptedIntentsHaveTheOlderOfBothClocks(t *testing.T) {
	for name, skew := range map[string]time.Duration{"in step": 0, "server ahead": 2 * time.Hour, "server behind": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				store.SetSkew(skew)
				first := claim(t, store, nil)
				at := time.Now()
				for i := range 3 {
					first.intend(t, numbered(i))
				}
				first.record(t, as(numbered(1), journal.Delivered))
				first.die()
				time.Sleep(time.Hour)
				second := claim(t, store, nil)
				want := at.Add(min(skew, 0)).Truncate(time.Millisecond)
				adopted := stored(t, store, journal.DoneKind)[1]
				if len(adopted) != 2 || adopted[0].Sequence != 0 || adopted[1].Sequence != 2 {
					t.Fatalf("adopted: %+v", adopted)
				}
				for _, e := range adopted {
					if e.State != journal.Unknown || !e.T0.Equal(want) || e.Key != numbered(int(e.Sequence)).Key || e.Fingerprint != 1 { //nolint:gosec // small
						t.Errorf("adopted as %+v, want unknown since %v", e, want)
					}
				}
				if n := second.Open(); n != 0 {
					t.Errorf("%d intents are open", n)
				}
				age := second.expect(t, numbered(0), journal.Fresh, true).Oldest.Age(time.Now())
				if age < time.Hour || age > 3*time.Hour+time.Second {
					t.Errorf("age %v after an hour and a clock that is 2 h off", age)
				}
				time.Sleep(time.Minute) // purged
				expectStored(t, store, journal.IntentKind, 0)
				claim(t, store, nil).expect(t, numbered(2), journal.Fresh, true)
			})
		})
	}
}

// An attempt is as old as it is, however long its owner has had the partition.
func TestAgesAfterALongOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		time.Sleep(30 * time.Hour)
		t0 := o.intend(t, event)
		expectAge(t, t0, 0)
		time.Sleep(time.Hour)
		o.record(t, doubt(event, o.Stamp(t0)))
		expectAge(t, o.expect(t, event, journal.Fresh, true).Oldest, time.Hour)
		time.Sleep(time.Hour)
		expectAge(t, claim(t, store, nil).expect(t, event, journal.Fresh, true).Oldest, 2*time.Hour)
	})
}

// Somebody began to send, and came back without a record.
func TestAnIntentWithoutARecordIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		o.intend(t, event)
		time.Sleep(20 * time.Hour)
		if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrUnresolved) {
			t.Fatalf("a second intent: %v, want ErrUnresolved", err)
		}
		expectAge(t, o.expect(t, replay, journal.Fresh, true).Oldest, 20*time.Hour)
		o.intend(t, event)
		o.record(t, as(event, journal.NotSent))
		time.Sleep(time.Minute)
		for range 2 {
			expectAge(t, o.expect(t, event, journal.Fresh, true).Oldest, 20*time.Hour+time.Minute)
			o = claim(t, store, nil)
		}
	})
}

func TestTwoIntentsOfOneSequenceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, always(journal.IntentKind, journaltest.Fault{Before: time.Second}))
		other := started(func() error { _, err := o.Intend(context.Background(), numbered(1)); return err })
		one := started(func() error { _, err := o.Intend(context.Background(), event); return err })
		two := started(func() error { _, err := o.Intend(context.Background(), event); return err })
		if err := <-other; err != nil {
			t.Error(err)
		}
		if a, b := <-one, <-two; a != nil || !errors.Is(b, journal.ErrUnresolved) {
			t.Errorf("%v and %v, want one that may send and one that may not", a, b)
		}
		if n := o.Open(); n != 2 {
			t.Errorf("%d open, want 2", n)
		}
		o.expect(t, event, journal.Fresh, false)
	})
}

func TestIntentsArePurgedUpToTheOldestWithoutARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		for i := range 4 {
			o.intend(t, numbered(i))
		}
		left := func(want ...uint64) {
			t.Helper()
			time.Sleep(2 * journal.TidyAfter)
			var got []uint64
			for _, one := range sequences(stored(t, store, journal.IntentKind)) {
				got = append(got, one...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("intents %v are left, want %v", got, want)
			}
		}
		left(0, 1, 2, 3)
		o.record(t, as(numbered(1), journal.Delivered))
		left(0, 1, 2, 3)
		o.record(t, as(numbered(0), journal.NotSent))
		left(2, 3)
		o.record(t, letter(numbered(2), journal.Dying))
		left(3)
		o.client.SetFaults(func(c journaltest.Call) journaltest.Fault { return journaltest.Fault{Refuse: c.Op == journaltest.Purge} })
		o.record(t, doubt(numbered(3), time.Now()))
		left(3)
		o.client.SetFaults(nil)
		left()
		next := claim(t, store, nil)
		for i, unknown := range []bool{false, false, false, true} {
			verdict := journal.Fresh
			if i == 1 {
				verdict = journal.WasDelivered
			}
			q := question(numbered(i))
			q.Body = 0
			if known := next.Lookup(q); known.Verdict != verdict || known.Unknown != unknown {
				t.Errorf("sequence %d: %s, unknown %t", i, known.Verdict, known.Unknown)
			}
		}
	})
}

// A partition that is never idle is purged and held to its limit like any other.
func TestUpkeepUnderConstantLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		var purges atomic.Int32
		o := claim(t, store, func(c journaltest.Call) journaltest.Fault {
			if c.Op == journaltest.Purge {
				purges.Add(1)
			}
			return journaltest.Fault{Before: 10 * time.Millisecond}
		})
		var load sync.WaitGroup
		for worker := range 8 {
			load.Go(func() {
				for i := worker; ; i += 8 {
					if _, err := o.Intend(t.Context(), numbered(i)); err != nil {
						return
					}
					if o.Record(t.Context(), as(numbered(i), journal.NotSent)) != nil {
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Minute)
		if n := purges.Load(); n < 45 {
			t.Errorf("purged %d times in five minutes, want one in 5 s", n)
		}
		if n := len(stored(t, store, journal.IntentKind)); n > 600 {
			t.Errorf("%d messages of intents are left of five minutes", n)
		}
		o.SetLimit(-1)
		time.Sleep(journal.TidyAfter + 10*time.Second)
		load.Wait()
		if err := o.Err(); !errors.Is(err, journal.ErrMemory) {
			t.Errorf("%v, want ErrMemory", err)
		}
	})
}

func TestTheLedgerIsTidiedEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		o.record(t, as(event, journal.Delivered), doubt(numbered(1), time.Now()))
		old := numbered(2)
		q := journal.Question{Sequence: old.Sequence, Key: event.Key, Fingerprint: 1, EventTime: time.Now()}
		time.Sleep(window - time.Hour)
		if v := o.Lookup(q).Verdict; v != journal.DeliveredBefore {
			t.Fatalf("inside the window: %s", v)
		}
		time.Sleep(26 * time.Hour)
		if v := o.Lookup(q).Verdict; v != journal.Forgotten {
			t.Errorf("past the window: %s, want %s", v, journal.Forgotten)
		}
		if size, n := o.Ledger.Size(); size != 0 || n != 0 {
			t.Errorf("%d bytes and %d identifiers are left", size, n)
		}
	})
}

func TestClaimHoldsTheLedgerToItsLimit(t *testing.T) {
	fill := func(t *testing.T, store *journaltest.Store) {
		t.Helper()
		claim(t, store, nil).die()
		entries := make([]journal.Entry, 0, 9000)
		for i := range 9 * cap(entries) {
			entries = append(entries, as(numbered(i), journal.Delivered))
			if len(entries) == cap(entries) {
				store.Inject(number, journal.DoneKind, journal.Packed(uint64(i), time.Now(), entries...)) //nolint:gosec // small
				entries = entries[:0]
			}
		}
	}
	cfg := config(0)
	cfg.Limit = 50_000 * 40 // fewer identifiers than were filled in, more than are read at once
	if 9*9000 < journal.TidyEvery {
		t.Fatal("too few entries to have the ledger tidied while it is read")
	}
	t.Run("of today", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := journaltest.New()
			fill(t, store)
			if _, err := journal.Claim(t.Context(), store.Client(nil), cfg, number); !errors.Is(err, journal.ErrMemory) {
				t.Errorf("%v, want ErrMemory", err)
			}
		})
	})
	t.Run("of last week", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := journaltest.New()
			fill(t, store)
			then := time.Now()
			time.Sleep(7 * 24 * time.Hour)
			p, err := journal.Claim(t.Context(), store.Client(nil), cfg, number)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(t.Context()) }()
			q := question(numbered(3))
			q.Sequence, q.EventTime = 1<<40, then
			if v := p.Lookup(q).Verdict; v != journal.Forgotten {
				t.Errorf("%s, want %s", v, journal.Forgotten)
			}
		})
	})
}

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
			next.expect(t, numbered(i), journal.WasDelivered, false)
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
		o.expect(t, event, journal.Fresh, false)
		time.Sleep(2 * time.Minute)
		o.expect(t, event, journal.WasDelivered, false)
	})
}

func TestNamesOfALife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first, second := claim(t, store, nil), claim(t, store, nil) // at the very same time
		if first.Life() == second.Life() {
			t.Errorf("two lives are called %q", first.Life())
		}
		if n := len(first.Life()); n > 100 || first.Number() != number {
			t.Errorf("a life's name of %d characters, partition %d", n, first.Number())
		}
	})
}
