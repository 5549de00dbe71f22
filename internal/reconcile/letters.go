package reconcile

import (
	"context"
	"strconv"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// Letter is a dead letter, and what its body says.
type Letter struct {
	deadletter.Letter

	ID                         uint64
	EventName, Customer, Value string
	MayBeCounted               bool // for this very usage
}

// Letters is where dead letters are read; "" is any event name, any customer.
type Letters interface {
	Each(ctx context.Context, eventName, customer string, visit func(Letter) error) error
}

// openLetter is a dead letter that may explain something.
type openLetter struct {
	Candidate

	maybe     bool // Stripe may have counted it
	ambiguous bool
	recent    bool // its last attempt is younger than the settle time
}

// openLetters are those of the period, by cell.
func (r *Run) openLetters(ctx context.Context) (map[Cell][]openLetter, error) {
	found := map[Cell][]openLetter{}
	now := time.Now()
	err := r.Letters.Each(ctx, r.Past.EventName, r.Past.Customer, func(l Letter) error {
		open, matters := openLetterOf(l)
		happened := happenedAt(l)
		if !matters || !r.Past.Period.holds(happened) {
			return nil
		}
		open.recent = now.Sub(l.LastAttempt) < r.Past.Settle
		c := cellOf(l.EventName, l.Customer, happened)
		found[c] = append(found[c], open)
		return nil
	})
	return found, err
}

func happenedAt(l Letter) int64 {
	if l.Timestamp == 0 && !l.StoredAt.IsZero() {
		return l.StoredAt.Unix()
	}
	return l.Timestamp
}

// openLetterOf tells whether Stripe's sums can say anything of the letter.
func openLetterOf(l Letter) (openLetter, bool) {
	units, err := strconv.ParseInt(l.Value, 10, 64)
	open := openLetter{maybe: l.MayBeCounted, Candidate: Candidate{
		Letter: l.ID, Sequence: l.Sequence, Identifier: l.Identifier, Units: units, Count: 1,
		Reason: string(l.Reason), Code: l.Code, Timestamp: happenedAt(l), unread: err != nil,
	}}
	switch {
	case l.Reason == deadletter.RejectedLater:
		open.Kind = RejectedLater
	case l.Reason == deadletter.IdentifierConflict && !open.maybe:
		open.Kind = Conflict
	case open.maybe:
		open.Kind, open.ambiguous = UnknownOutcome, l.Reason == deadletter.Ambiguous
	default:
		return open, false
	}
	return open, true
}
