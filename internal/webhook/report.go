package webhook

import (
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/meterworker/meterworker/usage"
)

// Bounds of what is taken over from a report.
const (
	maxCode    = 100 // bytes
	maxMessage = 400 // bytes; the rest of a letter's detail is ours
	maxRequest = 100 // bytes
	maxKey     = 255 // bytes, Stripe's own bound

	maxCount = 1_000_000_000 // events under one code: sums of it do not overflow
)

// notCounted are Stripe's codes by which the event counts for nothing. Another code leaves
// that open, and so does the letter.
var notCounted = map[string]bool{
	"meter_event_customer_not_found": true, "meter_event_no_customer_defined": true, "timestamp_too_far_in_past": true,
	"timestamp_in_future": true, "meter_event_invalid_value": true, "no_meter": true, "archived_meter": true,
	"meter_event_dimension_count_too_high": true, "missing_dimension_payload_keys": true,
	"meter_event_value_not_found": true, "meter_event_value_too_many_digits": true,
}

// Codes are the codes that Stripe documents, for labels; others are counted as "other".
func Codes() []string {
	codes := make([]string, 0, len(notCounted))
	for code := range notCounted {
		codes = append(codes, code)
	}
	return codes
}

// Known reports whether a code is one of [Codes].
func Known(code string) bool { return notCounted[code] }

// Rejection is one sample of a report: an event that Stripe has rejected. Either its
// identifier or its Idempotency-Key says which.
type Rejection struct {
	Code       string
	Message    string
	Identifier string
	Key        string
	Request    string // Stripe's id of the request that carried it
}

// Report is what Stripe has to say about one window of time.
type Report struct {
	Summary    string
	Start, End time.Time // of the validation
	Count      int       // events rejected
	ByCode     map[string]int
	Samples    []Rejection
}

// fullEvent is the answer of GET /v2/core/events/{id}, as far as it is read.
type fullEvent struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Livemode *bool     `json:"livemode"`
	Created  time.Time `json:"created"`
	Related  *related  `json:"related_object"`
	Data     *struct {
		Summary string    `json:"developer_message_summary"`
		Start   time.Time `json:"validation_start"`
		End     time.Time `json:"validation_end"`
		Reason  *struct {
			Count int         `json:"error_count"`
			Types []errorType `json:"error_types"`
		} `json:"reason"`
	} `json:"data"`
}

type errorType struct {
	Code    string `json:"code"`
	Count   int    `json:"error_count"`
	Samples []struct {
		Message string `json:"error_message"`
		// Stripe's documents show both forms.
		Request struct {
			Identifier string `json:"identifier"`
			ID         string `json:"id"`
			Key        string `json:"idempotency_key"`
		} `json:"request"`
	} `json:"sample_errors"`
}

// errReport says that an answer is not the report that was asked for.
var errReport = errors.New("this is not the report that was asked for")

// parseReport reads the full event that belongs to n.
func parseReport(body []byte, n notification) (Report, notification, error) {
	var full fullEvent
	if err := json.Unmarshal(body, &full); err != nil {
		return Report{}, n, errReport
	}
	if full.ID != n.ID || full.Type != n.Type || full.Livemode == nil || *full.Livemode != *n.Livemode || full.Data == nil || full.Data.Reason == nil {
		return Report{}, n, errReport
	}
	if n.Related == nil {
		n.Related = full.Related
	}
	r := Report{
		Summary: cut(full.Data.Summary, maxMessage), Start: full.Data.Start, End: full.Data.End,
		Count: min(max(0, full.Data.Reason.Count), maxCount), ByCode: map[string]int{},
	}
	if r.Start.IsZero() || r.End.Before(r.Start) { // windows are 10 s long and end when the report is made
		r.Start, r.End = full.Created.Add(-10*time.Second), full.Created
	}
	sum := 0
	for _, t := range full.Data.Reason.Types {
		code := cut(t.Code, maxCode)
		counted := max(min(t.Count, maxCount), len(t.Samples))
		r.ByCode[code] += counted
		sum += counted
		r.sample(code, t)
	}
	r.Count = max(r.Count, sum)
	return r, n, nil
}

func (r *Report) sample(code string, t errorType) {
	for _, s := range t.Samples {
		x := Rejection{
			Code: code, Message: cut(s.Message, maxMessage), Identifier: s.Request.Identifier,
			Key: s.Request.Key, Request: cut(s.Request.ID, maxRequest),
		}
		if utf8.RuneCountInString(x.Identifier) > usage.MaxIdentifier { // none that we can have sent
			x.Identifier = ""
		}
		if len(x.Key) > maxKey {
			x.Key = ""
		}
		r.Samples = append(r.Samples, x)
	}
}
