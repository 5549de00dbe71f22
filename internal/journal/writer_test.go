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
	return journal.Entry{Sequence: uint64(i), Key: 1000 + uint64(i), Fingerprint: 1}
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
	return s.Store.Append(ctx, partition, kind, marker, id, data) // passed through
}

func TestWhatPilesUpDuringAWriteIsOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		slow := func(journaltest.Call) journaltest.Fault { return journaltest.Fault{Before: time.Second} }
		p, err := journal.Claim(t.Context(), &single{Store: store.Client(slow), t: t}, config(), number)
		if err != nil {
			t.Fatal(err)
		}
		o := &owner{Partition: p, t: t}
		defer func() { _ = p.Close(context.Background()) }()
		var done sync.WaitGroup
		done.Go(func() { o.intend(numbered(0)) })
		synctest.Wait() // the first one is under way
		for i := 1; i <= 50; i++ {
			done.Go(func() { o.intend(numbered(i)) })
			done.Go(func() { o.record(as(numbered(100+i), journal.Delivered)) })
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
			done.Go(func() { o.record(e) })
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
			next.expect(numbered(i), journal.Fresh, false) // under another body
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
		o.expect(event, journal.Fresh, false)
		o.record(as(event, journal.Delivered)) // it goes on
	})
}

// The entries of one call are together in one message, the doubt before the letter.
func TestUnknownSurvivesARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		t0 := o.intend(event)
		pass(time.Hour)
		o.record(doubt(event, o.Stamp(t0)), letter(event, journal.Dying))
		messages := stored(t, store, journal.DoneKind)
		if len(messages) != 1 || len(messages[0]) != 2 || messages[0][0].State != journal.Unknown || messages[0][1].State != journal.Dying {
			t.Fatalf("stored: %+v", messages)
		}
		o.record(letter(event, journal.Dead))
		expectAge(t, o.expect(replay, journal.Fresh, true).Oldest, time.Hour)
		pass(30 * time.Hour)
		expectAge(t, claim(t, store, nil).expect(replay, journal.Fresh, true).Oldest, 31*time.Hour)
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
					first.intend(numbered(i))
				}
				first.record(as(numbered(1), journal.Delivered))
				first.die()
				pass(time.Hour)
				second := claim(t, store, nil)
				want := at.Add(min(skew, 0)).Truncate(time.Millisecond)
				adopted := stored(t, store, journal.DoneKind)[1]
				if len(adopted) != 2 || adopted[0].Sequence != 0 || adopted[1].Sequence != 2 {
					t.Fatalf("adopted: %+v", adopted)
				}
				for _, e := range adopted {
					if e.State != journal.Unknown || !e.T0.Equal(want) || e.Key != numbered(int(e.Sequence)).Key || e.Fingerprint != 1 {
						t.Errorf("adopted as %+v, want unknown since %v", e, want)
					}
				}
				if n := second.Open(); n != 0 {
					t.Errorf("%d intents are open", n)
				}
				age := second.expect(numbered(0), journal.Fresh, true).Oldest.Age(time.Now())
				if age < time.Hour || age > 3*time.Hour+time.Second {
					t.Errorf("age %v after an hour and a clock that is 2 h off", age)
				}
				pass(time.Minute) // purged
				expectStored(t, store, journal.IntentKind, 0)
				claim(t, store, nil).expect(numbered(2), journal.Fresh, true)
			})
		})
	}
}

// Two intents of one sequence, as after an answer "duplicate": the older counts.
func TestTheOldestIntentIsAdopted(t *testing.T) {
	for name, order := range map[string][2]time.Duration{"older first": {5 * time.Hour, time.Hour}, "older last": {time.Hour, 5 * time.Hour}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				pass(10 * time.Hour)
				claim(t, store, nil).die()
				for i, ago := range order {
					store.Inject(number, journal.IntentKind, journal.Packed(uint64(i)+1, time.Now().Add(-ago), as(event, journal.Open)))
				}
				expectAge(t, claim(t, store, nil).expect(event, journal.Fresh, true).Oldest, 5*time.Hour)
			})
		})
	}
}

// An attempt is as old as it is, however long its owner has had the partition.
func TestAgesAfterALongOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		pass(30 * time.Hour)
		t0 := o.intend(event)
		expectAge(t, t0, 0)
		pass(time.Hour)
		o.record(doubt(event, o.Stamp(t0)))
		expectAge(t, o.expect(event, journal.Fresh, true).Oldest, time.Hour)
		pass(time.Hour)
		expectAge(t, claim(t, store, nil).expect(event, journal.Fresh, true).Oldest, 2*time.Hour)
	})
}

// Somebody began to send, and came back without a record.
func TestAnIntentWithoutARecordIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		o.intend(event)
		pass(20 * time.Hour)
		if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrUnresolved) {
			t.Fatalf("a second intent: %v, want ErrUnresolved", err)
		}
		expectAge(t, o.expect(replay, journal.Fresh, true).Oldest, 20*time.Hour)
		o.intend(event)
		o.record(as(event, journal.NotSent))
		pass(time.Minute)
		for range 2 {
			expectAge(t, o.expect(event, journal.Fresh, true).Oldest, 20*time.Hour+time.Minute)
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
		o.expect(event, journal.Fresh, false)
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
