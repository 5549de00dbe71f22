package simulator

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
)

// windowSeconds are the value_grouping_windows; none is one window over all.
var windowSeconds = map[string]int64{"": 60, "hour": 3600, "day": 86_400}

// summaryQuery is a valid query for event summaries, times in Unix seconds.
type summaryQuery struct {
	customer   string
	start, end int64
	window     string
}

// summary is the usage of one window.
type summary struct {
	id         string
	start, end int64
	value      float64
}

// eventSummaries is GET /v1/billing/meters/{id}/event_summaries: newest first, by
// the events' timestamps; windows without usage are left out.
func (s *Simulator) eventSummaries(c *call, id string) answer {
	params, refusal := checkQuery(c.request,
		"customer", "start_time", "end_time", "value_grouping_window", "limit", "starting_after")
	if refusal != nil {
		return *refusal
	}
	meter, known := s.meters.byID(id)
	if !known {
		return noSuch("billing meter", id)
	}
	query, refusal := parseSummaryQuery(params)
	if refusal != nil {
		return *refusal
	}
	pair := pairKey{c.live, meter.EventName, query.customer}
	minutes := s.late.without(pair, s.ledger.within(pair, query.start/60, query.end/60), s.Now())
	summaries := query.sum(meter, minutes)
	slices.Reverse(summaries)
	page, refusal := paginate(params, c.request.URL.Path, summaries, func(u summary) string { return u.id },
		func(u summary) any { return u.body(meter, c.live) })
	if refusal != nil {
		return *refusal
	}
	return s.after(succeed(page))
}

func parseSummaryQuery(params url.Values) (summaryQuery, *answer) {
	q := summaryQuery{customer: params.Get("customer"), window: params.Get("value_grouping_window")}
	if q.customer == "" {
		return q, missing("customer")
	}
	unit, known := windowSeconds[q.window]
	if !known || params.Has("value_grouping_window") && q.window == "" {
		return q, invalid("value_grouping_window", "parameter_invalid", "value_grouping_window must be hour or day.")
	}
	var refusal *answer
	if q.start, refusal = parseTime(params, "start_time", unit); refusal != nil {
		return q, refusal
	}
	if q.end, refusal = parseTime(params, "end_time", unit); refusal != nil {
		return q, refusal
	}
	if q.start >= q.end {
		return q, invalid("end_time", "parameter_invalid", "end_time must be after start_time.")
	}
	return q, nil
}

func parseTime(params url.Values, name string, unit int64) (int64, *answer) {
	if !params.Has(name) {
		return 0, missing(name)
	}
	seconds, err := strconv.ParseInt(params.Get(name), 10, 64)
	if err != nil || seconds < 0 || seconds%unit != 0 {
		return 0, invalid(name, "parameter_invalid", "%s must be a multiple of %d seconds.", name, unit)
	}
	return seconds, nil
}

// sum folds the minutes, which ascend, into windows.
func (q summaryQuery) sum(meter Meter, minutes []minute) []summary {
	var summaries []summary
	for _, m := range minutes {
		start, end := q.windowOf(m.start * 60)
		if n := len(summaries); n == 0 || summaries[n-1].start != start {
			id := hash64(meter.ID, q.customer, strconv.FormatInt(start, 10), strconv.FormatInt(end, 10))
			summaries = append(summaries, summary{id: fmt.Sprintf("mtrusg_%016x", id), start: start, end: end})
		}
		newest := &summaries[len(summaries)-1]
		switch meter.Formula {
		case FormulaCount:
			newest.value += float64(m.events)
		case FormulaLast:
			newest.value = float64(m.last)
		default:
			newest.value += float64(m.units)
		}
	}
	return summaries
}

func (q summaryQuery) windowOf(second int64) (start, end int64) {
	if q.window == "" {
		return q.start, q.end
	}
	width := windowSeconds[q.window]
	start = second - second%width
	return start, start + width
}

func (u summary) body(meter Meter, live bool) map[string]any {
	return map[string]any{
		"id": u.id, "object": "billing.meter_event_summary", "livemode": live, "meter": meter.ID,
		"aggregated_value": u.value, "start_time": u.start, "end_time": u.end,
	}
}
