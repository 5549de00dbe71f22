package journal

import (
	"errors"
	"testing"
	"time"
)

// oneADay is a ledger with a delivery and a dead letter a day, at 13:00, and an
// unknown attempt: n of each, the last one on the day of noon. Day i has sequence
// and key i, day 0 being the oldest.
func oneADay(n int) *Ledger {
	l := newLedger()
	for i := range n {
		at, id := dayOf(n, i), uint64(i)
		l.apply(Entry{Sequence: id, Key: id, Fingerprint: content, State: Delivered}, at)
		l.apply(Entry{Sequence: id + 1000, Key: body, State: Dead}, at)
		l.apply(Entry{Sequence: id + 2000, Key: id + 2000, State: Unknown, T0: at}, at)
	}
	l.settle(claimedAt(noon, 0))
	return l
}

func dayOf(n, i int) time.Time { return noon.Add(time.Hour).AddDate(0, 0, i-n+1) }

// about asks about the identifier of day i as another sequence, with an event that
// has the timestamp of its delivery.
func about(n, i int) Question {
	return Question{Sequence: 5000, Key: uint64(i), Fingerprint: content, EventTime: dayOf(n, i)}
}

func expectVerdicts(t *testing.T, l *Ledger, n, dropped int) {
	t.Helper()
	for i := range n {
		want, buried := DeliveredBefore, WasBuried
		if i < dropped {
			want, buried = Forgotten, Forgotten
		}
		if got := l.Lookup(about(n, i), noon).Verdict; got != want {
			t.Errorf("delivery of day %d of %d: %s, want %s", i, n, got, want)
		}
		q := Question{Sequence: uint64(i) + 1000, Key: 9999, Body: body, EventTime: dayOf(n, i)}
		if got := l.Lookup(q, noon).Verdict; got != buried {
			t.Errorf("dead letter of day %d of %d: %s, want %s", i, n, got, buried)
		}
	}
}

func TestExpireDropsWholeDaysAndOldAttempts(t *testing.T) {
	l := oneADay(6)
	expectVerdicts(t, l, 6, 0)
	l.Expire(noon.Add(time.Hour), 72*time.Hour)
	expectVerdicts(t, l, 6, 2) // today and three days before it
	for i := range 6 {
		q := Question{Sequence: 5000, Key: uint64(i) + 2000, EventTime: dayOf(6, i)}
		known, kept := l.Lookup(q, noon), i >= 2
		if known.Unknown != kept || (known.Verdict == Forgotten) != !kept {
			t.Errorf("attempt of day %d: %s, unknown %t", i, known.Verdict, known.Unknown)
		}
	}
	if _, identifiers := l.Size(); identifiers != 4 {
		t.Errorf("%d identifiers are left, want 4", identifiers)
	}
}

func TestNothingIsForgottenBeforeSomethingWasDropped(t *testing.T) {
	l := oneADay(2)
	l.Expire(noon, 36*24*time.Hour)
	if _, err := l.Shrink(1<<20, noon); err != nil || !l.Horizon().IsZero() {
		t.Fatalf("%v, horizon %v", err, l.Horizon())
	}
	q := Question{Sequence: 1, Key: 4242, EventTime: noon.AddDate(0, -1, 0)}
	if got := l.Lookup(q, noon).Verdict; got != Fresh {
		t.Errorf("a backfill on the second day is %s, want %s", got, Fresh)
	}
}

func TestHorizonIsPastEverythingThatWasDropped(t *testing.T) {
	l := oneADay(6)
	l.Expire(noon.Add(time.Hour), 72*time.Hour)
	midnight := time.Date(2025, 10, 13, 0, 0, 0, 0, time.UTC)
	// The last attempt that was dropped was at 13:00 on the day before, so the day decides.
	if want := midnight.Add(maxAhead); !l.Horizon().Equal(want) {
		t.Fatalf("horizon %v, want %v", l.Horizon(), want)
	}
	for _, test := range []struct {
		at   time.Time
		want Verdict
	}{{l.Horizon().Add(-time.Second), Forgotten}, {l.Horizon(), Fresh}} {
		if got := l.Lookup(Question{Key: 4242, EventTime: test.at}, noon).Verdict; got != test.want {
			t.Errorf("event of %v is %s, want %s", test.at, got, test.want)
		}
	}
	// A person's word covers what was before it. What was forgotten since may have been an
	// attempt of the replay itself.
	for _, test := range []struct {
		word time.Time
		want Verdict
	}{{noon, Fresh}, {l.Horizon(), Fresh}, {l.Horizon().Add(-time.Second), Forgotten}} {
		replay := Question{Key: 4242, EventTime: l.Horizon().Add(-time.Second), Forgive: test.word}
		if got := l.Lookup(replay, noon).Verdict; got != test.want {
			t.Errorf("a replay whose operator took the risk at %v is %s, want %s", test.word, got, test.want)
		}
	}
}

// A server whose clock was behind stamps records before events of their time: what it has
// let go is not taken for new.
func TestMemoryOfAServerThatWasBehind(t *testing.T) {
	l := newLedger()
	at := noon.Add(-72 * time.Hour)
	l.compare(at, at.Add(-time.Hour)) // a writer that is behind changes nothing
	l.compare(at, at.Add(3*time.Hour))
	l.compare(at, at.Add(2*time.Hour))
	l.apply(Entry{Sequence: 1, Key: 1, Fingerprint: content, State: Unknown, T0: at}, at)
	l.settle(claimedAt(noon, 0))
	q := Question{Sequence: 1, Key: 1, Fingerprint: content, EventTime: at.Add(3 * time.Hour)}
	if known := l.Lookup(q, noon); known.Verdict != Fresh || !known.Unknown {
		t.Fatalf("%s, unknown %t: want it to be in doubt while it is remembered", known.Verdict, known.Unknown)
	}
	l.Expire(noon, 48*time.Hour)
	if known := l.Lookup(q, noon); known.Verdict != Forgotten {
		t.Errorf("%s after it was let go, want %s", known.Verdict, Forgotten)
	}
	q.EventTime = at.Add(3*time.Hour + maxAhead)
	if known := l.Lookup(q, noon); known.Verdict != Fresh {
		t.Errorf("an event of later is %s, want %s", known.Verdict, Fresh)
	}
}

func TestShrinkDropsTheOldestDaysFirst(t *testing.T) {
	l := oneADay(6)
	for dropped := range 4 {
		limit, want := int64(1<<20), 0
		if dropped > 0 {
			size, _ := l.Size()
			limit, want = size-1, 1 // a byte too much is a day
		}
		if n, err := l.Shrink(limit, noon); err != nil || n != want {
			t.Fatalf("%d identifiers forgotten, %v; want %d", n, err, want)
		}
		expectVerdicts(t, l, 6, dropped)
	}
}

// Tags of days are used again after 255 days, and tell apart those that are kept.
func TestTagsOfDaysAreUsedAgain(t *testing.T) {
	const days, kept = 800, 37
	l := newLedger()
	l.settle(claimedAt(noon, 0))
	for i := range days {
		at := noon.AddDate(0, 0, i)
		l.apply(Entry{Sequence: uint64(i), Key: uint64(i), Fingerprint: content, State: Delivered}, at)
		l.Expire(at, (kept-1)*24*time.Hour)
		if _, n := l.Size(); n != min(i+1, kept) {
			t.Fatalf("%d identifiers are known on day %d", n, i)
		}
	}
	for i := range days {
		want := Fresh // an event with a timestamp of today
		if i >= days-kept {
			want = DeliveredBefore
		}
		q := Question{Sequence: 5000, Key: uint64(i), Fingerprint: content, EventTime: noon.AddDate(0, 0, days)}
		if got := l.Lookup(q, noon).Verdict; got != want {
			t.Fatalf("day %d: %s, want %s", i, got, want)
		}
	}
}

// Where there are more days than tags, what is of the newest stays longer, never shorter.
func TestMoreDaysThanTags(t *testing.T) {
	l := newLedger()
	l.settle(claimedAt(noon, 0))
	for i := range maxDays + 5 {
		l.apply(Entry{Sequence: uint64(i), Key: uint64(i), Fingerprint: content, State: Delivered}, noon.AddDate(0, 0, i))
	}
	if len(l.days) != maxDays {
		t.Fatalf("%d days", len(l.days))
	}
	l.Expire(noon.AddDate(0, 0, maxDays+4), 24*time.Hour)
	for i := range maxDays + 5 {
		want := Forgotten
		if i >= maxDays-1 {
			want = DeliveredBefore
		}
		q := Question{Sequence: 5000, Key: uint64(i), Fingerprint: content, EventTime: noon.AddDate(0, 0, i)}
		if got := l.Lookup(q, noon).Verdict; got != want {
			t.Errorf("day %d: %s, want %s", i, got, want)
		}
	}
}

// The youngest day that may go ended 25 h and the lead of timestamps ago.
func TestShrinkKeeps25Hours(t *testing.T) {
	end := time.Date(2025, 10, 16, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		now  time.Time
		err  error
	}{
		{"the day has just ended", end, ErrMemory},
		{"24 h ago", end.Add(24 * time.Hour), ErrMemory},
		{"25 h ago", end.Add(MinMemory), ErrMemory},
		{"25 h and the lead ago", end.Add(MinMemory + maxAhead), ErrMemory},
		{"a second more", end.Add(MinMemory + maxAhead + time.Second), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			l.apply(Entry{Sequence: 4, Key: key, Fingerprint: content, State: Delivered}, end.Add(-time.Second))
			n, err := l.Shrink(0, test.now)
			if !errors.Is(err, test.err) {
				t.Fatalf("%v, want %v", err, test.err)
			}
			want := DeliveredBefore
			if err == nil {
				want = Forgotten
			}
			q := ask()
			q.EventTime = end.Add(-time.Minute)
			if got := l.Lookup(q, noon).Verdict; got != want || (n == 1) != (err == nil) {
				t.Errorf("%s, %d forgotten; want %s", got, n, want)
			}
		})
	}
}

func TestShrinkCannotDropAttempts(t *testing.T) {
	l := newLedger()
	for i := range uint64(10) {
		l.apply(Entry{Sequence: i, Key: i, State: Unknown, T0: noon}, noon)
	}
	l.settle(claimedAt(noon, 0))
	if _, err := l.Shrink(9*bytesAttempt, noon.AddDate(0, 0, 20)); !errors.Is(err, ErrMemory) {
		t.Fatalf("%v, want ErrMemory", err)
	}
	if _, err := l.Shrink(10*bytesAttempt, noon); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10) {
		if !l.Lookup(Question{Key: i, EventTime: noon}, noon).Unknown {
			t.Errorf("attempt %d is gone", i)
		}
	}
}

// A server's clock that was stepped back must not shorten the memory.
func TestAStampOfThePastIsKeptWithTheNewestDay(t *testing.T) {
	l := newLedger()
	l.apply(Entry{Sequence: 1, Key: 1, Fingerprint: content, State: Delivered}, noon)
	l.apply(Entry{Sequence: 2, Key: 2, Fingerprint: content, State: Delivered}, noon.AddDate(0, 0, -30))
	l.settle(claimedAt(noon, 0))
	l.Expire(noon.AddDate(0, 0, 10), 11*24*time.Hour)
	q := Question{Sequence: 9, Key: 2, Fingerprint: content, EventTime: noon}
	if got := l.Lookup(q, noon).Verdict; got != DeliveredBefore {
		t.Errorf("%s, want %s", got, DeliveredBefore)
	}
}

func TestSizeCountsWhatIsKept(t *testing.T) {
	l := ledgerOf(delivered(1, content), dead(2, 1), unknown(3, content, time.Hour), announced(4, 1))
	tables := func() int64 { return l.delivered.size() + l.dead.size() }
	// The attempt is of the delivered identifier, but came later.
	if bytes, n := l.Size(); n != 1 || bytes != tables()+bytesAttempt+bytesDying {
		t.Errorf("%d bytes, %d identifiers", bytes, n)
	}
	l.apply(delivered(3, content).entry, noon)
	l.apply(dead(4, 1).entry, noon)
	if bytes, n := l.Size(); n != 1 || bytes != tables() || bytes < 3*slotSize {
		t.Errorf("%d bytes, %d identifiers after the attempt was delivered and the letter stored", bytes, n)
	}
}
