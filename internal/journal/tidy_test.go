package journal_test

import (
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

func TestIntentsArePurgedUpToTheOldestWithoutARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		for i := range 4 {
			o.intend(numbered(i))
		}
		left := func(want ...uint64) {
			t.Helper()
			pass(2 * journal.TidyAfter)
			var got []uint64
			for _, one := range sequences(stored(t, store, journal.IntentKind)) {
				got = append(got, one...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("intents %v are left, want %v", got, want)
			}
		}
		left(0, 1, 2, 3)
		o.record(as(numbered(1), journal.Delivered))
		left(0, 1, 2, 3)
		o.record(as(numbered(0), journal.NotSent))
		left(2, 3)
		o.record(letter(numbered(2), journal.Dying))
		left(3)
		o.client.SetFaults(func(c journaltest.Call) journaltest.Fault {
			return journaltest.Fault{Refuse: c.Op == journaltest.Purge}
		})
		o.record(doubt(numbered(3), time.Now()))
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
			return journaltest.Fault{Before: 50 * time.Millisecond}
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
		pass(5 * time.Minute)
		if n := purges.Load(); n < 45 {
			t.Errorf("purged %d times in five minutes, want one in 5 s", n)
		}
		if n := len(stored(t, store, journal.IntentKind)); n > 200 {
			t.Errorf("%d messages of intents are left of five minutes", n)
		}
		o.SetLimit(-1)
		pass(journal.TidyAfter + 10*time.Second)
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
		o.record(as(event, journal.Delivered), doubt(numbered(1), time.Now()))
		old := numbered(2)
		q := journal.Question{Sequence: old.Sequence, Key: event.Key, Fingerprint: 1, EventTime: time.Now()}
		pass(window - time.Hour)
		if v := o.Lookup(q).Verdict; v != journal.DeliveredBefore {
			t.Fatalf("inside the window: %s", v)
		}
		pass(26 * time.Hour)
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
				store.Inject(number, journal.DoneKind, journal.Packed(uint64(i), time.Now(), entries...))
				entries = entries[:0]
			}
		}
	}
	cfg := config()
	cfg.Limit = 70_000 * 21 // fewer identifiers than were filled in, more than are read at once
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
			pass(7 * 24 * time.Hour)
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
