package journal

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The question of most tests is about sequence 5, with this key, body and content.
const (
	self    = 5
	key     = 77
	body    = 500
	content = 1
	foreign = 2 // other content
)

func ask() Question {
	return Question{Sequence: self, Key: key, Body: body, Fingerprint: content, EventTime: noon}
}

// record is an entry, and when it was recorded: that long before noon.
type record struct {
	entry Entry
	ago   time.Duration
}

func delivered(sequence uint64, fingerprint uint32) record {
	return record{Entry{Sequence: sequence, Key: key, Fingerprint: fingerprint, State: Delivered}, time.Hour}
}

func unknown(sequence uint64, fingerprint uint32, ago time.Duration) record {
	return record{Entry{Sequence: sequence, Key: key, Fingerprint: fingerprint, State: Unknown, T0: noon.Add(-ago)}, ago}
}

func dead(sequence, body uint64) record {
	return record{Entry{Sequence: sequence, Key: body, State: Dead}, time.Hour}
}

func announced(sequence, body uint64) record {
	return record{Entry{Sequence: sequence, Key: body, State: Dying, Letter: []byte("letter")}, time.Hour}
}

// ledgerOf is a ledger that was read from these records at noon.
func ledgerOf(records ...record) *Ledger {
	l := newLedger()
	for _, r := range records {
		l.apply(r.entry, noon.Add(-r.ago))
	}
	l.settle(claimedAt(noon, 0))
	return l
}

// ago is a moment of that long before noon, as the ledger has it.
func ago(d time.Duration) Moment { return claimedAt(noon, 0).moment(noon.Add(-d)) }

func forgiving(ago time.Duration) Question {
	q := ask()
	q.Forgive = noon.Add(-ago)
	return q
}

func TestVerdicts(t *testing.T) {
	fresh := func(k Known) Known { k.Verdict = Fresh; return k }
	const h = time.Hour
	tests := []struct {
		name    string
		records []record
		ask     Question
		want    Known
	}{
		{"nothing is known", nil, ask(), fresh(Known{})},
		{"another identifier", []record{{Entry{Sequence: 4, Key: key + 1, State: Delivered}, h}}, ask(), fresh(Known{})},
		{"not sent", []record{{Entry{Sequence: self, Key: key, State: NotSent}, h}}, ask(), fresh(Known{})},

		{"delivered", []record{delivered(self, content)}, ask(), Known{Verdict: WasDelivered, By: self}},
		{"delivered as another sequence", []record{delivered(4, content)}, ask(), Known{Verdict: DeliveredBefore, By: 4}},
		{"delivered as a later sequence", []record{delivered(9, content)}, ask(), Known{Verdict: DeliveredBefore, By: 9}},
		{"delivered with other content", []record{delivered(4, foreign)}, ask(), Known{Verdict: OtherContent, By: 4}},
		{"delivered after an unknown", []record{unknown(4, content, 30*h), delivered(4, content)}, ask(), Known{Verdict: DeliveredBefore, By: 4}},
		{"unknown after a delivery", []record{delivered(4, content), unknown(self, content, h)}, ask(), Known{Verdict: DeliveredBefore, By: 4}},
		{"a delivery is not forgiven", []record{delivered(4, content)}, forgiving(0), Known{Verdict: DeliveredBefore, By: 4}},

		{"dying", []record{announced(self, body)}, ask(), Known{Verdict: IsDying, Letter: []byte("letter"), DyingAt: ago(h)}},
		{"dying with another body", []record{announced(self, body+1)}, ask(), fresh(Known{})},
		{"dying, and delivered as another sequence", []record{announced(self, body), delivered(4, content)}, ask(), Known{Verdict: IsDying, Letter: []byte("letter"), DyingAt: ago(h)}},
		{"another sequence is dying", []record{announced(4, body)}, ask(), fresh(Known{})},
		{"dead", []record{announced(self, body), dead(self, body)}, ask(), Known{Verdict: WasBuried}},
		{"dead with another body", []record{dead(self, body+1)}, ask(), fresh(Known{})},
		{"dead, and delivered as its replay", []record{dead(self, body), delivered(9, content)}, ask(), Known{Verdict: WasBuried}},

		{"unknown", []record{unknown(self, content, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), SameContent: true})},
		{"unknown, then not sent", []record{unknown(self, content, 3*h), {Entry{Sequence: self, Key: key, State: NotSent}, h}}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), SameContent: true})},
		{"unknown twice: the older", []record{unknown(self, content, 30*h), unknown(self, content, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true})},
		{"unknown as another sequence", []record{unknown(9, content, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), SameContent: true})},
		{"unknown as two sequences: the oldest", []record{unknown(self, content, 3*h), unknown(4, content, 30*h), unknown(3, content, 4*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true})},
		{"unknown and buried survives for the replay", []record{unknown(4, content, 30*h), announced(4, body), dead(4, body)}, ask(), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true})},

		{"other content unknown", []record{unknown(4, foreign, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), OtherContent: true, OtherAlive: ago(3 * h)})},
		{"other content unknown and dying", []record{unknown(4, foreign, 3*h), announced(4, body)}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), OtherContent: true, OtherAlive: ago(3 * h)})},
		{"other content unknown and buried", []record{unknown(4, foreign, 3*h), dead(4, 1)}, ask(), fresh(Known{Unknown: true, Oldest: ago(3 * h), OtherContent: true})},
		{"other content unknown twice: the newest alive", []record{unknown(3, foreign, h), dead(3, 1), unknown(4, foreign, 30*h), unknown(9, foreign, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(30 * h), OtherContent: true, OtherAlive: ago(3 * h)})},
		{"both contents unknown", []record{unknown(4, foreign, 30*h), unknown(self, content, 3*h)}, ask(), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true, OtherContent: true, OtherAlive: ago(30 * h)})},

		{"forgiven", []record{unknown(4, content, 30*h)}, forgiving(h), fresh(Known{SameContent: true})},
		{"forgiven, other content", []record{unknown(4, foreign, 30*h)}, forgiving(h), fresh(Known{OtherContent: true, OtherAlive: ago(30 * h)})},
		{"too late to be forgiven", []record{unknown(4, content, h)}, forgiving(h), fresh(Known{Unknown: true, Oldest: ago(h), SameContent: true})},
		{"one forgiven, one not", []record{unknown(4, content, 30*h), unknown(3, content, h)}, forgiving(2 * h), fresh(Known{Unknown: true, Oldest: ago(h), SameContent: true})},
		{"a replay does not forgive itself", []record{unknown(self, content, 30*h)}, forgiving(h), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true})},
		{"a replay does not forgive a later sequence", []record{unknown(9, content, 30*h)}, forgiving(h), fresh(Known{Unknown: true, Oldest: ago(30 * h), SameContent: true})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			expectKnown(t, ledgerOf(test.records...).Lookup(test.ask, clocks(0, 0)), test.want)
		})
	}
}

// reporter is a *testing.T or a *rapid.T.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// expectKnown compares the moments by their ages.
func expectKnown(t reporter, got, want Known) {
	t.Helper()
	now := clocks(0, 0)
	for _, m := range []struct {
		name      string
		got, want Moment
	}{
		{"Oldest", got.Oldest, want.Oldest}, {"OtherAlive", got.OtherAlive, want.OtherAlive}, {"DyingAt", got.DyingAt, want.DyingAt},
	} {
		if m.got.IsZero() != m.want.IsZero() || !m.want.IsZero() && m.got.Age(now) != m.want.Age(now) {
			t.Errorf("%s is %v old (zero: %t), want %v (zero: %t)", m.name, m.got.Age(now), m.got.IsZero(), m.want.Age(now), m.want.IsZero())
		}
	}
	if got.Verdict != want.Verdict || got.By != want.By || string(got.Letter) != string(want.Letter) ||
		got.Unknown != want.Unknown || got.SameContent != want.SameContent || got.OtherContent != want.OtherContent {
		t.Errorf("got %s %+v, want %s %+v", got.Verdict, got, want.Verdict, want)
	}
}

// Every combination of attempts, of whether their messages are buried, and of a
// person's forgiveness, against the definitions in plain words.
func TestAttemptsInEveryCombination(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := ask()
		forgive := rapid.Bool().Draw(t, "forgive")
		if forgive {
			q = forgiving(2 * time.Hour)
		}
		want := Known{Verdict: Fresh}
		var records []record
		var oldest, alive []time.Duration
		for _, sequence := range []uint64{3, 4, self, 9} {
			if rapid.Bool().Draw(t, "attempted") {
				age := time.Duration(rapid.IntRange(1, 3).Draw(t, "hours ago")) * time.Hour
				same, buried := rapid.Bool().Draw(t, "same content"), rapid.Bool().Draw(t, "buried")
				records = append(records, unknown(sequence, map[bool]uint32{true: content, false: foreign}[same], age))
				if buried {
					records = append(records, dead(sequence, body+1))
				}
				want.SameContent = want.SameContent || same
				want.OtherContent = want.OtherContent || !same
				if !same && !buried {
					alive = append(alive, age)
				}
				if !forgive || sequence >= self || age <= 2*time.Hour {
					oldest = append(oldest, age)
				}
			}
		}
		if len(oldest) > 0 {
			want.Unknown, want.Oldest = true, ago(slices.Max(oldest))
		}
		if len(alive) > 0 {
			want.OtherAlive = ago(slices.Min(alive))
		}
		expectKnown(t, ledgerOf(records...).Lookup(q, clocks(0, 0)), want)
	})
}

func TestAnAttemptIsNotYoungerThanItsRecord(t *testing.T) {
	r := unknown(4, content, time.Hour)
	r.entry.T0 = noon.Add(1000 * time.Hour)
	known := ledgerOf(r).Lookup(ask(), clocks(0, 0))
	if age := known.Oldest.Age(clocks(0, 0)); age != time.Hour {
		t.Errorf("age %v, want the hour since it was recorded", age)
	}
	if age := known.Oldest.Age(clocks(10*time.Hour, 10*time.Hour)); age != 11*time.Hour {
		t.Errorf("age %v ten hours later, want 11 h: it must not stay young", age)
	}
}

func TestVerdictsAreAClosedList(t *testing.T) {
	names := Verdicts()
	if len(names) != int(Forgotten) {
		t.Fatalf("%d names: %q", len(names), names)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != int(Forgotten) || names[0] == "" {
		t.Errorf("names are not unique or empty: %q", names)
	}
}

func TestNewestIsTheHighestSequence(t *testing.T) {
	l := ledgerOf(delivered(9, content), dead(4, 1), record{Entry{Sequence: 12, State: NotSent}, 0})
	if n := l.Newest(); n != 12 {
		t.Errorf("newest %d, want 12", n)
	}
}
