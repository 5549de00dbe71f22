package journal

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// skews are how far each clock is off (ahead is positive): the server's when the attempt
// began and when the journal was read, which count as one clock, and those of the two
// workers.
type skews struct{ serverThen, serverNow, writer, reader time.Duration }

// readerAge is how old a reader takes an attempt to be that a former owner began when
// it had owned the partition for an hour, and that is as old as that by true time.
// Recorded: the writer wrote it down as unknown; else it left an open intent.
func readerAge(t fataler, s skews, age time.Duration, recorded bool) time.Duration {
	t.Helper()
	began := noon // of the attempt, by true time
	entry := Entry{Sequence: 7, Key: 1, Fingerprint: 1, State: Open}
	kind := IntentKind
	if recorded {
		owned := serverClock{
			marker: began.Add(s.serverThen - time.Hour), before: clocks(s.writer-time.Hour, -time.Hour), after: clocks(s.writer-time.Hour, -time.Hour),
		}
		entry.State, entry.T0, kind = Unknown, owned.stamp(Now(clocks(s.writer, 0))), DoneKind
	}
	c := claim{cfg: Config{Window: 36 * 24 * time.Hour, Limit: 1 << 30}, ledger: newLedger(), open: map[uint64]openIntent{}}
	c.clock.before = clocks(age+s.reader, 0) // another process: its monotonic clock says nothing of the writer's
	c.clock.after = c.clock.before
	stored := Stored{Kind: kind, Sequence: 1, Time: began.Add(s.serverThen), Data: pack(message{ordinal: 1, wall: began.Add(s.writer), entries: []Entry{entry}})}
	if err := c.message(stored); err != nil {
		t.Fatal(err)
	}
	c.clock.marker = began.Add(age + s.serverNow)
	if c.clock.marker.After(c.clock.latest) {
		c.clock.latest = c.clock.marker
	}
	c.ledger.settle(c.clock)
	for _, open := range c.open {
		c.ledger.apply(Entry{Sequence: 7, Key: 1, Fingerprint: 1, State: Unknown, T0: open.stamp}, c.clock.marker)
	}
	known := c.ledger.Lookup(Question{Sequence: 7, Key: 1, Fingerprint: 1, EventTime: began}, c.clock.before)
	if !known.Unknown {
		t.Fatal("the attempt is not known")
	}
	return known.Oldest.Age(c.clock.before)
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

const (
	window   = 23 * time.Hour
	forgets  = 24 * time.Hour // Stripe
	hours    = time.Hour
	wrongAge = 3 * hours
)

// TestClocksThatDisagree: with one wrong clock nothing is sent that Stripe may have forgotten,
// and what the wrong clock costs is at most that something waits for a person. With two
// wrong clocks it depends: the rows say so.
func TestClocksThatDisagree(t *testing.T) {
	tests := []struct {
		name  string
		skews skews
		age   time.Duration
		sent  bool
	}{
		{"all right, young", skews{}, window - time.Minute, true},
		{"all right, at the window", skews{}, window, false},
		{"reader behind", skews{reader: -wrongAge}, forgets, false},
		{"reader ahead: waits for a person early", skews{reader: wrongAge}, window - 2*hours, false},
		{"reader ahead, young", skews{reader: wrongAge}, window - 4*hours, true},
		{"writer ahead", skews{writer: wrongAge}, forgets, false},
		{"writer behind: waits early", skews{writer: -wrongAge}, window - 2*hours, false},
		{"server ahead all the time", skews{serverThen: wrongAge, serverNow: wrongAge}, forgets, false},
		{"server behind all the time", skews{serverThen: -wrongAge, serverNow: -wrongAge}, forgets, false},
		{"server was ahead, and was set", skews{serverThen: wrongAge}, forgets, false},
		{"server was behind, and was set", skews{serverThen: -wrongAge}, forgets, false},
		{"server was set back", skews{serverNow: -wrongAge}, forgets, false},
		{"server was set ahead", skews{serverNow: wrongAge}, forgets, false},
		{"server went from ahead to behind", skews{serverThen: wrongAge, serverNow: -wrongAge}, forgets, false},
		{"writer ahead, reader behind: the server is right", skews{writer: wrongAge, reader: -wrongAge}, forgets, false},
		{"writer behind, reader behind", skews{writer: -wrongAge, reader: -wrongAge}, forgets, false},
		{"writer and reader ahead", skews{writer: wrongAge, reader: wrongAge}, forgets, false},
		{"server and reader ahead", skews{serverThen: wrongAge, serverNow: wrongAge, reader: wrongAge}, forgets, false},
		{"server and writer ahead alike", skews{serverThen: wrongAge, serverNow: wrongAge, writer: wrongAge}, forgets, false},
		// Two wrong clocks that agree outvote the third: this is what the worker's look at
		// the Date of Stripe's answers is for.
		{"server set back and reader behind", skews{serverNow: -wrongAge, reader: -wrongAge}, forgets, true},
		{"server was ahead and set, writer ahead", skews{serverThen: wrongAge, writer: wrongAge}, forgets, true},
	}
	for _, tt := range tests {
		for _, recorded := range []bool{false, true} {
			name := tt.name + ", intent left open"
			if recorded {
				name = tt.name + ", recorded as unknown"
			}
			t.Run(name, func(t *testing.T) {
				if age := readerAge(t, tt.skews, tt.age, recorded); age < window != tt.sent {
					t.Errorf("an attempt of %v is taken for %v old; sent again: %v, want %v", tt.age, age, age < window, tt.sent)
				}
			})
		}
	}
}

// TestOneWrongClock: no attempt is taken for younger than it is.
func TestOneWrongClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		off := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(-48*3600, 48*3600).Draw(t, name)) * time.Second
		}
		var s skews
		switch rapid.IntRange(0, 2).Draw(t, "which") {
		case 0:
			s.serverThen, s.serverNow = off("server then"), off("server now")
		case 1:
			s.writer = off("writer")
		case 2:
			s.reader = off("reader")
		}
		age := time.Duration(rapid.Int64Range(0, 72*3600).Draw(t, "age")) * time.Second
		recorded := rapid.Bool().Draw(t, "recorded")
		if got := readerAge(t, s, age, recorded); got < age {
			t.Fatalf("%+v: an attempt of %v is taken for %v old", s, age, got)
		}
	})
}
