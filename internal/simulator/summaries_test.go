package simulator

import (
	"fmt"
	"net/url"
	"reflect"
	"testing"
	"time"
)

// page is a list's ids or values and whether there is more.
func (b *bench) page(path, field string) ([]any, bool) {
	b.t.Helper()
	got := b.get(path)
	if got.status != 200 {
		b.t.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	object := got.object(b.t)
	values := []any{}
	for _, item := range object["data"].([]any) {
		values = append(values, item.(map[string]any)[field])
	}
	return values, object["has_more"].(bool)
}

func TestMeterList(t *testing.T) {
	var meters []Meter
	var ids []any
	for i := range 25 {
		meters = append(meters, Meter{ID: fmt.Sprintf("mtr_%d", i), EventName: fmt.Sprintf("m%d", i)})
		ids = append(ids, fmt.Sprintf("mtr_%d", i))
	}
	meters[3].Status = MeterInactive
	b := newBench(t, Config{Meters: meters})
	tests := []struct {
		query string
		want  []any
		more  bool
	}{
		{"", ids[:10], true},
		{"?limit=100", ids, false},
		{"?limit=25", ids, false},
		{"?limit=24", ids[:24], true},
		{"?limit=2&starting_after=mtr_4", ids[5:7], true},
		{"?starting_after=mtr_24", []any{}, false},
		{"?status=inactive", ids[3:4], false},
	}
	for _, tt := range tests {
		if got, more := b.page(pathMeters+tt.query, "id"); !reflect.DeepEqual(got, tt.want) || more != tt.more {
			t.Errorf("%q: %v %v, want %v %v", tt.query, got, more, tt.want, tt.more)
		}
	}
	for query, code := range map[string]string{
		"?limit=0": "parameter_invalid_integer", "?limit=101": "parameter_invalid_integer", "?limit=x": "parameter_invalid_integer",
		"?starting_after=mtr_99": "resource_missing", "?page=2": "parameter_unknown", "?limit=1&limit=2": "parameter_invalid",
	} {
		b.want(b.get(pathMeters+query), 400, code)
	}
}

func TestMeterBody(t *testing.T) {
	b := newBench(t, Config{Meters: []Meter{{
		ID: "mtr_1", EventName: "tokens", CustomerKey: "cid", ValueKey: "n", Formula: FormulaLast,
	}}})
	got := b.get(pathMeters + "/mtr_1").object(t)
	for key, want := range map[string]any{
		"id": "mtr_1", "object": "billing.meter", "event_name": "tokens", "status": "active", "livemode": false,
		"customer_mapping":    map[string]any{"event_payload_key": "cid", "type": "by_id"},
		"value_settings":      map[string]any{"event_payload_key": "n"},
		"default_aggregation": map[string]any{"formula": "last"},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	b.want(b.get(pathMeters+"/mtr_2"), 404, "resource_missing")
}

func TestMeterKeysRule(t *testing.T) {
	b := newBench(t, Config{Meters: []Meter{{EventName: "api_calls", CustomerKey: "cid", ValueKey: "n"}}})
	b.want(b.send("a"), 400, "meter_event_no_customer_defined")
	b.want(b.send("a", "payload[cid]", "cus_7"), 400, "meter_event_value_not_found")
	b.want(b.send("a", "payload[cid]", "cus_7", "payload[n]", "1.5"), 400, "meter_event_invalid_value")
	b.want(b.send("a", "payload[cid]", "cus_7", "payload[n]", "9"), 200, "")
	if event := b.Books().Events[0]; event.Customer != "cus_7" || event.Units != 9 {
		t.Errorf("counted %+v", event)
	}
	b.inject(Fault{Kind: Error503, Customer: "cus_7"})
	b.want(b.send("b", "payload[cid]", "cus_7", "payload[n]", "9"), 503, "")
}

func TestMetersAreListedAsSeenWhereNoneAreConfigured(t *testing.T) {
	b := newBench(t, Config{})
	for i, name := range []string{"tokens", "api_calls", "tokens"} {
		b.send(fmt.Sprint(i), "event_name", name)
	}
	if got, _ := b.page(pathMeters, "event_name"); !reflect.DeepEqual(got, []any{"tokens", "api_calls"}) {
		t.Errorf("meters %v", got)
	}
}

func TestSummaries(t *testing.T) {
	for _, formula := range []string{FormulaSum, FormulaCount, FormulaLast} {
		t.Run(formula, func(t *testing.T) { testSummaries(t, formula) })
	}
}

func testSummaries(t *testing.T, formula string) {
	b := newBench(t, Config{Meters: []Meter{{ID: "mtr_1", EventName: "api_calls", Formula: formula}}})
	hour := start.Truncate(time.Hour)
	for i, e := range []struct {
		at    time.Duration
		value string
	}{ // out of order, two in one minute, one at the very end of the range
		{-time.Hour + 30*time.Second, "10"}, {-time.Hour, "20"}, {-30 * time.Hour, "3"}, {-time.Minute, "7"}, {0, "-100"},
	} {
		b.send(fmt.Sprint(i), "payload[value]", e.value, "timestamp", unix(hour.Add(e.at)))
	}
	b.send("other", "payload[value]", "1000", "payload[stripe_customer_id]", "cus_2")

	query := func(from, to time.Duration, more string) string {
		return fmt.Sprintf("%s/mtr_1/event_summaries?customer=cus_1&start_time=%s&end_time=%s%s",
			pathMeters, unix(hour.Add(from)), unix(hour.Add(to)), more)
	}
	tests := []struct {
		name  string
		path  string
		value map[string][]any
	}{
		{"all but the end", query(-48*time.Hour, 0, ""), map[string][]any{"sum": {40.}, "count": {4.}, "last": {7.}}},
		{"the end too", query(-48*time.Hour, time.Minute, ""), map[string][]any{"sum": {-60.}, "count": {5.}, "last": {-100.}}},
		{"one minute", query(-time.Hour, -59*time.Minute, ""), map[string][]any{"sum": {30.}, "count": {2.}, "last": {10.}}},
		{"hours, newest first", query(-48*time.Hour, time.Hour, "&value_grouping_window=hour"), map[string][]any{
			"sum": {-100., 37., 3.}, "count": {1., 3., 1.}, "last": {-100., 7., 3.},
		}},
		{"days", query(-36*time.Hour, 12*time.Hour, "&value_grouping_window=day"), map[string][]any{
			"sum": {-63., 3.}, "count": {4., 1.}, "last": {-100., 3.},
		}},
		{"nothing there", query(-48*time.Hour, -47*time.Hour, ""), map[string][]any{"sum": {}, "count": {}, "last": {}}},
	}
	for _, tt := range tests {
		if got, more := b.page(tt.path, "aggregated_value"); !reflect.DeepEqual(got, tt.value[formula]) || more {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.value[formula])
		}
	}

	hours := query(-48*time.Hour, time.Hour, "&value_grouping_window=hour")
	times, _ := b.page(hours, "start_time")
	want := []any{float64(hour.Unix()), float64(hour.Add(-time.Hour).Unix()), float64(hour.Add(-30 * time.Hour).Unix())}
	if !reflect.DeepEqual(times, want) {
		t.Errorf("start times %v, want %v", times, want)
	}
	first, more := b.page(hours+"&limit=1", "id")
	rest, end := b.page(hours+"&limit=2&starting_after="+url.QueryEscape(first[0].(string)), "start_time")
	if !more || end || !reflect.DeepEqual(rest, want[1:]) {
		t.Errorf("pages: %v %v, %v %v", first, more, rest, end)
	}
}

func TestSummaryQueryRules(t *testing.T) {
	b := newBench(t, Config{Meters: []Meter{{ID: "mtr_1", EventName: "api_calls"}}})
	minute, second := unix(start.Add(-time.Minute)), unix(start.Add(-time.Second))
	now := unix(start)
	for _, tt := range []struct {
		query  string
		status int
		code   string
	}{
		{"customer=cus_1&start_time=" + minute + "&end_time=" + now, 200, ""},
		{"start_time=" + minute + "&end_time=" + now, 400, "parameter_missing"},
		{"customer=cus_1&end_time=" + now, 400, "parameter_missing"},
		{"customer=cus_1&start_time=" + minute, 400, "parameter_missing"},
		{"customer=cus_1&start_time=" + second + "&end_time=" + now, 400, "parameter_invalid"},
		{"customer=cus_1&start_time=" + now + "&end_time=" + now, 400, "parameter_invalid"},
		{"customer=cus_1&start_time=-60&end_time=" + now, 400, "parameter_invalid"},
		{"customer=cus_1&start_time=" + minute + "&end_time=" + now + "&value_grouping_window=hour", 400, "parameter_invalid"},
		{"customer=cus_1&start_time=" + minute + "&end_time=" + now + "&value_grouping_window=week", 400, "parameter_invalid"},
		{"customer=cus_1&start_time=" + minute + "&end_time=" + now + "&value_grouping_window=", 400, "parameter_invalid"},
		{"customer=cus_1&start_time=" + minute + "&end_time=" + now + "&x=1", 400, "parameter_unknown"},
	} {
		b.want(b.get(pathMeters+"/mtr_1/event_summaries?"+tt.query), tt.status, tt.code)
	}
	b.want(b.get(pathMeters+"/mtr_2/event_summaries?customer=cus_1&start_time="+minute+"&end_time="+now), 404, "resource_missing")
}

// Summaries lag: what was counted is missing in them for a while, and then there.
func TestSummaryDelay(t *testing.T) {
	b := newBench(t, Config{SummaryDelay: time.Minute})
	b.want(b.send("a", "payload[value]", "3"), 200, "")
	path := fmt.Sprintf("%s/%s/event_summaries?customer=cus_1&start_time=%d&end_time=%d", pathMeters, meterID("api_calls"), 0, b.Now().Unix()/60*60+600)
	if got, _ := b.page(path, "aggregated_value"); len(got) != 0 {
		t.Errorf("at once: %v", got)
	}
	b.Advance(time.Minute)
	if got, _ := b.page(path, "aggregated_value"); !reflect.DeepEqual(got, []any{3.0}) {
		t.Errorf("a minute later: %v", got)
	}
}

// What is not counted is in no sum and in no report, and its identifier is used up.
func TestNotCounted(t *testing.T) {
	b := newBench(t, Config{})
	b.inject(Fault{Kind: NotCounted, Times: 1})
	b.want(b.send("a", "payload[value]", "3"), 200, "")
	b.Advance(time.Hour)
	if reports := b.ErrorReports(); len(reports) != 0 {
		t.Errorf("reports %v", reports)
	}
	if units := b.Books().Hours; len(units) != 0 {
		t.Errorf("counted %v", units)
	}
	b.want(b.send("a", "payload[value]", "3"), 400, "")
}
