package reconcile

import (
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/meters"
)

// Verdict says how a cell's two sums stand to each other. The list is closed.
type Verdict string

// The verdicts. Equal cells are counted only.
const (
	Less          Verdict = "less"           // Stripe has less than was delivered
	More          Verdict = "more"           // Stripe has more than was delivered
	Sent          Verdict = "in_flight"      // what has no final record yet explains it: no difference
	Unsettled     Verdict = "unsettled"      // the sums did not come to rest in time
	NotComparable Verdict = "not_comparable" // a sum that a float cannot hold to the unit
)

// Verdicts returns the closed list.
func Verdicts() []Verdict { return []Verdict{Less, More, Sent, Unsettled, NotComparable} }

// Difference is one cell of which the two sums are not known to be equal.
type Difference struct {
	Cell

	Meter      meters.Meter // its ID is "" where Stripe has none
	Verdict    Verdict
	Delivered  int64 // by the meter's formula
	Counted    float64
	Events     int64 // delivered
	Waiting    int64
	Explained  bool // the candidates can make up for the difference to the unit
	Candidates []Candidate
	More       int         // further events like those of the kind Delivered
	Minutes    []time.Time // where the difference lies; empty: not known
	ReadAt     time.Time   // when Stripe was asked last
}

// Difference is Stripe's sum without ours.
func (d *Difference) Difference() float64 { return d.Counted - float64(d.Delivered) }

// Settlement is what the sums prove of one ambiguous dead letter.
type Settlement struct {
	Cell

	Letter     Candidate
	Counted    bool // else Stripe has not counted it
	Delivered  int64
	AtStripe   int64
	Others     int // open letters of the cell beside it
	ReadAt     time.Time
	FirstRead  time.Time
	MeterID    string
	ByFormula  meters.Formula
	Assignment []uint64 // the letters that are counted, of all open ones
}

// suspect is a cell that is looked at more than once.
type suspect struct {
	Cell

	meter   meters.Meter
	ours    Ours
	counted float64
	letters []openLetter
	unnamed int // rejections of its meter that nobody could name

	firstRead, readAt time.Time
	stable            bool // two looks agreed, and nothing in it is recent
	split             *split
	want              *want
}

func (s *suspect) mine() int64 { return s.ours.delivered.by(s.meter.Formula) }

func (s *suspect) comparable() bool { return fits(s.mine(), s.ours.overflow, s.counted) }

func (s *suspect) equal() bool { return s.comparable() && s.mine() == int64(s.counted) }

// recent reports whether something in the cell is younger than Stripe's sums take.
func (s *suspect) recent() bool {
	for _, l := range s.letters {
		if l.recent {
			return true
		}
	}
	return s.ours.recent
}

// ambiguous reports whether the cell has a letter that its sums may settle.
func (s *suspect) ambiguous() bool {
	for _, l := range s.letters {
		if l.ambiguous {
			return true
		}
	}
	return false
}

// judge says what a cell comes to. equal cells have no difference.
func (s *suspect) judge() (Difference, bool) {
	d := Difference{
		Cell: s.Cell, Meter: s.meter, Delivered: s.mine(), Counted: s.counted, Events: s.ours.delivered.events,
		Waiting: s.ours.waiting, ReadAt: s.readAt, Candidates: s.candidates(),
	}
	if s.split != nil {
		d.Minutes = s.split.times(s.Cell)
	}
	if s.want != nil {
		d.Candidates, d.More = append(d.Candidates, s.want.found...), s.want.more
	}
	d.Explained = s.comparable() && s.explained()
	switch {
	case s.equal():
		return d, false
	case !s.stable:
		d.Verdict = Unsettled
	case !s.comparable():
		d.Verdict = NotComparable
	case s.sent():
		d.Verdict = Sent
	case s.mine() > int64(s.counted):
		d.Verdict = Less
	default:
		d.Verdict = More
	}
	if d.Verdict == More && !d.Explained {
		d.Candidates = append(d.Candidates, Candidate{Kind: ForeignSender})
	}
	return d, true
}

func (s *suspect) candidates() []Candidate {
	var list []Candidate
	if s.meter.ID == "" || !s.meter.Active {
		list = append(list, Candidate{Kind: NoMeter})
	}
	for _, l := range s.letters {
		list = append(list, l.Candidate)
	}
	list = append(append(list, s.ours.maybe...), s.dealtWith()...)
	if s.unnamed > 0 {
		list = append(list, Candidate{Kind: Unnamed, Count: s.unnamed})
	}
	return list
}

// explained reports whether letters and events in flight can make up for the difference to the
// unit. What was rejected later is missing for certain where Stripe's code says so.
func (s *suspect) explained() bool {
	target := int64(s.counted) - s.mine()
	var open []int64
	for _, l := range s.letters {
		weight := l.weight(s.meter.Formula)
		switch {
		case l.unread:
			return false
		case l.Kind == RejectedLater && !l.maybe:
			target += weight
		case l.Kind == RejectedLater:
			open = append(open, -weight)
		case l.Kind == UnknownOutcome:
			open = append(open, weight)
		}
	}
	for _, c := range append(slices.Clone(s.ours.maybe), s.dealtWith()...) {
		open = append(open, c.weight(s.meter.Formula))
	}
	chosen, _ := assign(open, target)
	return chosen != nil
}

// dealtWith are the events that may have been counted before they died, and whose letters are gone.
func (s *suspect) dealtWith() []Candidate {
	return slices.DeleteFunc(slices.Clone(s.ours.byHand), func(c Candidate) bool {
		return slices.ContainsFunc(s.letters, func(l openLetter) bool { return l.Sequence == c.Sequence })
	})
}

// sent reports whether events in flight alone explain it.
func (s *suspect) sent() bool {
	if len(s.ours.maybe) == 0 {
		return false
	}
	if s.ours.maybeMore {
		return s.counted > float64(s.mine())
	}
	weights := make([]int64, len(s.ours.maybe))
	for i, c := range s.ours.maybe {
		weights[i] = c.weight(s.meter.Formula)
	}
	chosen, _ := assign(weights, int64(s.counted)-s.mine())
	return chosen != nil
}

// settle says what the sums prove of the cell's ambiguous letters: nothing, unless letters of
// unknown outcome are all that is open in it, and one assignment alone makes the sums meet.
func (s *suspect) settle() []Settlement {
	if !s.stable || !s.comparable() || s.unnamed > 0 || s.ours.waiting > 0 || len(s.dealtWith()) > 0 || !s.meter.Active || s.meter.ID == "" {
		return nil
	}
	weights := make([]int64, len(s.letters))
	for i, l := range s.letters {
		if l.Kind != UnknownOutcome || l.unread {
			return nil
		}
		weights[i] = l.weight(s.meter.Formula)
	}
	chosen, ways := assign(weights, int64(s.counted)-s.mine())
	if ways != 1 {
		return nil
	}
	var counted []uint64
	for i, l := range s.letters {
		if chosen[i] {
			counted = append(counted, l.Letter)
		}
	}
	var proven []Settlement
	for i, l := range s.letters {
		if l.ambiguous {
			proven = append(proven, Settlement{
				Cell: s.Cell, Letter: l.Candidate, Counted: chosen[i], Delivered: s.mine(), AtStripe: int64(s.counted),
				Others: len(s.letters) - 1, ReadAt: s.readAt, FirstRead: s.firstRead, MeterID: s.meter.ID, ByFormula: s.meter.Formula,
				Assignment: counted,
			})
		}
	}
	return proven
}
