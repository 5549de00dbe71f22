package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/meters"
)

// Run is one comparison.
type Run struct {
	Past      *Past
	Stripe    *Stripe
	Letters   Letters
	Customers []string       // to be asked for besides those that we delivered to
	Unnamed   map[string]int // rejections that Stripe did not name, by event name; "" is of any

	// LookEvery is between two looks; Wait bounds the looks after the second.
	LookEvery, Wait time.Duration

	// Progress hears how far each step is; all is 0 where it is not known.
	Progress func(step string, done, all int)
}

// Report is what came of it.
type Report struct {
	Period      Period
	Events      int64 // delivered
	Waiting     int64 // without a final record
	Customers   int   // pairs of customer and meter that Stripe was asked for
	Cells       int
	Equal       int
	Reads       int
	Differences []Difference
	Settlements []Settlement
	NotRead     []string // event names whose meter does not add up: there is no sum
	Trimmed     int64    // delivered messages that are missing in the outbox
}

// Count is how many differences have the verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for _, d := range r.Differences {
		if d.Verdict == v {
			n++
		}
	}
	return n
}

// pair is what Stripe is asked for at once.
type pair struct{ eventName, customer string }

// Do compares. The report holds what is known when it ends early.
func (r *Run) Do(ctx context.Context) (Report, error) {
	report := Report{Period: r.Past.Period}
	r.Progress("reading Stripe's meters", 0, 0)
	list, err := meters.List(ctx, r.Stripe.ask)
	if err != nil {
		return report, fmt.Errorf("list Stripe's meters: %w", err)
	}
	suspects, err := r.first(ctx, meters.ByName(list), &report)
	if err == nil {
		err = r.again(ctx, suspects)
	}
	if err == nil {
		err = r.explain(ctx, suspects)
	}
	if err != nil {
		return report, err
	}
	for _, s := range suspects {
		d, differs := s.judge()
		if differs {
			report.Differences = append(report.Differences, d)
		} else {
			report.Equal++
		}
		report.Settlements = append(report.Settlements, s.settle()...)
	}
	report.Reads = r.Stripe.reads
	return report, nil
}

// first looks at every cell, and returns those to be looked at again, in order.
func (r *Run) first(ctx context.Context, known map[string]meters.Meter, report *Report) ([]*suspect, error) {
	r.Progress("reading what was delivered", 0, 0)
	began := time.Now()
	ours, err := r.Past.read(ctx, nil)
	if err != nil {
		return nil, err
	}
	r.Progress("reading dead letters", 0, 0)
	letters, err := r.openLetters(ctx)
	if err != nil {
		return nil, err
	}
	report.Trimmed = ours.trimmed
	hours := map[pair][]Cell{}
	for c, o := range ours.cells {
		report.Events, report.Waiting = report.Events+o.delivered.events, report.Waiting+o.waiting
		hours[pair{c.EventName, c.Customer}] = append(hours[pair{c.EventName, c.Customer}], c)
	}
	for c := range letters {
		hours[pair{c.EventName, c.Customer}] = append(hours[pair{c.EventName, c.Customer}], c)
	}
	pairs := r.pairs(hours, known)
	var suspects []*suspect
	for i, p := range pairs {
		r.Progress("asking Stripe", i, len(pairs))
		m := known[p.eventName]
		if m.ID != "" && !m.Adds() {
			report.notRead(p.eventName)
			continue
		}
		counted, err := r.counted(ctx, m, p)
		if err != nil {
			return nil, err
		}
		report.Customers++
		for _, c := range cellsOf(p, hours[p], counted) {
			report.Cells++
			s := &suspect{Cell: c, meter: m, counted: counted[c.Hour], letters: letters[c], firstRead: began, readAt: time.Now(), unnamed: r.Unnamed[c.EventName] + r.Unnamed[""]}
			if o := ours.cells[c]; o != nil {
				s.ours = *o
			}
			if s.equal() && !s.ambiguous() {
				report.Equal++
				continue
			}
			suspects = append(suspects, s)
		}
	}
	return suspects, nil
}

func (r *Report) notRead(eventName string) {
	if !slices.Contains(r.NotRead, eventName) {
		r.NotRead = append(r.NotRead, eventName)
	}
}

// counted asks for the hours of one pair; without a meter nothing is counted.
func (r *Run) counted(ctx context.Context, m meters.Meter, p pair) (map[int64]float64, error) {
	if m.ID == "" {
		return nil, nil
	}
	return r.Stripe.hours(ctx, m, p.customer, r.Past.Period)
}

// pairs are those that we have delivered to, those with open letters, and the customers that
// were named, on every meter.
func (r *Run) pairs(hours map[pair][]Cell, known map[string]meters.Meter) []pair {
	all := map[pair]bool{}
	for p := range hours {
		all[p] = true
	}
	for _, customer := range r.Customers {
		for name := range known {
			if r.Past.EventName == "" || r.Past.EventName == name {
				all[pair{name, customer}] = true
			}
		}
	}
	list := make([]pair, 0, len(all))
	for p := range all {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.eventName, b.eventName), strings.Compare(a.customer, b.customer))
	})
	return list
}

// cellsOf are the hours of a pair that either side knows of.
func cellsOf(p pair, ours []Cell, counted map[int64]float64) []Cell {
	cells := slices.Clone(ours)
	for h := range counted {
		cells = append(cells, Cell{p.eventName, p.customer, h})
	}
	slices.SortFunc(cells, func(a, b Cell) int { return cmp.Compare(a.Hour, b.Hour) })
	return slices.Compact(cells)
}

// again looks at the suspects until each has come to rest, or Wait is over; once in any case.
func (r *Run) again(ctx context.Context, suspects []*suspect) error {
	deadline := time.Now().Add(r.Wait)
	for left := suspects; len(left) > 0; {
		r.Progress("waiting for sums to come to rest", len(suspects)-len(left), len(suspects))
		if err := pause(ctx, r.LookEvery); err != nil {
			return err
		}
		if err := r.look(ctx, left); err != nil {
			return err
		}
		left = slices.DeleteFunc(slices.Clone(left), func(s *suspect) bool { return s.stable || s.equal() && !s.ambiguous() })
		if !time.Now().Before(deadline) {
			return nil
		}
	}
	return nil
}

// look reads both sides of the cells, and the letters, anew.
func (r *Run) look(ctx context.Context, cells []*suspect) error {
	only := wanted{}
	for _, s := range cells {
		only[s.Cell] = &want{}
	}
	ours, err := r.Past.read(ctx, only)
	if err != nil {
		return err
	}
	letters, err := r.openLetters(ctx)
	if err != nil {
		return err
	}
	var last pair
	var counted map[int64]float64
	for i, s := range cells {
		if p := (pair{s.EventName, s.Customer}); i == 0 || p != last {
			if counted, err = r.counted(ctx, s.meter, p); err != nil {
				return err
			}
			last = p
		}
		s.take(ours.cells[s.Cell], counted[s.Hour], letters[s.Cell])
	}
	return nil
}

// take compares a look with the one before.
func (s *suspect) take(ours *Ours, counted float64, letters []openLetter) {
	if ours == nil {
		ours = &Ours{}
	}
	agrees := s.ours.delivered == ours.delivered && s.ours.waiting == ours.waiting && s.counted == counted &&
		slices.EqualFunc(s.letters, letters, func(a, b openLetter) bool { return a.Letter == b.Letter })
	s.ours, s.counted, s.letters, s.readAt = *ours, counted, letters, time.Now()
	s.stable = agrees && !s.recent()
}

// mostExplained bounds the cells whose differences are traced to minutes and events: beyond that the
// trouble is one for a person to look at as a whole.
const mostExplained = 500

// explain finds the minutes of the differences, and the events whose loss would make them.
func (r *Run) explain(ctx context.Context, suspects []*suspect) error {
	only := wanted{}
	for i, s := range suspects {
		r.Progress("tracing differences", i, len(suspects))
		if s.equal() || !s.stable || !s.comparable() || s.meter.ID == "" || len(only) == mostExplained {
			continue
		}
		var err error
		if s.split, err = r.narrow(ctx, s); err != nil {
			return err
		}
		s.want = s.split.wants(s)
		only[s.Cell] = s.want
	}
	if len(only) == 0 {
		return nil
	}
	_, err := r.Past.read(ctx, only)
	return err
}
