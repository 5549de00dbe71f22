package journal

import "time"

// Span is a time whose records are missing, as a person has declared: the journal was
// replaced by a copy that ends at Since, and was worked with until Until. Both are the
// server's time; a zero Since means that anything may be missing.
//
// Whatever is not known and may have been sent in it counts as an attempt of unknown
// outcome, begun at Since at the earliest: repeated inside the safe window, when Stripe
// would still recognise it, and ambiguous past it.
type Span struct{ Since, Until time.Time }

// aheadOf is how far an event's timestamp may lie after the moment at which it was sent:
// Stripe takes no later one.
const aheadOf = 5 * time.Minute

// covers reports whether an event of this time may have been sent in the span. Its own
// message need not: an identifier may have been used before.
func (s Span) covers(eventTime time.Time) bool { return eventTime.Before(s.Until.Add(aheadOf)) }

// doubts adds the attempts that the lost records may have told of. l.mu is held.
func (l *Ledger) doubts(known *Known, q Question, now time.Time) {
	for _, span := range l.lost {
		if !span.covers(q.EventTime) || span.Until.Before(q.Forgive) {
			continue
		}
		at := l.moment(span.Since)
		if !known.Unknown || at.Older(known.Oldest, now) {
			known.Oldest = at
		}
		known.Unknown, known.SameContent = true, true
	}
}
