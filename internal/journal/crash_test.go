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

// replay is another message with the same identifier and content.
var replay = journal.Entry{Sequence: 9, Key: event.Key, Fingerprint: event.Fingerprint}

// Every line of "Crash points" in the package comment: the owner dies there, five
// hours pass, another one takes the partition.
func TestCrashPoints(t *testing.T) {
	const later = 5 * time.Hour
	tests := []struct {
		name   string
		faults func(journaltest.Call) journaltest.Fault
		before func(o *owner) // the owner's last deeds
		after  func(o *owner) // what the next one finds
	}{
		{
			name:   "before the intent was stored",
			faults: always(journal.IntentKind, journaltest.Fault{Refuse: true}),
			before: func(o *owner) {
				result := started(func() error { _, err := o.Intend(context.Background(), event); return err })
				o.die()
				if err := <-result; err == nil {
					o.t.Error("Intend returned without an error, although nothing is stored")
				}
			},
			after: func(o *owner) { o.expect(event, journal.Fresh, false) },
		},
		{
			name:   "intent stored, the answer on its way",
			faults: always(journal.IntentKind, journaltest.Fault{After: time.Hour}),
			before: func(o *owner) {
				result := started(func() error { _, err := o.Intend(context.Background(), event); return err })
				o.die()
				if err := <-result; err == nil {
					o.t.Error("Intend returned without an error, although no answer came")
				}
			},
			after: func(o *owner) {
				expectAge(o.t, o.expect(event, journal.Fresh, true).Oldest, later)
			},
		},
		{
			name:   "intent stored, not yet sent; or sent, answer not recorded",
			before: func(o *owner) { o.intend(event) },
			after: func(o *owner) {
				known := o.expect(event, journal.Fresh, true)
				expectAge(o.t, known.Oldest, later)
				if !known.SameContent || known.OtherContent {
					o.t.Errorf("same content %t, other content %t", known.SameContent, known.OtherContent)
				}
				o.expect(replay, journal.Fresh, true)
			},
		},
		{
			name: "delivered recorded, not acked",
			before: func(o *owner) {
				o.intend(event)
				o.record(as(event, journal.Delivered))
			},
			after: func(o *owner) {
				o.expect(event, journal.WasDelivered, false)
				o.expect(replay, journal.DeliveredBefore, false)
			},
		},
		{
			name: "unknown and dying recorded, not published; or published, dead not recorded",
			before: func(o *owner) {
				t0 := o.intend(event)
				o.record(doubt(event, o.Stamp(t0)), letter(event, journal.Dying))
			},
			after: func(o *owner) {
				known := o.expect(event, journal.IsDying, false)
				if string(known.Letter) != "the letter" {
					o.t.Errorf("letter %q", known.Letter)
				}
				expectAge(o.t, known.DyingAt, later)
				expectAge(o.t, o.expect(replay, journal.Fresh, true).Oldest, later)
			},
		},
		{
			name: "dead recorded, not acked",
			before: func(o *owner) {
				t0 := o.intend(event)
				o.record(doubt(event, o.Stamp(t0)), letter(event, journal.Dying))
				o.record(letter(event, journal.Dead))
			},
			after: func(o *owner) {
				o.expect(event, journal.WasBuried, false)
				expectAge(o.t, o.expect(replay, journal.Fresh, true).Oldest, later)
			},
		},
		{
			name: "refused and buried without a doubt",
			before: func(o *owner) {
				o.intend(event)
				o.record(letter(event, journal.Dying))
				o.record(letter(event, journal.Dead))
			},
			after: func(o *owner) {
				o.expect(event, journal.WasBuried, false)
				o.expect(replay, journal.Fresh, false)
			},
		},
		{
			name: "not-sent recorded, not handed back",
			before: func(o *owner) {
				o.intend(event)
				o.record(as(event, journal.NotSent))
			},
			after: func(o *owner) { o.expect(event, journal.Fresh, false) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				first := claim(t, store, test.faults)
				test.before(first)
				first.die()
				pass(later)
				test.after(claim(t, store, nil))
				test.after(claim(t, store, nil)) // what was adopted is found again
			})
		})
	}
}

func TestCrashBetweenMarkerAndReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		claim(t, store, nil).intend(event)
		client := store.Client(func(c journaltest.Call) journaltest.Fault {
			return journaltest.Fault{Refuse: c.Op == journaltest.Read}
		})
		result := started(func() error {
			_, err := journal.Claim(context.Background(), client, config(), number)
			return err
		})
		client.Crash()
		if err := <-result; err == nil {
			t.Fatal("claimed, although the journal cannot be read")
		}
		expectStored(t, store, journal.OwnerKind, 2)
		claim(t, store, nil).expect(event, journal.Fresh, true)
	})
}

func TestCrashWhileAdopting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		claim(t, store, nil).intend(event)
		pass(time.Hour)
		client := store.Client(always(journal.DoneKind, journaltest.Fault{Refuse: true}))
		result := started(func() error {
			_, err := journal.Claim(context.Background(), client, config(), number)
			return err
		})
		client.Crash()
		if err := <-result; err == nil {
			t.Fatal("claimed, although nothing could be adopted")
		}
		pass(time.Hour)
		expectAge(t, claim(t, store, nil).expect(event, journal.Fresh, true).Oldest, 2*time.Hour)
	})
}

func TestALetterIsFinishedByTheNextOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first := claim(t, store, nil)
		first.record(letter(event, journal.Dying))
		first.die()
		second := claim(t, store, nil)
		second.expect(event, journal.IsDying, false)
		second.record(letter(event, journal.Dead))
		second.expect(event, journal.WasBuried, false)
		claim(t, store, nil).expect(event, journal.WasBuried, false)
	})
}

// A claim that ended while it adopted leaves no writer behind.
func TestClaimEndsWithItsContext(t *testing.T) {
	for name, faults := range map[string]func(journaltest.Call) journaltest.Fault{
		"marking":  func(c journaltest.Call) journaltest.Fault { return journaltest.Fault{Refuse: c.Op == journaltest.Mark} },
		"reading":  func(c journaltest.Call) journaltest.Fault { return journaltest.Fault{Lose: c.Op == journaltest.Read} },
		"adopting": always(journal.DoneKind, journaltest.Fault{Refuse: true}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := journaltest.New()
				claim(t, store, nil).intend(event)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				_, err := journal.Claim(ctx, store.Client(faults), config(), number)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}

func TestClaimSurvivesLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		first := claim(t, store, nil)
		first.intend(event)
		first.record(as(event, journal.Delivered))
		other := journal.Entry{Sequence: 6, Key: 78}
		first.intend(other)
		calls := map[journaltest.Op]int{}
		second := claim(t, store, func(c journaltest.Call) journaltest.Fault {
			calls[c.Op]++
			return journaltest.Fault{Lose: calls[c.Op] <= 2}
		})
		second.expect(event, journal.WasDelivered, false)
		second.expect(other, journal.Fresh, true)
		second.intend(journal.Entry{Sequence: 7, Key: 79})
		expectStored(t, store, journal.OwnerKind, 2)
	})
}

// A server that is away for longer than it remembers ids gets a second marker.
func TestClaimSurvivesAnOutageLongerThanTheDuplicateWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		began := time.Now()
		o := claim(t, store, func(c journaltest.Call) journaltest.Fault {
			away := time.Since(began) < 10*time.Minute
			return journaltest.Fault{Lose: away && c.N == 1, Refuse: away && c.N > 1}
		})
		expectStored(t, store, journal.OwnerKind, 2)
		expectAge(t, o.intend(event), 0)
		o.record(doubt(event, time.Now()))
		// The claim began ten minutes ago; what is attempted now is not that old.
		if age := o.expect(event, journal.Fresh, true).Oldest.Age(time.Now()); age > time.Minute+5*time.Second {
			t.Errorf("an attempt of this very moment is %v old", age)
		}
	})
}

// A message that a person replayed with "accept double billing".
func TestForgiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := journaltest.New()
		claim(t, store, nil).intend(event)
		pass(30 * time.Hour)
		second := claim(t, store, nil)
		q := question(replay)
		q.Forgive = time.Now()
		if known := second.Lookup(q); known.Unknown || !known.SameContent {
			t.Errorf("the replay's own look-up: %+v", known)
		}
		second.intend(replay)
		pass(time.Hour)
		third := claim(t, store, nil)
		expectAge(t, third.Lookup(q).Oldest, time.Hour) // its own attempt counts
		expectAge(t, third.expect(replay, journal.Fresh, true).Oldest, 31*time.Hour)
	})
}
