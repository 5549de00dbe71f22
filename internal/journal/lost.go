package journal

import "time"

// Span is a time whose records are missing, as a person has declared: the journal was
// replaced by a copy that ends at Since (zero: nobody knows), and that was noticed at
// Until, when the outbox ended at Sequence. All are the server's.
//
// Whatever is not known and may have been sent in it counts as an attempt of unknown
// outcome, begun at Since at the earliest: repeated inside the safe window, when Stripe
// would still recognise it, and ambiguous past it.
type Span struct {
	Since, Until time.Time
	Sequence     uint64
}

// covers reports whether the message, or another one with its identifier, may have been
// sent in the span: it was there, or its event is of that time. A span that a person has
// forgiven since does not count.
func (s Span) covers(q Question) bool {
	if s.Until.Before(q.Forgive) {
		return false
	}
	return q.Sequence <= s.Sequence || q.EventTime.Before(s.Until)
}

// doubts adds the attempts that the lost records may have told of. l.mu is held.
func (l *Ledger) doubts(known *Known, q Question, now time.Time) {
	for _, span := range l.lost {
		if !span.covers(q) {
			continue
		}
		at := l.moment(span.Since)
		if !known.Unknown || at.Older(known.Oldest, now) {
			known.Oldest = at
		}
		known.Unknown, known.SameContent = true, true
	}
}
