package journal_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

func expectLost(t *testing.T, o *owner) {
	t.Helper()
	select {
	case <-o.Lost():
	default:
		t.Fatal("Lost is not closed")
	}
	if err := o.Err(); !errors.Is(err, journal.ErrLost) || errors.Is(err, journal.ErrClosed) {
		t.Errorf("Err: %v", err)
	}
	for name, f := range map[string]func() error{
		"Intend": func() error { _, err := o.Intend(t.Context(), event); return err },
		"Record": func() error { return o.Record(t.Context(), as(event, journal.Delivered)) },
	} {
		if err := f(); !errors.Is(err, journal.ErrLost) || errors.Is(err, journal.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheFormerOwnerCanStoreNothing(t *testing.T) {
	for name, write := range map[string]func(*owner) error{
		"Intend": func(o *owner) error { _, err := o.Intend(context.Background(), event); return err },
		"Record": func(o *owner) error { return o.Record(context.Background(), as(event, journal.Delivered)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				first := claim(t, store, nil)
				second := claim(t, store, nil)
				if err := first.Err(); err != nil {
					t.Fatalf("the first owner knows already: %v", err)
				}
				if err := write(first); !errors.Is(err, journal.ErrLost) {
					t.Errorf("%v, want ErrLost", err)
				}
				expectLost(t, first)
				expectStored(t, store, journal.IntentKind, 0)
				expectStored(t, store, journal.DoneKind, 0)
				second.expect(event, journal.Fresh, false)
				second.intend(event)
			})
		})
	}
}

// A write that was under way when the partition was taken arrives after the marker.
func TestAWriteUnderWayAtTheTakeOverIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first := claim(t, store, always(journal.IntentKind, journaltest.Fault{Before: time.Minute}))
		result := started(func() error { _, err := first.Intend(context.Background(), event); return err })
		second := claim(t, store, nil)
		if err := <-result; !errors.Is(err, journal.ErrLost) {
			t.Errorf("%v, want ErrLost", err)
		}
		expectLost(t, first)
		expectStored(t, store, journal.IntentKind, 0)
		second.expect(event, journal.Fresh, false)
	})
}

// "Duplicate" says that the intent is stored, not that we still own the partition.
func TestAnIntentAnsweredDuplicateIsWrittenAgain(t *testing.T) {
	lost := journaltest.Fault{Lose: true, After: 10 * time.Second}
	t.Run("still the owner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := journaltest.New()
			o := claim(t, store, nth(journal.IntentKind, 1, lost))
			expectAge(t, o.intend(event), 10*time.Second)
			if got := sequences(stored(t, store, journal.IntentKind)); len(got) != 2 || !slices.Equal(got[0], got[1]) {
				t.Errorf("stored intents: %v, want the same twice", got)
			}
			o.record(as(event, journal.NotSent))
			o.die()
			claim(t, store, nil).expect(event, journal.Fresh, false)
		})
	})
	t.Run("lost meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := journaltest.New()
			first := claim(t, store, nth(journal.IntentKind, 1, lost))
			result := started(func() error { _, err := first.Intend(context.Background(), event); return err })
			pass(time.Second)
			second := claim(t, store, nil)
			if err := <-result; !errors.Is(err, journal.ErrLost) {
				t.Errorf("%v, want ErrLost: somebody else owns it", err)
			}
			second.expect(event, journal.Fresh, true) // what we cannot know is taken for sent
		})
	})
}

func TestRecordsAreIdempotent(t *testing.T) {
	tests := map[string]struct {
		silence time.Duration
		stored  int
	}{
		"answer lost": {time.Second, 1},
		"answer lost, server away for ten minutes": {10 * time.Minute, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				o := claim(t, store, nth(journal.DoneKind, 1, journaltest.Fault{Lose: true, After: test.silence}))
				t0 := o.intend(event)
				o.record(doubt(event, o.Stamp(t0)), letter(event, journal.Dying))
				expectStored(t, store, journal.DoneKind, test.stored)
				o.expect(event, journal.IsDying, false)
				o.record(letter(event, journal.Dead))
				size, _ := o.Ledger.Size()
				next := claim(t, store, nil)
				next.expect(event, journal.WasBuried, false)
				expectAge(t, next.expect(replay, journal.Fresh, true).Oldest, test.silence)
				if again, _ := next.Ledger.Size(); again != size {
					t.Errorf("the ledger that was read takes %d bytes, the one that was written %d", again, size)
				}
			})
		})
	}
}

// A copy that the network kept for longer than the server remembers ids.
func TestLateCopiesArePassedOver(t *testing.T) {
	late := journaltest.Fault{Copy: 3 * time.Minute}
	tests := []struct {
		name   string
		faults func(journaltest.Call) journaltest.Fault
		do     func(o *owner)
		kind   journal.Kind
		check  func(o *owner)
	}{
		{
			"of an intent", nth(journal.IntentKind, 1, late),
			func(o *owner) { o.intend(event); o.record(as(event, journal.NotSent)) },
			journal.IntentKind,
			func(o *owner) { o.expect(event, journal.Fresh, false) },
		},
		{
			"of a dying letter", nth(journal.DoneKind, 1, late),
			func(o *owner) {
				o.record(letter(event, journal.Dying))
				o.record(letter(event, journal.Dead))
			},
			journal.DoneKind,
			func(o *owner) { o.expect(event, journal.WasBuried, false) },
		},
		{
			"of a not-sent", nth(journal.DoneKind, 1, late),
			func(o *owner) {
				o.intend(event)
				o.record(as(event, journal.NotSent))
				o.intend(event)
			},
			journal.DoneKind,
			func(o *owner) { o.expect(event, journal.Fresh, true) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				o := claim(t, store, test.faults)
				test.do(o)
				pass(10 * time.Second) // purged
				before := len(stored(t, store, test.kind))
				o.client.SetFaults(func(journaltest.Call) journaltest.Fault { return journaltest.Fault{Refuse: true} })
				pass(5 * time.Minute)
				expectStored(t, store, test.kind, before+1)
				test.check(claim(t, store, nil))
			})
		})
	}
}

func TestALateCopyFromBeforeTheMarkerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first := claim(t, store, nth(journal.IntentKind, 1, journaltest.Fault{Copy: 3 * time.Minute}))
		first.intend(event)
		first.record(as(event, journal.NotSent))
		claim(t, store, nil)
		pass(5 * time.Minute)
		expectStored(t, store, journal.IntentKind, 0)
		claim(t, store, nil).expect(event, journal.Fresh, false)
	})
}

func TestTheMarkerIsRenewedUnderTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		o.intend(event)
		pass(journal.RemarkAfter - time.Minute)
		expectStored(t, store, journal.OwnerKind, 1)
		pass(5 * time.Minute)
		expectStored(t, store, journal.OwnerKind, 2)
		pass(journaltest.MaxAge) // the first markers are gone
		o.record(as(event, journal.Delivered))
		second := claim(t, store, nil)
		second.expect(event, journal.WasDelivered, false)
		if _, err := o.Intend(t.Context(), replay); !errors.Is(err, journal.ErrLost) {
			t.Errorf("after a take-over: %v, want ErrLost", err)
		}
	})
}

// A former owner does not renew its marker over its successor's.
func TestAFormerOwnerDoesNotRenewItsMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first := claim(t, store, nil)
		pass(time.Hour)
		second := claim(t, store, nil)
		pass(journal.RemarkAfter - 30*time.Minute)
		expectLost(t, first)
		expectStored(t, store, journal.OwnerKind, 2)
		second.intend(event)
	})
}

// The ordinals go on after a renewed marker, and a copy from before it is refused.
func TestARenewedMarkerWithALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nth(journal.OwnerKind, 2, journaltest.Fault{Lose: true}))
		o.intend(event)
		pass(journal.RemarkAfter + 10*time.Minute)
		expectStored(t, store, journal.OwnerKind, 2)
		o.record(as(event, journal.Delivered))
		claim(t, store, nil).expect(event, journal.WasDelivered, false)
	})
}

func TestAMarkerThatIsGoneEndsTheOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		o := claim(t, store, nil)
		store.Drop(number, store.Stored(number)[0].Sequence)
		if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrLost) {
			t.Errorf("%v, want ErrLost", err)
		}
		expectLost(t, o)
	})
}

func TestAMarkerThatAgedOutEndsTheOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		// The server answers nothing for longer than it keeps the marker.
		began := time.Now()
		o := claim(t, store, func(c journaltest.Call) journaltest.Fault {
			away := c.Op != journaltest.Mark && c.Op != journaltest.Read && time.Since(began) < journaltest.MaxAge+time.Hour
			return journaltest.Fault{Refuse: away, After: map[bool]time.Duration{true: time.Hour}[away]}
		})
		if _, err := o.Intend(t.Context(), event); !errors.Is(err, journal.ErrLost) {
			t.Errorf("%v, want ErrLost", err)
		}
		expectLost(t, o)
		claim(t, store, nil).intend(event)
	})
}

func TestAnUnknownFormatRefusesTheClaim(t *testing.T) {
	future := journal.Packed(1, time.Now(), as(event, journal.Delivered))
	future[0]++
	tests := map[string]struct {
		kind journal.Kind
		data []byte
	}{
		"record of another version": {journal.DoneKind, future},
		"intent of another version": {journal.IntentKind, future},
		"empty record":              {journal.DoneKind, nil},
		"marker of another version": {journal.OwnerKind, []byte(`{"version":2}`)},
		"marker without a version":  {journal.OwnerKind, []byte(`{}`)},
		"marker that is no JSON":    {journal.OwnerKind, []byte(`owner`)},
		"a kind of the future":      {"plan", []byte(`{}`)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				store.Inject(number, test.kind, test.data)
				began := time.Now()
				_, err := journal.Claim(t.Context(), store.Client(nil), config(), number)
				if !errors.Is(err, journal.ErrFormat) || time.Since(began) != 0 {
					t.Errorf("%v after %v, want ErrFormat at once", err, time.Since(began))
				}
			})
		})
	}
}
