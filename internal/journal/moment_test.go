package journal

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// noon is the local time of the readings, by the wall clock.
var noon = time.Date(2025, 10, 16, 12, 0, 0, 0, time.UTC)

// clocks is what time.Now returns when the wall clock is that far after noon and the
// monotonic clock that far after the process's start. Only package time can make
// such a time, so this fills in its fields; TestClocks holds it to its word.
func clocks(wall, monotonic time.Duration) time.Time {
	const hasMonotonic, secondsShift = 1 << 63, 30
	since1885 := noon.Add(wall).Sub(time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC))
	t := struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}{
		wall: hasMonotonic | uint64(since1885/time.Second)<<secondsShift | uint64(since1885%time.Second),
		ext:  int64(time.Hour + monotonic),
		loc:  time.Local,
	}
	return *(*time.Time)(unsafe.Pointer(&t)) //nolint:gosec // the layout is checked by TestClocks
}

func TestClocks(t *testing.T) {
	from, to := clocks(time.Minute, 0), clocks(-time.Hour, 5*time.Second)
	if !from.Round(0).Equal(noon.Add(time.Minute)) || !to.Round(0).Equal(noon.Add(-time.Hour)) {
		t.Fatalf("wall clock: %v, %v", from.Round(0), to.Round(0))
	}
	if d := to.Sub(from); d != 5*time.Second {
		t.Fatalf("monotonic clock: %v", d)
	}
}

func TestAgeIsTheLargerOneOfBothClocks(t *testing.T) {
	tests := []struct {
		name            string
		wall, monotonic time.Duration
		want            time.Duration
	}{
		{"at once", 0, 0, 0},
		{"an hour later", time.Hour, time.Hour, time.Hour},
		{"wall clock stepped back a day", time.Hour - 24*time.Hour, time.Hour, time.Hour},
		{"wall clock stepped forward a day", 25 * time.Hour, time.Hour, 25 * time.Hour},
		{"the machine slept 30 h", 30 * time.Hour, time.Second, 30 * time.Hour},
		{"both went back", -time.Hour, -time.Minute, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := Now(clocks(0, 0))
			if got := m.Age(clocks(test.wall, test.monotonic)); got != test.want {
				t.Errorf("age %v, want %v", got, test.want)
			}
		})
	}
}

func TestTheZeroMomentIsOld(t *testing.T) {
	now := clocks(0, 0)
	if !(Moment{}).IsZero() || Now(now).IsZero() {
		t.Error("IsZero does not tell the zero moment from another")
	}
	if age := (Moment{}).Age(now); age < 24*time.Hour {
		t.Errorf("the zero moment is %v old: young enough to send", age)
	}
}

// An age that overflowed would be negative, that is, young.
func TestAgesDoNotOverflow(t *testing.T) {
	clock := claimedAt(noon, 0)
	for _, stamp := range []time.Time{{}, time.UnixMilli(math.MinInt64)} {
		m := clock.moment(stamp)
		if age := m.Age(clocks(time.Hour, time.Hour)); age < 24*365*100*time.Hour {
			t.Errorf("a moment of the year %d is %v old", stamp.Year(), age)
		}
		if !m.Older(Now(clocks(0, 0)), clocks(time.Hour, time.Hour)) {
			t.Errorf("a moment of the year %d is not older than one of an hour ago", stamp.Year())
		}
	}
}

// claimedAt is the clock of a claim at clocks(0, 0) that took a while to answer,
// whose marker was stamped so.
func claimedAt(stamp time.Time, took time.Duration) serverClock {
	return serverClock{marker: stamp, latest: stamp, before: clocks(0, 0), after: clocks(took, took)}
}

func TestStampsBecomeMoments(t *testing.T) {
	now := clocks(time.Hour, time.Hour)
	tests := []struct {
		name   string
		clock  serverClock
		stamp  time.Time
		atMost time.Duration // the age is at least the true one, and at most this
		true   time.Duration
	}{
		{"of an hour before the claim", claimedAt(noon, 0), noon.Add(-time.Hour), 2 * time.Hour, 2 * time.Hour},
		{"of the claim", claimedAt(noon, 0), noon, time.Hour, time.Hour},
		{"of half an hour after the claim", claimedAt(noon, 0), noon.Add(30 * time.Minute), 30 * time.Minute, 30 * time.Minute},
		{"of right now", claimedAt(noon, 0), noon.Add(time.Hour), 0, 0},
		{"the server's clock is a day behind", claimedAt(noon.Add(-24*time.Hour), 0), noon.Add(-25 * time.Hour), 26 * time.Hour, 2 * time.Hour},
		{"the server's clock is a day ahead", claimedAt(noon.Add(24*time.Hour), 0), noon.Add(23 * time.Hour), 2 * time.Hour, 2 * time.Hour},
		{"the marker took ten minutes", claimedAt(noon.Add(10*time.Minute), 10*time.Minute), noon, 70 * time.Minute, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if age := test.clock.moment(test.stamp).Age(now); age < test.true || age > test.atMost {
				t.Errorf("age %v, want %v to %v", age, test.true, test.atMost)
			}
		})
	}
}

// A server whose clock was ahead and has been corrected left stamps of the future.
func TestTheLatestStampCounts(t *testing.T) {
	clock := claimedAt(noon, 0)
	clock.latest = noon.Add(5 * time.Hour)
	if age := clock.moment(noon.Add(4 * time.Hour)).Age(clocks(0, 0)); age != time.Hour {
		t.Errorf("age %v, want an hour: by the clock that stamped it", age)
	}
}

// A server whose clock was set back a day since makes nothing of an hour ago look
// younger than our own clock does.
func TestOurClockCountsWhereTheServersWasSetBack(t *testing.T) {
	clock := claimedAt(noon.Add(-24*time.Hour), 0)
	clock.latest = noon.Add(-time.Hour)
	if age := clock.moment(noon.Add(-time.Hour)).Age(clocks(0, 0)); age != time.Hour {
		t.Errorf("age %v, want an hour", age)
	}
}

// The round trip of an attempt through the ledger: its moment is recorded as a stamp,
// and the stamp becomes a moment again. Whatever the clocks do, the age that comes
// out is at least the age by each clock; with clocks in step it is the age.
func TestAgesSurviveTheRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := rapid.Int64Range(0, int64(40*24*time.Hour))
		step := rapid.Int64Range(-int64(30*time.Hour), int64(30*time.Hour))
		took := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "took"))
		attempt := took + time.Duration(span.Draw(t, "attempt"))
		now := attempt + time.Duration(span.Draw(t, "now"))
		server := time.Duration(step.Draw(t, "server"))
		first, second := time.Duration(step.Draw(t, "step before")), time.Duration(step.Draw(t, "step after"))

		clock := serverClock{before: clocks(0, 0), after: clocks(took, took), marker: noon.Add(server + took/2)}
		clock.latest = clock.marker
		at := Now(clocks(attempt+first, attempt))
		age := clock.moment(clock.stamp(at)).Age(clocks(now+first+second, now))
		least := max(now-attempt, now-attempt+second)
		if age < least {
			t.Fatalf("age %v, but it is %v", age, least)
		}
		if first == 0 && second == 0 && age > least+took+max(server, -server) {
			t.Fatalf("age %v, although no clock was stepped and it is %v", age, least)
		}
	})
}

func TestStampIsALowerBound(t *testing.T) {
	tests := []struct {
		name  string
		clock serverClock
		at    time.Time
		want  time.Time
	}{
		{"an hour after the claim", claimedAt(noon, 0), clocks(time.Hour, time.Hour), noon.Add(time.Hour)},
		{"the claim took a minute", claimedAt(noon, time.Minute), clocks(time.Hour, time.Hour), noon.Add(59 * time.Minute)},
		{"wall clock stepped back", claimedAt(noon, 0), clocks(-time.Hour, time.Hour), noon.Add(-time.Hour)},
		{"the machine slept", claimedAt(noon, 0), clocks(30*time.Hour, time.Hour), noon.Add(time.Hour)},
		{"the server's clock is ahead", claimedAt(noon.Add(5*time.Hour), 0), clocks(time.Hour, time.Hour), noon.Add(time.Hour)},
		{"the server's clock is behind", claimedAt(noon.Add(-5*time.Hour), 0), clocks(time.Hour, time.Hour), noon.Add(-4 * time.Hour)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.clock.stamp(Now(test.at)); !got.Equal(test.want) {
				t.Errorf("stamp %v, want %v", got, test.want)
			}
		})
	}
}

func TestDrift(t *testing.T) {
	clock := claimedAt(noon, 0)
	tests := []struct{ wall, monotonic, want time.Duration }{
		{time.Hour, time.Hour, 0},
		{time.Hour, time.Minute, 59 * time.Minute},
		{-time.Hour, time.Minute, 61 * time.Minute},
		{time.Hour + maxDrift, time.Hour, maxDrift},
	}
	for _, test := range tests {
		if got := clock.drift(clocks(test.wall, test.monotonic)); got != test.want {
			t.Errorf("wall clock %v, monotonic clock %v: drift %v, want %v", test.wall, test.monotonic, got, test.want)
		}
	}
}
