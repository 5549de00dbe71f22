package reconcile

import (
	"context"
	"errors"
	"math"
	"time"
)

// mostNarrowed bounds the questions about one cell: one minute takes six, and what is spread
// over the hour is not named better by more.
const mostNarrowed = 24

// split is where in its hour a difference lies.
type split struct {
	missing [minutesPerHour]int64 // by minute: ours without Stripe's
	whole   bool                  // not narrowed: it lies anywhere in the hour
}

// errSpread says that a difference cannot be narrowed: it is spread out, or has moved.
var errSpread = errors.New("not narrowed")

// narrow halves the hour until the minutes of the difference are known. Stripe's sums over
// minutes are sums over whole minutes of the events' timestamps, as ours are.
func (r *Run) narrow(ctx context.Context, s *suspect) (*split, error) {
	n := narrowing{run: r, suspect: s, left: mostNarrowed, split: &split{}}
	if s.ours.minutes == nil { // nothing of ours in the hour
		s.ours.minutes = new([minutesPerHour]sum)
	}
	err := n.halve(ctx, 0, minutesPerHour, s.mine()-int64(s.counted))
	if errors.Is(err, errSpread) {
		n.split = &split{whole: true}
		err = nil
	}
	return n.split, err
}

type narrowing struct {
	run     *Run
	suspect *suspect
	left    int // questions
	split   *split
}

// halve finds where in the minutes from up to until the difference lies.
func (n *narrowing) halve(ctx context.Context, from, until int, missing int64) error {
	switch {
	case until-from == 1:
		n.split.missing[from] = missing
		return nil
	case n.left == 0:
		return errSpread
	}
	middle := (from + until) / 2
	counted, err := n.run.Stripe.between(ctx, n.suspect.meter, n.suspect.Customer, n.suspect.Hour+int64(from)*60, n.suspect.Hour+int64(middle)*60)
	if err != nil {
		return err
	}
	n.left--
	if counted != math.Trunc(counted) || math.Abs(counted) > exact {
		return errSpread
	}
	left := n.mine(from, middle) - int64(counted)
	if left != 0 {
		if err := n.halve(ctx, from, middle, left); err != nil {
			return err
		}
	}
	if right := missing - left; right != 0 {
		return n.halve(ctx, middle, until, right)
	}
	return nil
}

func (n *narrowing) mine(from, until int) int64 {
	total := int64(0)
	for _, minute := range n.suspect.ours.minutes[from:until] {
		total += minute.by(n.suspect.meter.Formula)
	}
	return total
}

// wants is what the last reading looks for.
func (p *split) wants(s *suspect) *want {
	w := &want{formula: s.meter.Formula, missing: p.missing}
	if p.whole {
		for i := range w.missing {
			w.missing[i] = s.mine() - int64(s.counted)
		}
	}
	return w
}

// times are the minutes; none where the difference was not narrowed.
func (p *split) times(c Cell) []time.Time {
	var times []time.Time
	for minute, missing := range p.missing {
		if missing != 0 {
			times = append(times, c.Start().Add(time.Duration(minute)*time.Minute))
		}
	}
	return times
}
