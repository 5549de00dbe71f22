package sim

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "number of schedules")
	first = flag.Uint64("first", 1, "the first seed")
	seed  = flag.Uint64("seed", 0, "the one schedule to run, with its trace; 0: all")
	hunt  = flag.Bool("hunt", false, "stop at the first violation, and print it on one line")
	all   = flag.Bool("census", false, "go on past violations, and count them by invariant")
)

// replays is how often one schedule is repeated when it is asked for by its seed, until it
// shows a violation.
const replays = 20

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // a schedule leaves much behind, and no two are there at once but for the processors
	goleak.VerifyTestMain(m)
}

// play runs the schedule of one seed in a bubble of its own.
func play(t *testing.T, seed uint64) *world {
	t.Helper()
	return playOn(t, seed, false)
}

// playOn is play over API v2, or v1.
func playOn(t *testing.T, seed uint64, stream bool) *world {
	t.Helper()
	var w *world
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, tally{})
		w.stream = stream
		w.run()
	})
	return w
}

// TestSchedules plays the schedules and holds each against the invariants; then every
// fault, state and branch must have occurred.
func TestSchedules(t *testing.T) {
	if *seed != 0 {
		again(t, *seed)
		return
	}
	began := time.Now()
	var next atomic.Uint64
	next.Store(*first - 1)
	last := *first + uint64(*seeds) - 1
	var mu sync.Mutex
	seen, stop := tally{}, atomic.Bool{}
	t.Run("schedules", func(t *testing.T) {
		for shard := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= last && !stop.Load(); n = next.Add(1) {
					w := play(t, n)
					mu.Lock()
					seen.add(w.seen)
					mu.Unlock()
					if len(w.violations) == 0 {
						continue
					}
					if *all {
						t.Errorf("seed %d violates %s: %s", n, w.violations[0].rule, w.violations[0].detail)
					} else if !stop.Swap(true) {
						report(t, n, w)
					}
				}
			})
		}
	})
	if stop.Load() {
		return
	}
	t.Logf("%d schedules, %v, broken: %v", *seeds, time.Since(began).Round(time.Millisecond), t.Failed())
	seen.demand(t, *seeds)
}

// TestReplay holds the traces of the same schedules against each other: a seed that
// fails must fail again.
func TestReplay(t *testing.T) {
	const schedules, mostDifferent = 60, 6
	different := 0
	for n := uint64(1); n <= schedules; n++ {
		if first, second := play(t, n).outline(), play(t, n).outline(); first != second {
			different++
		}
	}
	t.Logf("%d of %d schedules went differently the second time", different, schedules)
	if different > mostDifferent {
		t.Errorf("%d of %d schedules went differently the second time, at most %d may", different, schedules, mostDifferent)
	}
}

// outline is the trace up to the calm, without what is random by intention: the names of
// lives in the journal, and whatever holds them.
func (w *world) outline() string {
	for i := range w.trace {
		if w.trace[i].detail = ""; w.trace[i].what == "calm" {
			w.trace = w.trace[:i]
			break
		}
	}
	return w.story()
}

// again replays one schedule with its trace.
func again(t *testing.T, seed uint64) {
	t.Helper()
	var w *world
	for range replays {
		if w = play(t, seed); len(w.violations) > 0 {
			break
		}
	}
	t.Logf("seed %d, faults: %s\n%s", seed, strings.Join(w.faults(), ", "), w.story())
	for _, v := range w.violations {
		t.Errorf("%s at %v: %s", v.rule, v.at.Sub(w.began), v.detail)
	}
}

// report tells of the first violation, and how to see it again.
func report(t *testing.T, seed uint64, w *world) {
	t.Helper()
	v := w.violations[0]
	if *hunt {
		t.Errorf("caught: seed %d violates %s: %s", seed, v.rule, v.detail)
		return
	}
	t.Errorf("seed %d violates %s at %v: %s\nfaults: %s\n%s\nagain with: go test ./test/sim -run '^TestSchedules$' -v -seed %d",
		seed, v.rule, v.at.Sub(w.began), v.detail, strings.Join(w.faults(), ", "), w.story(), seed)
}

// faults are the kinds that the schedule may meet.
func (w *world) faults() []string {
	var names []string
	for k := range w.met {
		names = append(names, string(k))
	}
	slices.Sort(names)
	return names
}
