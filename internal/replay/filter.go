package replay

import (
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// Filter selects dead letters; what is zero selects all.
type Filter struct {
	Reasons   []deadletter.Reason // any of them
	EventName string
	Customer  string
	Code      string    // Stripe's error code
	Episode   string    // number of the outage
	Since     time.Time // died then or later
	Until     time.Time // died before then

	// Limit is how many letters to visit, the oldest first; 0 is no limit.
	Limit int
	// Through is the last letter to look at, by number; 0 is the last one there is
	// when the reading begins.
	Through uint64
	// From is the first letter to look at, by number.
	From uint64
}

// Matches tells whether the letter is one of those selected. Limit, Through and From are
// not the letter's.
func (f Filter) Matches(l Letter) bool {
	died := l.Died()
	return (len(f.Reasons) == 0 || slices.Contains(f.Reasons, l.Reason)) &&
		(f.EventName == "" || f.EventName == l.EventName()) &&
		(f.Customer == "" || f.Customer == l.Customer()) &&
		(f.Code == "" || f.Code == l.Code) &&
		(f.Episode == "" || f.Episode == l.Episode) &&
		(f.Since.IsZero() || !died.Before(f.Since)) &&
		(f.Until.IsZero() || died.Before(f.Until))
}

// subjects narrows what the server sends; the reason is all that it can tell.
func (f Filter) subjects() []string {
	var subjects []string
	for _, reason := range f.Reasons {
		subject := "usage.dlq." + string(reason) + ".*"
		if !slices.Contains(subjects, subject) { // the server refuses overlaps
			subjects = append(subjects, subject)
		}
	}
	return subjects
}
