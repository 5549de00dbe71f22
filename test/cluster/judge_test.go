package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// evidence is what a run came to.
type evidence struct {
	Events     int            `json:"events"` // stored, as their producers know
	Duplicates int            `json:"stored_by_an_earlier_try"`
	Units      int64          `json:"units"`
	Lost       int            `json:"lost"`
	Doubled    int            `json:"doubled"`
	Unexpected int            `json:"unexpected"`
	Different  int            `json:"different"`
	Letters    uint64         `json:"dead_letters"`
	Requests   int64          `json:"requests"`
	Repeated   int64          `json:"identifiers_sent_again"`
	RateLimits int64          `json:"answers_429_for_the_rate"`
	Contended  int64          `json:"answers_429_for_contention"`
	Peak       int            `json:"peak_per_second"`
	OfTwo      int            `json:"calls_at_once_of_two_owners"`
	OfOne      int            `json:"calls_at_once_of_one_owner"`
	Fenced     int            `json:"partitions_lost_to_a_later_marker"`
	Markers    map[int]uint64 `json:"owner_markers"` // by partition
	Halts      []string       `json:"halts"`         // what was taken for a restored copy
	Faults     []fault        `json:"faults"`
	Seconds    float64        `json:"seconds"`
}

// fault is one trouble, and what came of it.
type fault struct {
	Kind    string  `json:"kind"`
	Target  string  `json:"target"`
	Publish float64 `json:"slowest_publish_s"`  // of an event published meanwhile, to its confirmation
	Deliver float64 `json:"slowest_delivery_s"` // of an event confirmed since, to Stripe's answer
	Whole   float64 `json:"whole_again_s"`      // after its beginning
}

func (f fault) String() string {
	return fmt.Sprintf("%-28s %-28s slowest publish %5.1f s, slowest delivery %5.1f s, whole again after %5.1f s", f.Kind, f.Target, f.Publish, f.Deliver, f.Whole)
}

// strike lets something happen under the load and waits until what was stored since is
// delivered.
func (w *world) strike(kind, target string, how func()) fault {
	w.t.Helper()
	began := time.Now()
	how()
	w.grown(20)
	f := fault{Kind: kind, Target: target}
	f.Deliver = w.delivered(began).Seconds()
	f.Publish, f.Whole = w.traffic.slowest(began).Seconds(), time.Since(began).Seconds()
	w.t.Log(f)
	w.whole()
	return f
}

// whole fails at the first sign of a worker that has ended or halted.
func (w *world) whole() {
	w.t.Helper()
	for _, p := range w.workers {
		if lines := p.halted(); len(lines) > 0 {
			w.t.Errorf("worker %d has halted: %s", p.number, lines)
		}
		if p.process != nil && p.ended() && p.cmd.ProcessState.ExitCode() > 0 {
			w.t.Fatalf("worker %d ended with exit code %d: %s", p.number, p.cmd.ProcessState.ExitCode(), p.log.end(2000))
		}
	}
}

// verdict ends the load, waits until everything is terminal, and judges.
func (w *world) verdict(began time.Time, faults []fault) evidence {
	w.t.Helper()
	w.traffic.cease()
	w.delivered(time.Time{})
	until(w.t, "everything to be acked", w.client.settled)
	books := w.stripe.books(w.t)
	report := books.CheckEvents(w.traffic.want)
	overlaps := w.stripe.overlaps()
	e := evidence{
		Events: len(w.traffic.want), Duplicates: w.traffic.duplicates, Units: report.CountedUnits,
		Lost: len(report.Lost), Doubled: len(report.Doubled), Unexpected: len(report.Unexpected), Different: len(report.Different),
		Letters: w.client.letters(), Requests: books.Requests, Repeated: books.Duplicates, RateLimits: books.RateLimited, Contended: books.Contended,
		Peak: books.PeakPerSecond, OfTwo: overlaps.OfTwo, OfOne: overlaps.OfOne,
		Markers: w.client.markers(), Halts: w.client.halts(), Faults: faults, Seconds: time.Since(began).Seconds(),
	}
	for _, p := range w.workers {
		e.Fenced += p.log.said("partition is owned by another worker")
		e.Halts = append(e.Halts, p.halted()...)
	}
	e.check(w.t, report, w.rate)
	w.t.Log(e.String())
	return e
}

func (e evidence) String() string {
	return fmt.Sprintf("%d events in %.0f s (%d of them stored by an earlier try): lost %d, doubled %d, dead letters %d; %d requests, %d sent again, peak %d/s, 429 %d + %d; calls at once %d of two owners, %d of one; %d partitions lost to a later marker; halts %q; owner markers %v",
		e.Events, e.Seconds, e.Duplicates, e.Lost, e.Doubled, e.Letters, e.Requests, e.Repeated, e.Peak, e.RateLimits, e.Contended, e.OfTwo, e.OfOne, e.Fenced, e.Halts, e.Markers)
}

func (e evidence) check(t testing.TB, report simulator.Report, rate int) {
	t.Helper()
	if !report.Balanced() {
		t.Errorf("the books do not balance: %s", report)
	}
	if e.Letters != 0 {
		t.Errorf("%d dead letters, want none", e.Letters)
	}
	if e.RateLimits != 0 {
		t.Errorf("%d answers 429 for the rate, want none", e.RateLimits)
	}
	if most := rate + rate/10; e.Peak > most {
		t.Errorf("%d requests in one second, want at most %d", e.Peak, most)
	}
	if e.OfOne != 0 {
		t.Errorf("%d times one worker made two calls at once for one customer and meter", e.OfOne)
	}
	if len(e.Halts) != 0 {
		t.Errorf("streams were taken for restored ones: %q", e.Halts)
	}
}
