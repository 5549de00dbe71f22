package simulator

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is one event on which the books and the expectation differ. Where the
// check went by identifier, only Identifier is set of Event.
type Finding struct {
	Event
	Times         int   `json:"times"`                   // counted
	RefusedLater  int   `json:"refused_later,omitempty"` // refused after the 200
	ExpectedUnits int64 `json:"expected_units"`
	CountedUnits  int64 `json:"counted_units"`
}

// Report is the judgement of the books. Each list is ordered by identifier; an
// event is in one list only.
type Report struct { //nolint:recvcheck // a value to its readers; judge and sort build it
	Expected      int       `json:"expected"` // events expected
	Counted       int       `json:"counted"`  // events counted at least once
	ExpectedUnits int64     `json:"expected_units"`
	CountedUnits  int64     `json:"counted_units"`
	Lost          []Finding `json:"lost"`       // expected, never counted
	Doubled       []Finding `json:"doubled"`    // counted more than once, expected or not
	Unexpected    []Finding `json:"unexpected"` // counted once, not expected
	Different     []Finding `json:"different"`  // counted once, with other units
}

// Balanced reports whether every expected event was counted once, with its
// units, and nothing else was.
func (r Report) Balanced() bool {
	return len(r.Lost)+len(r.Doubled)+len(r.Unexpected)+len(r.Different) == 0
}

// reportLines is how many findings of a kind String names; the lists hold all.
const reportLines = 20

// String is the report for people: one line of sums, one for each finding.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "expected %d (%d units), counted %d (%d units): lost %d, doubled %d, unexpected %d, different %d\n",
		r.Expected, r.ExpectedUnits, r.Counted, r.CountedUnits,
		len(r.Lost), len(r.Doubled), len(r.Unexpected), len(r.Different))
	for _, list := range []struct {
		name     string
		findings []Finding
	}{{"lost", r.Lost}, {"doubled", r.Doubled}, {"unexpected", r.Unexpected}, {"different", r.Different}} {
		for i, f := range list.findings {
			if i == reportLines {
				fmt.Fprintf(&b, "%s: … and %d more\n", list.name, len(list.findings)-i)
				break
			}
			fmt.Fprintf(&b, "%s: %q (%s, %s): counted %d times, %d units of %d expected\n", list.name,
				f.Identifier, f.EventName, f.Customer, f.Times, f.CountedUnits, f.ExpectedUnits)
		}
	}
	return b.String()
}

// Check holds the books against the units expected of each identifier. An
// identifier counted for two customers or meters is doubled; where producers use
// one identifier for several of them on purpose, use [Books.CheckEvents].
func (b Books) Check(expected map[string]int64) Report {
	return audit(b.Events, expected, func(e Event) string { return e.Identifier },
		func(identifier string) Event { return Event{Identifier: identifier} })
}

// CheckEvents holds the books against the units expected of each event, mode,
// event name and customer included.
func (b Books) CheckEvents(expected map[Event]int64) Report {
	same := func(e Event) Event { return e }
	return audit(b.Events, expected, same, same)
}

func audit[K comparable](counted []Counted, expected map[K]int64, key func(Event) K, name func(K) Event) Report {
	findings := make(map[K]Finding, len(counted))
	for _, c := range counted {
		f := findings[key(c.Event)]
		f.Event = name(key(c.Event))
		f.Times += c.Times
		f.RefusedLater += c.RefusedLater
		f.CountedUnits += c.Units
		findings[key(c.Event)] = f
	}
	r := Report{Lost: []Finding{}, Doubled: []Finding{}, Unexpected: []Finding{}, Different: []Finding{}}
	for k, f := range findings {
		units, wanted := expected[k]
		f.ExpectedUnits = units
		r.judge(f, wanted)
	}
	for k, units := range expected {
		if _, seen := findings[k]; !seen {
			r.judge(Finding{Event: name(k), ExpectedUnits: units}, true)
		}
	}
	r.sort()
	return r
}

func (r *Report) judge(f Finding, wanted bool) {
	if wanted {
		r.Expected++
		r.ExpectedUnits += f.ExpectedUnits
	}
	if f.Times > 0 {
		r.Counted++
		r.CountedUnits += f.CountedUnits
	}
	switch {
	case f.Times > 1:
		r.Doubled = append(r.Doubled, f)
	case f.Times == 0 && wanted:
		r.Lost = append(r.Lost, f)
	case f.Times == 1 && !wanted:
		r.Unexpected = append(r.Unexpected, f)
	case f.CountedUnits != f.ExpectedUnits:
		r.Different = append(r.Different, f)
	}
}

func (r *Report) sort() {
	byEvent := func(a, b Finding) int { return compareEvents(a.Event, b.Event) }
	for _, list := range [][]Finding{r.Lost, r.Doubled, r.Unexpected, r.Different} {
		slices.SortFunc(list, byEvent)
	}
}
