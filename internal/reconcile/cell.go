package reconcile

import (
	"math"
	"time"

	"github.com/meterworker/meterworker/internal/meters"
)

// An hour is the window of Stripe's sums that cells are made of, in seconds.
const (
	hour           = 3600
	minutesPerHour = 60
)

// Cell is one hour of one customer on one meter.
type Cell struct {
	EventName string
	Customer  string
	Hour      int64 // Unix seconds of its beginning
}

// Start is when the hour begins.
func (c Cell) Start() time.Time { return time.Unix(c.Hour, 0).UTC() }

func cellOf(eventName, customer string, timestamp int64) Cell {
	return Cell{eventName, customer, timestamp - mod(timestamp, hour)}
}

func mod(n, d int64) int64 { return ((n % d) + d) % d }

// Period is whole hours: from Since up to, and without, Until.
type Period struct{ Since, Until time.Time }

func (p Period) holds(timestamp int64) bool {
	return timestamp >= p.Since.Unix() && timestamp < p.Until.Unix()
}

// sum is what a set of events comes to, by either formula.
type sum struct{ units, events int64 }

// by is the sum as the meter makes it.
func (s *sum) by(f meters.Formula) int64 {
	if f == meters.Count {
		return s.events
	}
	return s.units
}

// mostUnits bounds a sum, far beyond what a float can tell apart: one more event cannot
// overflow it.
const mostUnits = math.MaxInt64 / 2

// add reports false where the sum would leave its bounds.
func (s *sum) add(units int64) bool {
	if units > 0 && s.units > mostUnits || units < 0 && s.units < -mostUnits {
		return false
	}
	s.units += units
	s.events++
	return true
}

// Ours is what the outbox and the journal say of a cell.
type Ours struct {
	delivered sum
	waiting   int64 // events without a final record: not sent yet, or on their way
	maybe     []Candidate
	maybeMore bool // more of them than are kept
	byHand    []Candidate
	recent    bool // something was delivered less than the settle time ago
	overflow  bool

	minutes *[minutesPerHour]sum // of what was delivered, where it was asked for
}

// mostMaybe bounds the events of one cell that may have been sent and have no final record.
const mostMaybe = 16

// exact is the largest number up to which a float tells all whole numbers apart.
const exact = 1 << 53

// fits reports whether two sums can be compared to the unit.
func fits(ours int64, overflow bool, counted float64) bool {
	return !overflow && max(ours, -ours) <= exact && math.Abs(counted) <= exact && counted == math.Trunc(counted)
}
