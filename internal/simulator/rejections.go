package simulator

import (
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Stripe's reports cover windows of about 10 seconds.
	reportWindow = 10 * time.Second
	maxSamples   = 5      // of one code in one report; the count goes on
	maxReports   = 10_000 // beyond it the oldest are dropped

	typeErrorReport = "v1.billing.meter.error_report_triggered"
	typeNoMeter     = "v1.billing.meter.no_meter_found"
)

// rejection is why Stripe refuses an event after its 200.
type rejection struct {
	code    string
	message string
	meter   string            // id; empty for no_meter
	request map[string]string // names the event, if not by its identifier
	silent  bool              // no report tells of it
}

// ErrorReport is a thin event notification: it says that there is a report, and
// GET /v2/core/events/{id} gives the report.
type ErrorReport struct {
	ID            string         `json:"id"`
	Object        string         `json:"object"` // v2.core.event
	Type          string         `json:"type"`
	Livemode      bool           `json:"livemode"`
	Created       time.Time      `json:"created"`
	RelatedObject *RelatedObject `json:"related_object"` // the meter; nil for no_meter_found
}

// RelatedObject names the meter of a report.
type RelatedObject struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	URL  string `json:"url"`
}

// report collects the rejections of one meter in one window.
type report struct {
	ErrorReport
	start time.Time
	count int
	types []*reportType
}

type reportType struct {
	Code    string   `json:"code"`
	Count   int      `json:"error_count"`
	Samples []sample `json:"sample_errors"`
}

// sample's request carries the identifier, or {id, idempotency_key}: see
// [Config.ReportRequests].
type sample struct {
	Message string            `json:"error_message"`
	Request map[string]string `json:"request"`
}

// rejections holds the reports, oldest first; one is out once its window is over.
type rejections struct {
	window  time.Duration
	mu      sync.Mutex
	reports []*report
}

func newRejections(window time.Duration) *rejections { return &rejections{window: window} }

func (s *rejections) add(id string, e event, live bool, why rejection, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reportFor(id, live, why, now)
	r.count++
	i := slices.IndexFunc(r.types, func(t *reportType) bool { return t.Code == why.code })
	if i < 0 {
		i = len(r.types)
		r.types = append(r.types, &reportType{Code: why.code})
	}
	r.types[i].Count++
	if len(r.types[i].Samples) < maxSamples {
		request := why.request
		if request == nil {
			request = map[string]string{"identifier": e.identifier}
		}
		r.types[i].Samples = append(r.types[i].Samples, sample{Message: why.message, Request: request})
	}
}

// reportFor is the window's open report or a new one under the id given.
func (s *rejections) reportFor(id string, live bool, why rejection, now time.Time) *report {
	start := now.UTC().Truncate(s.window)
	kind, related := typeErrorReport, &RelatedObject{ID: why.meter, Type: "billing.meter", URL: pathMeters + "/" + why.meter}
	if why.meter == "" {
		kind, related = typeNoMeter, nil
	}
	for _, r := range slices.Backward(s.reports) {
		if r.start.Before(start) {
			break
		}
		if r.start.Equal(start) && r.Type == kind && r.Livemode == live && (related == nil || r.RelatedObject.ID == why.meter) {
			return r
		}
	}
	r := &report{start: start, ErrorReport: ErrorReport{
		ID: id, Object: "v2.core.event", Type: kind, Livemode: live,
		Created: start.Add(s.window), RelatedObject: related,
	}}
	s.reports = append(s.reports, r)
	s.reports = s.reports[max(0, len(s.reports)-maxReports):]
	return r
}

func (s *rejections) out(now time.Time) []*report {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.reports)
	return slices.DeleteFunc(list, func(r *report) bool { return now.Before(r.Created) })
}

// ErrorReports are the notifications that Stripe would have sent by now, oldest
// first: a report is out when its window of 10 s has passed.
func (s *Simulator) ErrorReports() []ErrorReport {
	reports := s.rejected.out(s.Now())
	list := make([]ErrorReport, len(reports))
	for i, r := range reports {
		list[i] = r.ErrorReport
	}
	return list
}

// coreEvent is GET /v2/core/events/{id}: the full event of a report that is out,
// in the mode of the key.
func (s *Simulator) coreEvent(c *call, id string) answer {
	if _, refusal := checkQuery(c.request); refusal != nil {
		return *refusal
	}
	for _, r := range s.rejected.out(s.Now()) {
		if r.ID == id && r.Livemode == c.live {
			return s.after(succeed(r.full()))
		}
	}
	return noSuch("event", strings.TrimPrefix(id, "/"))
}

// full reads a report that is out: nothing is added to it any more.
func (r *report) full() any {
	data := map[string]any{
		"developer_message_summary": "There were usage events that could not be counted.",
		"validation_start":          r.start,
		"validation_end":            r.Created,
		"reason":                    map[string]any{"error_count": r.count, "error_types": r.types},
	}
	return struct {
		ErrorReport
		Data map[string]any `json:"data"`
	}{r.ErrorReport, data}
}
