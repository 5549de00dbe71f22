package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"
)

func TestNoMeterIsReportedLater(t *testing.T) {
	b := newBench(t, Config{Keys: []string{testKey, liveKey}, Meters: []Meter{{EventName: "tokens"}}})
	b.want(b.send("id-1", "payload[value]", "not even a number"), 200, "")
	b.want(b.send("id-1", "payload[value]", "not even a number"), 400, "") // its identifier is used up
	if totals := b.Totals(); totals.Counted != 0 || totals.RefusedLater != 1 {
		t.Errorf("totals %+v", totals)
	}
	b.clock.move(reportWindow - 1)
	if reports := b.ErrorReports(); len(reports) != 0 {
		t.Errorf("out before its window was over: %+v", reports)
	}
	b.clock.move(1)
	reports := b.ErrorReports()
	if len(reports) != 1 {
		t.Fatalf("reports %+v", reports)
	}
	want := ErrorReport{
		ID: reports[0].ID, Object: "v2.core.event", Type: "v1.billing.meter.no_meter_found", Created: start.Add(reportWindow),
	}
	if reports[0] != want {
		t.Errorf("report %+v, want %+v", reports[0], want)
	}
	if got := b.coreReason(reports[0].ID); !reflect.DeepEqual(got, map[string]any{
		"error_count": 1., "error_types": []any{map[string]any{
			"code": "no_meter", "error_count": 1., "sample_errors": []any{map[string]any{
				"error_message": "No meter for event name api_calls", "request": map[string]any{"identifier": "id-1"},
			}},
		}},
	}) {
		t.Errorf("reason %v", got)
	}
	// The other mode does not see it.
	r := b.request(http.MethodGet, pathCoreEvent+reports[0].ID, "", "")
	r.Header.Set("Authorization", "Bearer "+liveKey)
	b.want(b.do(r), 404, "resource_missing")
}

func (b *bench) coreReason(id string) any {
	b.t.Helper()
	got := b.get(pathCoreEvent + id)
	if got.status != 200 {
		b.t.Fatalf("event %s: %d %s", id, got.status, got.body)
	}
	object := got.object(b.t)
	data, _ := object["data"].(map[string]any)
	if object["id"] != id || data["validation_start"] == nil || data["validation_end"] == nil || data["developer_message_summary"] == nil {
		b.t.Errorf("event %s", got.body)
	}
	return data["reason"]
}

func TestReportIsASampleOfItsWindow(t *testing.T) {
	b := newBench(t, Config{Meters: []Meter{{ID: "mtr_1", EventName: "api_calls"}, {EventName: "old", Status: MeterInactive}}})
	b.inject(
		Fault{Kind: RejectedLater, Customer: "cus_2", Code: "meter_event_invalid_value"},
		Fault{Kind: RejectedLater, Customer: "cus_1"},
	)
	for i := range maxSamples + 3 {
		b.want(b.send(fmt.Sprint(i)), 200, "")
	}
	b.want(b.send("x", "payload[stripe_customer_id]", "cus_2"), 200, "")
	b.want(b.send("y", "event_name", "old", "payload[stripe_customer_id]", "cus_3"), 200, "")
	b.clock.move(reportWindow)
	b.want(b.send("next window"), 200, "")
	if reports := b.ErrorReports(); len(reports) != 2 {
		t.Fatalf("reports %+v", reports)
	}
	b.clock.move(reportWindow)
	reports := b.ErrorReports()
	if len(reports) != 3 {
		t.Fatalf("reports %+v", reports)
	}
	if got := reports[0]; got.Type != typeErrorReport || *got.RelatedObject != (RelatedObject{"mtr_1", "billing.meter", "/v1/billing/meters/mtr_1"}) {
		t.Errorf("report %+v", got)
	}
	reason := b.coreReason(reports[0].ID).(map[string]any)
	types := reason["error_types"].([]any)
	first, second := types[0].(map[string]any), types[1].(map[string]any)
	if reason["error_count"] != float64(maxSamples+4) ||
		first["code"] != "meter_event_customer_not_found" || first["error_count"] != float64(maxSamples+3) ||
		len(first["sample_errors"].([]any)) != maxSamples ||
		second["code"] != "meter_event_invalid_value" || second["error_count"] != 1. {
		t.Errorf("reason %v", reason)
	}
	archived := b.coreReason(reports[1].ID).(map[string]any)["error_types"].([]any)[0].(map[string]any)
	if archived["code"] != "archived_meter" {
		t.Errorf("code %v", archived["code"])
	}
}

func TestThinEventIsWhatStripeSends(t *testing.T) {
	text, err := json.Marshal(ErrorReport{ID: "evt_1", Object: "v2.core.event", Type: typeNoMeter, Created: start})
	want := `{"id":"evt_1","object":"v2.core.event","type":"v1.billing.meter.no_meter_found","livemode":false,` +
		`"created":"2025-10-16T12:00:00Z","related_object":null}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestReportsAreBounded(t *testing.T) {
	r := newRejections(reportWindow)
	for i := range maxReports + 10 {
		r.add(fmt.Sprint(i), event{}, false, rejection{code: "no_meter"}, start.Add(time.Duration(i)*reportWindow))
	}
	if len(r.reports) != maxReports || r.reports[0].ID != "10" {
		t.Errorf("%d reports from %s", len(r.reports), r.reports[0].ID)
	}
}
