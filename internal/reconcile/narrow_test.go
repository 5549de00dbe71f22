package reconcile

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// Differences are traced to their minutes, and each names the events whose loss would make it.
func TestMinutesAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for minute := range 60 {
			w.deliver("calls", "cus_1", int64(minute), w.at(minute))
		}
		lost := w.store("calls", "cus_1", 7, w.at(13))
		w.record(lost, journal.Delivered)
		w.store("calls", "cus_1", 7, w.at(13)) // not sent, so not lost
		w.count("calls", "cus_1", 3, w.at(59))
		w.deliver("calls", "cus_1", 7, w.at(14))
		report := w.do(w.run())
		if len(report.Differences) != 1 {
			t.Fatalf("%+v", report)
		}
		d := report.Differences[0]
		if want := []time.Time{w.at(13), w.at(59)}; !slices.EqualFunc(d.Minutes, want, time.Time.Equal) {
			t.Errorf("minutes %v, want %v", d.Minutes, want)
		}
		if len(d.Candidates) != 1 || d.Candidates[0].Kind != Delivered || d.Candidates[0].Sequence != lost || d.More != 0 {
			t.Errorf("candidates %+v and %d more", d.Candidates, d.More)
		}
	})
}

// A difference that is spread over the hour costs a bounded number of questions.
func TestSpreadDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for minute := range 60 {
			w.record(w.store("calls", "cus_1", 1, w.at(minute)), journal.Delivered)
		}
		report := w.do(w.run())
		if len(report.Differences) != 1 || len(report.Differences[0].Minutes) != 0 || report.Reads > mostNarrowed+10 {
			t.Errorf("%d questions, %+v", report.Reads, report.Differences)
		}
	})
}

// Of many events that may be the lost one, some are named and the others counted.
func TestManyCandidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.formula["calls"] = "count"
		for range mostFound + 5 {
			w.deliver("calls", "cus_1", 9, w.at(3))
		}
		w.count("calls", "cus_1", 0, w.at(3))
		w.record(w.store("calls", "cus_1", 9, w.at(3)), journal.Delivered)
		w.record(w.store("calls", "cus_1", 9, w.at(3)), journal.Delivered)
		report := w.do(w.run())
		if d := report.Differences[0]; d.Difference() != -1 || len(d.Candidates) != mostFound || d.More != 7 {
			t.Errorf("%v, %d candidates, %d more", d.Difference(), len(d.Candidates), d.More)
		}
	})
}

// What the journal says last of a message, entry by entry.
func TestFates(t *testing.T) {
	for want, entries := range map[fate][][]journal.State{
		silent:         {{}, {journal.Open, journal.NotSent}, {journal.Open, journal.NotSent, journal.Open, journal.NotSent}},
		open:           {{journal.Open}, {journal.Open, journal.NotSent, journal.Open}},
		doubtful:       {{journal.Unknown}, {journal.Open, journal.Unknown, journal.Open}, {journal.Unknown, journal.Open, journal.NotSent}},
		delivered:      {{journal.Open, journal.Delivered}, {journal.Unknown, journal.Delivered}, {journal.Delivered, journal.Open}, {journal.Delivered, journal.Unknown}},
		dead:           {{journal.Open, journal.NotSent, journal.Dying, journal.Dead}, {journal.Dying}, {journal.Dead, journal.Open}},
		dead | doubted: {{journal.Open, journal.Unknown, journal.Dying, journal.Dead}, {journal.Unknown, journal.Dead}},
	} {
		for _, states := range entries {
			known := fates{}
			for _, s := range states {
				known.learn(5000, s, false)
			}
			if got := known.of(5000); got != want || known.of(4999) != silent || known.of(1) != silent {
				t.Errorf("%v: %d, want %d", states, got, want)
			}
		}
	}
}
