package webhook

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"
)

// The types of event that are about usage.
const (
	TypeErrorReport = "v1.billing.meter.error_report_triggered"
	TypeNoMeter     = "v1.billing.meter.no_meter_found"
)

// tokens are the types that are stored, and the subject tokens under which.
var tokens = map[string]string{
	TypeErrorReport: "error_report_triggered",
	TypeNoMeter:     "no_meter_found",
}

// notification is a thin event: it says that there is a report, and not what is in it.
type notification struct {
	ID       string    `json:"id"`
	Object   string    `json:"object"`
	Type     string    `json:"type"`
	Livemode *bool     `json:"livemode"`
	Created  time.Time `json:"created"`
	Context  string    `json:"context"` // the account that it is about, where that is not the endpoint's own
	Related  *related  `json:"related_object"`
}

// related is the meter that a report is about.
type related struct {
	ID string `json:"id"`
}

// Both become parts of a path at Stripe and of a subject here.
var (
	eventID = regexp.MustCompile(`^evt_[A-Za-z0-9_]{1,200}$`)
	meterID = regexp.MustCompile(`^[A-Za-z0-9_]{1,200}$`)
)

// kind is what is to be done with a notification whose signature is right.
type kind uint8

const (
	report    kind = iota // stored
	snapshot              // of the older form, with the object in it: nothing for us
	unknown               // a type that is not about usage
	otherMode             // of the other mode
	foreign               // another account's
)

var errNotification = errors.New("not an event of Stripe")

// parseNotification reads an event and says what it is to us.
func parseNotification(body []byte, live bool) (notification, kind, error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		// A snapshot's created is a number: only its object matters.
		var other struct {
			Object string `json:"object"`
		}
		if json.Unmarshal(body, &other) == nil && other.Object == "event" {
			return n, snapshot, nil
		}
		return n, unknown, errNotification
	}
	if n.Object == "event" {
		return n, snapshot, nil
	}
	if n.Object != "v2.core.event" || !eventID.MatchString(n.ID) || n.Livemode == nil {
		return n, unknown, errNotification
	}
	switch {
	case *n.Livemode != live:
		return n, otherMode, nil
	case n.Context != "":
		return n, foreign, nil
	case tokens[n.Type] == "":
		return n, unknown, nil
	}
	return n, report, nil
}

// meter is the id of the meter that the report is about, "" if it names none.
func (n notification) meter() string {
	if n.Related == nil || !meterID.MatchString(n.Related.ID) {
		return ""
	}
	return n.Related.ID
}

var secretText = regexp.MustCompile(`(?i)(?:[sr]k_(?:test|live)_|whsec_)\S*`)

// cut makes foreign text fit for log and letter: no secret, at most limit bytes.
func cut(text string, limit int) string {
	text = secretText.ReplaceAllString(strings.ToValidUTF8(text, "?"), "[redacted]")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
