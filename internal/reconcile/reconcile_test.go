package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

// Whatever was delivered, lost, reported by others or is on its way: a cell is called less or more
// exactly where Stripe's sum is another than that of what was delivered, and equal cells are not
// mentioned.
func TestDifferencesAreThoseOfTheSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := newWorld(t)
			w.formula["requests"] = "count"
			want := map[Cell]int64{} // Stripe's sum without ours
			for i := range rapid.IntRange(1, 60).Draw(t, "events") {
				name := rapid.SampledFrom([]string{"calls", "requests"}).Draw(t, "meter")
				customer, value := fmt.Sprintf("cus_%d", rapid.IntRange(0, 3).Draw(t, "customer")), rapid.Int64Range(-5, 1000).Draw(t, "value")
				at := w.at(rapid.IntRange(0, 299).Draw(t, "minute"))
				weight := map[string]int64{"calls": value, "requests": 1}[name]
				switch fate := rapid.IntRange(0, 9).Draw(t, "fate"); fate {
				case 0: // lost at Stripe
					w.record(w.store(name, customer, value, at), journal.Open, journal.Delivered)
					want[cellOf(name, customer, at.Unix())] -= weight
				case 1: // another sender's, of a customer of ours
					w.deliver(name, customer, 1, at)
					w.count(name, customer, value, at)
					want[cellOf(name, customer, at.Unix())] += weight
				case 2: // not sent yet
					w.store(name, customer, value, at)
				case 3: // handed back after an intent
					w.record(w.store(name, customer, value, at), journal.Open, journal.NotSent)
				case 4: // dead
					w.record(w.store(name, customer, value, at), journal.Open, journal.NotSent, journal.Dying, journal.Dead)
				case 5: // out of the period
					w.deliver(name, customer, value, w.period().Until.Add(time.Duration(i)*time.Second))
				default:
					w.deliver(name, customer, value, at)
				}
			}
			report := w.do(w.run())
			found := map[Cell]int64{}
			for _, d := range report.Differences {
				found[d.Cell] = int64(d.Difference())
				if want := map[bool]Verdict{true: Less, false: More}[d.Difference() < 0]; d.Verdict != want {
					t.Errorf("%+v is called %s", d.Cell, d.Verdict)
				}
			}
			for c, difference := range want {
				if difference != found[c] {
					t.Errorf("%+v: found %d, want %d", c, found[c], difference)
				}
				delete(found, c)
			}
			if len(found) > 0 || report.Equal+len(report.Differences) != report.Cells {
				t.Errorf("found beside these: %v; %+v", found, report)
			}
		})
	})
}

// An assignment is unique exactly where counting all of them finds one.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int64Range(-4, 9), 0, 8).Draw(t, "weights")
		target := rapid.Int64Range(-10, 30).Draw(t, "target")
		ways := 0
		for mask := range 1 << len(weights) {
			total := int64(0)
			for i, weight := range weights {
				total += weight * int64(mask>>i&1)
			}
			if total == target {
				ways++
			}
		}
		chosen, got := assign(weights, target)
		if got != min(ways, 2) || (chosen != nil) != (ways > 0) {
			t.Fatalf("%d ways and %v, want %d", got, chosen, ways)
		}
		total := int64(0)
		for i := range chosen {
			if chosen[i] {
				total += weights[i]
			}
		}
		if chosen != nil && total != target {
			t.Fatalf("%v makes %d", chosen, total)
		}
	})
	if _, ways := assign(make([]int64, mostOpen+1), 0); ways != 2 {
		t.Error("too many letters are called certain")
	}
}

// What explains a difference, and what the sums settle.
func TestExplainAndSettle(t *testing.T) {
	delivered := func(w *world) { w.deliver("calls", "cus_1", 100, w.at(10)) }
	dead := func(w *world, value int64, reason deadletter.Reason, outcome deadletter.Outcome, code string) {
		s := w.store("calls", "cus_1", value, w.at(20))
		w.record(s, journal.Open, journal.Unknown, journal.Dying, journal.Dead)
		w.bury(s, reason, outcome, code)
	}
	ambiguous := func(w *world, value int64) { dead(w, value, deadletter.Ambiguous, deadletter.Unknown, "") }
	counted := func(w *world, value int64) { w.count("calls", "cus_1", value, w.at(20)) }
	rejected := func(w *world, outcome deadletter.Outcome, lost int64) {
		s := w.store("calls", "cus_1", 7, w.at(20))
		w.record(s, journal.Open, journal.Delivered)
		w.count("calls", "cus_1", 7-lost, w.at(20))
		w.bury(s, deadletter.RejectedLater, outcome, "some_code")
	}
	tests := []struct {
		name      string
		set       func(*world)
		verdict   Verdict // "" for none
		explained bool
		settled   string // what the letters are found to be
	}{
		{"nothing", func(*world) {}, "", false, ""},
		{"an ambiguous letter that is missing", func(w *world) { ambiguous(w, 5) }, "", false, "1 not"},
		{"one that is counted", func(w *world) { ambiguous(w, 5); counted(w, 5) }, More, true, "1 counted"},
		{"one counted of two", func(w *world) { ambiguous(w, 5); ambiguous(w, 6); counted(w, 6) }, More, true, "1 not, 2 counted"},
		{"two of the same units, one counted", func(w *world) { ambiguous(w, 5); ambiguous(w, 5); counted(w, 5) }, More, true, ""},
		{"two that make a third", func(w *world) { ambiguous(w, 2); ambiguous(w, 3); ambiguous(w, 5); counted(w, 5) }, More, true, ""},
		{"of no units", func(w *world) { ambiguous(w, 0) }, "", false, ""},
		{"more than the letters", func(w *world) { ambiguous(w, 5); counted(w, 6) }, More, false, ""},
		{"less than the letters", func(w *world) { ambiguous(w, 5); counted(w, -1) }, Less, false, ""},
		{"a server error beside it", func(w *world) {
			dead(w, 3, deadletter.ServerError, deadletter.Unknown, "")
			ambiguous(w, 5)
			counted(w, 3)
		}, More, true, "2 not"},
		{"one that was discarded, and is counted", func(w *world) {
			w.record(w.store("calls", "cus_1", 5, w.at(20)), journal.Open, journal.Unknown, journal.Dying, journal.Dead)
			counted(w, 5)
		}, More, true, ""},
		{"one that was discarded beside it", func(w *world) {
			w.record(w.store("calls", "cus_1", 3, w.at(20)), journal.Open, journal.Unknown, journal.Dying, journal.Dead)
			ambiguous(w, 5)
		}, "", false, ""},
		{"one that was refused, and another sender's", func(w *world) {
			w.record(w.store("calls", "cus_1", 5, w.at(20)), journal.Open, journal.NotSent, journal.Dying, journal.Dead)
			counted(w, 5)
		}, More, false, ""},
		{"a rejection", func(w *world) { rejected(w, deadletter.Refused, 7) }, Less, true, ""},
		{"a rejection beside it", func(w *world) { rejected(w, deadletter.Refused, 7); ambiguous(w, 5) }, Less, true, ""},
		{"a rejection that was counted all the same", func(w *world) { rejected(w, deadletter.Refused, 0) }, "", false, ""},
		{"one of a code that leaves it open, not counted", func(w *world) { rejected(w, deadletter.Unknown, 7) }, Less, true, ""},
		{"another identifier's owner", func(w *world) {
			dead(w, 4, deadletter.IdentifierConflict, deadletter.Refused, "")
			counted(w, 9)
		}, More, false, ""},
		{"its conflict beside it", func(w *world) {
			dead(w, 4, deadletter.IdentifierConflict, deadletter.Refused, "")
			ambiguous(w, 5)
			counted(w, 9)
		}, More, false, ""},
		{"in flight, counted already", func(w *world) {
			w.record(w.store("calls", "cus_1", 8, w.at(20)), journal.Open, journal.Unknown)
			counted(w, 8)
		}, Sent, true, ""},
		{"waiting beside it", func(w *world) { w.store("calls", "cus_1", 8, w.at(20)); ambiguous(w, 5) }, "", false, ""},
		{"a fraction", func(w *world) { w.odd = func(v float64) float64 { return v + 0.5 } }, NotComparable, false, ""},
		{"beyond what a float holds", func(w *world) { w.odd = func(float64) float64 { return 1 << 54 } }, NotComparable, false, ""},
		{"no meter", func(w *world) { w.formula = map[string]string{"other": "sum"} }, Less, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				delivered(w)
				tt.set(w)
				report := w.do(w.run())
				verdict, explained := Verdict(""), false
				if len(report.Differences) > 0 {
					verdict, explained = report.Differences[0].Verdict, report.Differences[0].Explained
				}
				var settled []string
				for _, s := range report.Settlements {
					settled = append(settled, fmt.Sprint(s.Letter.Letter, map[bool]string{true: " counted", false: " not"}[s.Counted]))
				}
				if verdict != tt.verdict || explained != tt.explained || strings.Join(settled, ", ") != tt.settled {
					t.Errorf("%q, %v, %q; %+v", verdict, explained, settled, report.Differences)
				}
			})
		})
	}
}

// Nothing is settled while rejections of the meter have no name, whatever the sums say.
func TestUnnamedRejectionsSettleNothing(t *testing.T) {
	for name, unnamed := range map[string]map[string]int{"its own": {"calls": 1}, "of no known meter": {"": 1}, "another's": {"other": 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.store("calls", "cus_1", 5, w.at(20))
			w.record(s, journal.Open, journal.Unknown, journal.Dying, journal.Dead)
			w.bury(s, deadletter.Ambiguous, deadletter.Unknown, "")
			r := w.run()
			r.Unnamed = unnamed
			if got, want := len(w.do(r).Settlements), map[bool]int{true: 1}[name == "another's"]; got != want {
				t.Errorf("%s: %d settlements, want %d", name, got, want)
			}
		})
	}
}

// What people declared counts: what was replayed or discarded after a rejection, and what was found
// counted.
func TestDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rejected := w.store("calls", "cus_1", 5, w.at(20))
		w.record(rejected, journal.Delivered)
		found := w.store("calls", "cus_1", 6, w.at(21))
		w.record(found, journal.Unknown, journal.Dying, journal.Dead)
		w.count("calls", "cus_1", 6, w.at(21))
		r := w.run()
		r.Past.Declared = Declared{Uncounted: map[uint64]bool{rejected: true}, Counted: map[uint64]bool{found: true}}
		if report := w.do(r); len(report.Differences) != 0 || report.Events != 1 {
			t.Errorf("%+v", report)
		}
	})
}

// Settled messages without a record of their own are duplicates; those behind the floor wait.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deliver("calls", "cus_1", 5, w.at(1))
		w.store("calls", "cus_1", 5, w.at(2)) // acked, unrecorded
		w.floor = 2
		w.store("calls", "cus_1", 5, w.at(3))
		if report := w.do(w.run()); report.Waiting != 1 || report.Equal != 1 {
			t.Errorf("%+v", report)
		}
	})
}

// Delivered messages that are gone make the comparison incomplete.
func TestTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 3 {
			w.deliver("calls", "cus_1", 5, w.at(i))
		}
		w.messages = slices.Delete(w.messages, 1, 2)
		if report := w.do(w.run()); report.Trimmed != 1 {
			t.Errorf("%+v", report)
		}
	})
}

// A delivery that is younger than the settle time is looked at until it is older, and a sum that
// comes late makes it equal.
func TestLateSums(t *testing.T) {
	for _, comes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.store("calls", "cus_1", 5, w.at(20))
			w.lines = append(w.lines, journal.Line{Entry: journal.Entry{Sequence: s, State: journal.Delivered}, At: time.Now()})
			began := time.Now()
			w.before = func(string) *Answer {
				if comes && time.Since(began) > 14*time.Minute && len(w.counted) == 0 {
					w.count("calls", "cus_1", 5, w.at(20))
				}
				return nil
			}
			report := w.do(w.run())
			if comes && (len(report.Differences) > 0 || time.Since(began) < 14*time.Minute) {
				t.Errorf("after %s: %+v", time.Since(began), report)
			}
			if !comes && (report.Count(Less) != 1 || time.Since(began) < 15*time.Minute || time.Since(began) > 16*time.Minute) {
				t.Errorf("after %s: %+v", time.Since(began), report)
			}
		})
	}
}

// Sums that go on moving are neither equal nor different when the time is over.
func TestSumsThatNeverRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deliver("calls", "cus_1", 5, w.at(20))
		w.before = func(path string) *Answer {
			if strings.Contains(path, "summaries") {
				w.count("calls", "cus_1", 1, w.at(20))
			}
			return nil
		}
		began := time.Now()
		if report := w.do(w.run()); report.Count(Unsettled) != 1 || time.Since(began) > 31*time.Minute {
			t.Errorf("after %s: %+v", time.Since(began), report)
		}
	})
}
