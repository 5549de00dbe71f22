package replay

import (
	"slices"
	"strings"
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
	Text      string    // somewhere in identifier, event name, customer or detail, whatever its case
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
		(f.Text == "" || l.says(f.Text)) &&
		(f.Since.IsZero() || !died.Before(f.Since)) &&
		(f.Until.IsZero() || died.Before(f.Until))
}

// says tells whether a text is somewhere in what a person would look for.
func (l Letter) says(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc([]string{l.Identifier, l.EventName(), l.Customer(), l.Detail}, func(field string) bool {
		return strings.Contains(strings.ToLower(field), text)
	})
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
