package delivery

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	good     = okAnswer
	bad      = failed.Answer
	mute     = silent.Answer
	archived = Answer{Class: Refused, Status: 400, Code: "archived_meter"}
)

// step is a number of equal results, one every so often, over so many lanes.
type step struct {
	answer Answer
	times  int
	every  time.Duration
	lanes  int
}

func play(b *breaker, at time.Time, steps []step) (found finding, when int, end time.Time) {
	n := 0
	for _, s := range steps {
		for i := range s.times {
			at = at.Add(s.every)
			n++
			if f := b.note(at, Turn{Lane: fmt.Sprintf("%v-%d", s.answer.Class, i%s.lanes), Sequence: uint64(at.UnixNano())}, s.answer); f != healthy && found == healthy {
				found, when = f, n
			}
		}
	}
	return found, when, at
}

func TestBreakerThresholds(t *testing.T) {
	const ms = time.Millisecond
	throttled, limitedLanes := limited.Answer, 5
	for name, c := range map[string]struct {
		steps []step
		want  finding
		when  int // the result at which it is found
	}{
		"all well":                                {[]step{{good, 5000, ms, 50}}, healthy, 0},
		"all fail, fast":                          {[]step{{bad, 100, ms, 50}}, failing, 20},
		"19 fail within two seconds":              {[]step{{bad, 19, 100 * ms, 50}}, healthy, 0},
		"ten in a row over two seconds":           {[]step{{bad, 10, 223 * ms, 50}}, failing, 10},
		"nine in a row":                           {[]step{{bad, 9, time.Second, 50}}, healthy, 0},
		"ten in a row, but one is well":           {[]step{{bad, 9, 300 * ms, 50}, {good, 1, ms, 1}, {bad, 9, 300 * ms, 50}}, healthy, 0},
		"a healthy past does not hide an outage":  {[]step{{good, 9000, ms, 50}, {bad, 1000, ms, 50}}, failing, 9500},
		"slow traffic: half of ten seconds":       {[]step{{good, 10, 400 * ms, 9}, {bad, 5, 190 * ms, 9}, {good, 1, ms, 9}, {bad, 6, 190 * ms, 9}}, failing, 22},
		"throttling is health":                    {[]step{{throttled, 5000, ms, limitedLanes}}, healthy, 0},
		"one customer alone":                      {[]step{{bad, 500, 30 * ms, 1}}, healthy, 0},
		"two customers alone":                     {[]step{{bad, 500, 30 * ms, 2}}, healthy, 0},
		"one customer, no answer at all":          {[]step{{mute, 500, 30 * ms, 1}}, failing, 20},
		"three customers":                         {[]step{{bad, 500, 30 * ms, 3}}, failing, 20},
		"one customer, slowly":                    {[]step{{bad, 60, time.Second, 1}}, healthy, 0},
		"49 refused for one reason":               {[]step{{archived, 49, ms, 50}}, healthy, 0},
		"50 refused for one reason":               {[]step{{archived, 50, ms, 50}}, refusing, 50},
		"50 refused, 51 well":                     {[]step{{good, 51, ms, 50}, {archived, 50, ms, 50}}, healthy, 0},
		"50 refused, 50 well":                     {[]step{{good, 50, ms, 50}, {archived, 50, ms, 50}}, refusing, 100},
		"50 refused, in two minutes":              {[]step{{archived, 50, 2400 * ms, 50}}, healthy, 0},
		"refused without a code":                  {[]step{{Answer{Class: Refused, Status: 422}, 50, ms, 50}}, refusing, 50},
		"refused for many reasons, none for half": {[]step{{archived, 40, ms, 50}, {Answer{Class: Refused, Status: 422}, 30, ms, 50}, {Answer{Class: Refused, Code: "no_meter"}, 40, ms, 50}}, healthy, 0},
	} {
		t.Run(name, func(t *testing.T) {
			found, when, _ := play(newBreaker(), time.Unix(1_800_000_000, 0), c.steps)
			if found != c.want || when != c.when {
				t.Errorf("found %d at result %d, want %d at %d", found, when, c.want, c.when)
			}
		})
	}
}

// TestBreakerLeavesAHandful: nine events, of a customer each, get their three attempts
// however slowly; ten are an outage.
func TestBreakerLeavesAHandful(t *testing.T) {
	for events, want := range map[int]finding{1: healthy, 5: healthy, 9: healthy, 10: failing} {
		for _, every := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
			b, at, found := newBreaker(), time.Unix(1_800_000_000, 0), healthy
			for i := range 3 * events {
				at = at.Add(every)
				turn := Turn{Lane: fmt.Sprint(i % events), Sequence: uint64(i % events)}
				found = max(found, b.note(at, turn, bad))
			}
			if found != want {
				t.Errorf("%d events, a result every %v: found %d, want %d", events, every, found, want)
			}
		}
	}
}

// TestRecoveredEventsDoNotCount: many events that failed once and went through are no part
// of what a customer's own trouble is measured by.
func TestRecoveredEventsDoNotCount(t *testing.T) {
	b, at := newBreaker(), time.Unix(1_800_000_000, 0)
	result := func(event int, a Answer) finding {
		at = at.Add(10 * time.Millisecond)
		return b.note(at, Turn{Lane: fmt.Sprint(event), Sequence: uint64(event)}, a)
	}
	for i := range 15 {
		result(i, bad)
		result(i, good)
	}
	since := at
	for i := range 30 {
		if found := result(100+i%2, bad); found != healthy {
			t.Fatalf("failure %d of two customers: found %d", i, found)
		}
	}
	check(t, "looks like an onset", b.onset(since), false)
	check(t, "may be buried", b.mayBury(), true)
}

// TestBreakerBuriesFew: without a sign of health in between, few server errors may be
// buried.
func TestBreakerBuriesFew(t *testing.T) {
	for _, c := range []struct{ lanes, want int }{{1, buryAtMostFew}, {2, buryAtMostFew}, {3, buryAtMost}, {40, buryAtMost}} {
		b := newBreaker()
		at := time.Unix(1_800_000_000, 0)
		bury := func() (buried int) {
			for b.mayBury() {
				buried++
			}
			return buried
		}
		_, _, at = play(b, at, []step{{bad, 40, time.Millisecond, c.lanes}})
		check(t, fmt.Sprintf("buried of %d lanes", c.lanes), bury(), c.want)
		_, _, at = play(b, at, []step{{bad, 1, time.Millisecond, 1}})
		check(t, "after another failure", bury(), 0)
		_, _, at = play(b, at, []step{{limited.Answer, 1, time.Millisecond, 1}, {contended.Answer, 1, time.Millisecond, 1}})
		check(t, "after somebody's answer", bury(), 0)
		_, _, _ = play(b, at, []step{{good, 1, time.Millisecond, 1}})
		check(t, "after a sign of health", bury(), c.want)
	}
}

// TestOutageNumber: one number for failures that follow each other, another one after
// ten quiet seconds.
func TestOutageNumber(t *testing.T) {
	b := newBreaker()
	at := time.Unix(1_800_000_000, 0)
	_, _, at = play(b, at, []step{{bad, 3, 9 * time.Second, 1}, {good, 3, time.Millisecond, 1}, {bad, 1, 9 * time.Second, 1}})
	check(t, "first", b.number(), "1800000009")
	play(b, at, []step{{bad, 1, 11 * time.Second, 1}})
	check(t, "second", b.number(), fmt.Sprint(at.Add(11*time.Second).Unix()))
}

// TestSlidingWindow compares the sums with a list of all results.
func TestSlidingWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWindow(10*time.Second, 100)
		base := time.Unix(1_800_000_000, 0)
		at := base
		var all []time.Time
		for range rapid.IntRange(1, 60).Draw(rt, "results") {
			at = at.Add(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "gap")) * time.Millisecond)
			w.add(at, tally{results: 1})
			all = append(all, at)
			atLeast, atMost := 0, 0
			for _, a := range all {
				atLeast += one(at.Sub(a) <= 9900*time.Millisecond)
				atMost += one(at.Sub(a) < 10*time.Second)
			}
			if got := w.sum(at, 10*time.Second).results; got < atLeast-1 || got > atMost {
				rt.Fatalf("%d results in the window, want %d to %d", got, atLeast, atMost)
			}
		}
	})
}
