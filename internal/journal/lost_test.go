package journal

import (
	"testing"
	"time"
)

// TestLostRecords: what may have been sent while the journal was one that is lost counts as
// an attempt since the copy ends; what is known, or cannot have been sent then, does not.
func TestLostRecords(t *testing.T) {
	hour := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	span := Span{Since: hour(1), Until: hour(5), Sequence: 100}
	tests := []struct {
		name     string
		lost     Span
		question Question
		doubt    bool
		age      time.Duration // at hour 6
	}{
		{"its message was there", span, Question{Sequence: 100, EventTime: hour(5)}, true, 5 * time.Hour},
		{"another message of that time may have had its identifier", span, Question{Sequence: 101, EventTime: hour(5).Add(-time.Second)}, true, 5 * time.Hour},
		{"a backfill", span, Question{Sequence: 101, EventTime: hour(-500)}, true, 5 * time.Hour},
		{"it came later", span, Question{Sequence: 101, EventTime: hour(5)}, false, 0},
		{"forgiven since", span, Question{Sequence: 101, EventTime: hour(3), Forgive: hour(6)}, false, 0},
		{"forgiven before", span, Question{Sequence: 101, EventTime: hour(3), Forgive: hour(4)}, true, 5 * time.Hour},
		{"nobody knows since when", Span{Until: hour(5), Sequence: 100}, Question{Sequence: 9, EventTime: hour(3)}, true, 1 << 62},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger()
			l.lost = []Span{tt.lost}
			now := clocks(6*time.Hour, 0)
			l.settle(serverClock{marker: hour(6), latest: hour(6), before: now, after: now})
			tt.question.Key, tt.question.Fingerprint = 1, 1
			known := l.Lookup(tt.question, now)
			if known.Verdict != Fresh || known.Unknown != tt.doubt || known.SameContent != tt.doubt {
				t.Fatalf("known: %+v, want doubt %v", known, tt.doubt)
			}
			if tt.doubt && known.Oldest.Age(now) < tt.age || tt.age < 1<<62 && tt.doubt && known.Oldest.Age(now) > tt.age {
				t.Errorf("age %v, want %v", known.Oldest.Age(now), tt.age)
			}
		})
	}
}

// TestLostRecordsAndKnownOnes: a delivery that is known stays one, and of a known attempt
// and a forgotten one the older counts.
func TestLostRecordsAndKnownOnes(t *testing.T) {
	l := newLedger()
	l.lost = []Span{{Since: noon, Until: noon.Add(time.Hour), Sequence: 100}}
	now := clocks(2*time.Hour, 0)
	l.settle(serverClock{marker: noon.Add(2 * time.Hour), latest: noon.Add(2 * time.Hour), before: now, after: now})
	l.apply(Entry{Sequence: 1, Key: 1, Fingerprint: 1, State: Delivered}, noon)
	l.apply(Entry{Sequence: 2, Key: 2, Fingerprint: 1, State: Unknown, T0: noon.Add(-time.Hour)}, noon)
	l.apply(Entry{Sequence: 3, Key: 3, Fingerprint: 1, State: Unknown, T0: noon.Add(90 * time.Minute)}, noon.Add(90*time.Minute))
	ask := func(sequence uint64) Known {
		return l.Lookup(Question{Sequence: sequence, Key: sequence, Fingerprint: 1, EventTime: noon}, now)
	}
	if known := ask(1); known.Verdict != WasDelivered {
		t.Errorf("a known delivery: %v", known.Verdict)
	}
	for sequence, want := range map[uint64]time.Duration{2: 3 * time.Hour, 3: 2 * time.Hour} {
		if known := ask(sequence); known.Oldest.Age(now) != want {
			t.Errorf("attempt of %d: age %v, want %v", sequence, known.Oldest.Age(now), want)
		}
	}
}
