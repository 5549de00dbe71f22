package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEventIsAccepted(t *testing.T) {
	b := newBench(t, Config{Keys: []string{testKey, liveKey}})
	for _, live := range []bool{false, true} {
		form := b.form("id-1")
		form.Set("payload[region]", "eu")
		r := b.event(form)
		if live {
			r.Header.Set("Authorization", "Bearer "+liveKey)
		}
		got := b.do(r)
		want := map[string]any{
			"object": "billing.meter_event", "event_name": "api_calls", "identifier": "id-1", "livemode": live,
			"payload":   map[string]any{"stripe_customer_id": "cus_1", "value": "1", "region": "eu"},
			"timestamp": float64(start.Unix()), "created": float64(start.Unix()),
		}
		if got.status != 200 || !reflect.DeepEqual(got.object(t), want) {
			t.Errorf("live %v: got %d %s, want %v", live, got.status, got.body, want)
		}
		if id := got.header.Get("Request-Id"); !strings.HasPrefix(id, "req_") {
			t.Errorf("Request-Id %q", id)
		}
		if date := got.header.Get("Date"); date != start.Format(http.TimeFormat) {
			t.Errorf("Date %q is not the simulator's", date)
		}
	}
	// The modes are worlds apart: one identifier was counted once in each.
	if events := b.Books().Events; len(events) != 2 || events[0].Times != 1 || events[1].Times != 1 {
		t.Errorf("books: %+v", events)
	}
}

func TestRules(t *testing.T) {
	set := func(key, value string) func(*http.Request, url.Values) {
		return func(_ *http.Request, form url.Values) { form.Set(key, value) }
	}
	without := func(key string) func(*http.Request, url.Values) {
		return func(_ *http.Request, form url.Values) { form.Del(key) }
	}
	header := func(key, value string) func(*http.Request, url.Values) {
		return func(r *http.Request, _ url.Values) { r.Header.Set(key, value) }
	}
	at := func(d time.Duration) string { return strconv.FormatInt(start.Add(d).Unix(), 10) }
	long := strings.Repeat
	const value, customer = "payload[value]", "payload[stripe_customer_id]"
	tests := []struct {
		name   string
		change func(*http.Request, url.Values)
		status int
		code   string
	}{
		{"as it is", func(*http.Request, url.Values) {}, 200, ""},
		{"no credentials", header("Authorization", ""), 401, "api_key_missing"},
		{"basic credentials", header("Authorization", "Basic c2tfdGVzdF9hYmM6"), 401, "api_key_missing"},
		{"no version", header("Stripe-Version", ""), 400, ""},
		{"other version", header("Stripe-Version", "2024-12-18.acacia"), 400, ""},
		{"JSON", header("Content-Type", "application/json"), 400, ""},
		{"no content type", header("Content-Type", ""), 400, ""},
		{"charset", header("Content-Type", formType+"; charset=utf-8"), 200, ""},
		{"no Idempotency-Key", header("Idempotency-Key", ""), 400, "idempotency_key_missing"},
		{"Idempotency-Key of 255", header("Idempotency-Key", long("k", 255)), 200, ""},
		{"Idempotency-Key of 256", header("Idempotency-Key", long("k", 256)), 400, "idempotency_key_too_long"},
		{"GET", func(r *http.Request, _ url.Values) { r.Method = http.MethodGet }, 404, ""},
		{"route", func(r *http.Request, _ url.Values) { r.URL.Path = "/v1/billing/meter_event" }, 404, ""},
		{"query", func(r *http.Request, _ url.Values) { r.URL.RawQuery = "expand=x" }, 400, "parameter_unknown"},
		{"unknown parameter", set("metadata[a]", "b"), 400, "parameter_unknown"},
		{"payload as a string", set("payload", "b"), 400, "parameter_unknown"},
		{"nested payload", set("payload[a][b]", "c"), 400, "parameter_unknown"},
		{"parameter twice", func(_ *http.Request, f url.Values) { f.Add("identifier", "b") }, 400, "parameter_invalid"},
		{"invalid UTF-8", set("identifier", "\xff"), 400, "parameter_invalid"},
		{"NUL", set("identifier", "a\x00b"), 400, "parameter_invalid"},
		{"no event name", without("event_name"), 400, "parameter_missing"},
		{"event name of 100", set("event_name", long("é", 100)), 200, ""},
		{"event name of 101", set("event_name", long("e", 101)), 400, "parameter_invalid_string_too_long"},
		{"no identifier", without("identifier"), 400, "parameter_missing"},
		{"empty identifier", set("identifier", ""), 400, "parameter_missing"},
		{"identifier of 255", set("identifier", long("é", 255)), 200, ""},
		{"identifier of 256", set("identifier", long("i", 256)), 400, "parameter_invalid_string_too_long"},
		{"no payload", func(_ *http.Request, f url.Values) { f.Del(value); f.Del(customer) }, 400, "parameter_missing"},
		{"no customer", without(customer), 400, "meter_event_no_customer_defined"},
		{"empty customer", set(customer, ""), 400, "meter_event_no_customer_defined"},
		{"payload value of 100", set("payload[a]", long("é", 100)), 200, ""},
		{"payload value of 101", set("payload[a]", long("a", 101)), 400, "parameter_invalid_string_too_long"},
		{"no value", without(value), 400, "meter_event_value_not_found"},
		{"empty value", set(value, ""), 400, "meter_event_invalid_value"},
		{"zero", set(value, "0"), 200, ""},
		{"negative", set(value, "-5"), 200, ""},
		{"minus zero", set(value, "-0"), 400, "meter_event_invalid_value"},
		{"plus", set(value, "+5"), 400, "meter_event_invalid_value"},
		{"leading zero", set(value, "007"), 400, "meter_event_invalid_value"},
		{"leading space", set(value, " 1"), 400, "meter_event_invalid_value"},
		{"fraction", set(value, "1024.5"), 400, "meter_event_invalid_value"},
		{"exponent", set(value, "1e3"), 400, "meter_event_invalid_value"},
		{"hexadecimal", set(value, "0x10"), 400, "meter_event_invalid_value"},
		{"15 digits", set(value, "-"+long("9", 15)), 200, ""},
		{"16 digits", set(value, long("9", 16)), 400, "meter_event_value_too_many_digits"},
		{"40 digits", set(value, long("9", 40)), 400, "meter_event_value_too_many_digits"},
		{"no timestamp", without("timestamp"), 400, "parameter_missing"},
		{"RFC 3339", set("timestamp", "2025-10-16T12:00:00Z"), 400, "parameter_invalid_integer"},
		{"19 digits", set("timestamp", long("9", 19)), 400, "parameter_invalid_integer"},
		{"milliseconds", set("timestamp", at(0)+"000"), 400, "timestamp_in_future"},
		{"epoch", set("timestamp", "0"), 400, "timestamp_too_far_in_past"},
		{"before the epoch", set("timestamp", "-1"), 400, "timestamp_too_far_in_past"},
		{"35 days ago", set("timestamp", at(-35*24*time.Hour)), 200, ""},
		{"35 days and a second ago", set("timestamp", at(-35*24*time.Hour-time.Second)), 400, "timestamp_too_far_in_past"},
		{"5 minutes ahead", set("timestamp", at(5*time.Minute)), 200, ""},
		{"5 minutes and a second ahead", set("timestamp", at(5*time.Minute+time.Second)), 400, "timestamp_in_future"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			form := b.form("id-1")
			r := b.event(form)
			tt.change(r, form)
			changed := b.request(r.Method, pathEvents, formType, form.Encode())
			changed.Header, changed.URL = r.Header, r.URL
			got := b.do(changed)
			b.want(got, tt.status, tt.code)
			if _, kind, _ := got.failure(); tt.status != 200 && kind != "invalid_request_error" {
				t.Errorf("type %q", kind)
			}
			if counted := b.Totals().Counted == 1; counted != (tt.status == 200) {
				t.Errorf("counted %v after %d", counted, got.status)
			}
			if got.header.Get("Request-Id") == "" || got.header.Get("Date") == "" {
				t.Error("an answer without Request-Id or Date")
			}
		})
	}
}

func TestUnknownRouteHasNoCode(t *testing.T) {
	b := newBench(t, Config{})
	got := b.get("/v1/nowhere")
	b.want(got, 404, "")
	if _, _, message := got.failure(); message != "Unrecognized request URL (GET: /v1/nowhere)." {
		t.Errorf("message %q", message)
	}
}

func TestBodyTooLarge(t *testing.T) {
	b := newBench(t, Config{})
	form := b.form("id-1")
	form.Set("payload[a]", strings.Repeat("a", maxBody))
	b.want(b.do(b.event(form)), 413, "")
}

func TestDuplicateHasStripesWording(t *testing.T) {
	b := newBench(t, Config{})
	b.want(b.send("id-1"), 200, "")
	got := b.send("id-1")
	want := `{"error":{"message":"An event already exists with identifier id-1","type":"invalid_request_error"}}` + "\n"
	if got.status != 400 || got.body != want || got.header.Get("Stripe-Should-Retry") != "false" {
		t.Errorf("got %d %s%v", got.status, got.body, got.header)
	}
	totals := b.Totals()
	if totals.Counted != 1 || totals.Duplicates != 1 || totals.ChangedContent != 0 {
		t.Errorf("totals %+v", totals)
	}
}

func TestDuplicateWithOtherContentIsNamed(t *testing.T) {
	b := newBench(t, Config{})
	b.send("id-1")
	b.send("id-1", "payload[value]", "2")
	want := Event{EventName: "api_calls", Customer: "cus_1", Identifier: "id-1"}
	if changed := b.Books().Changed; len(changed) != 1 || changed[0] != want {
		t.Errorf("changed %+v", changed)
	}
}

func TestIdentifierIsForgottenAtExactlyItsMemory(t *testing.T) {
	for name, turn := range map[string]func(*bench, time.Duration){
		"the clock beneath": func(b *bench, d time.Duration) { b.clock.move(d) },
		"Advance":           func(b *bench, d time.Duration) { b.Advance(d) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Config{})
			b.want(b.send("id-1"), 200, "")
			turn(b, 24*time.Hour-1)
			b.want(b.send("id-1"), 400, "")
			turn(b, 1)
			b.want(b.send("id-1"), 200, "")
			report := b.Books().Check(map[string]int64{"id-1": 1})
			if len(report.Doubled) != 1 || report.Doubled[0].Times != 2 || report.Doubled[0].CountedUnits != 2 {
				t.Errorf("report %+v", report)
			}
			// A duplicate does not lengthen the memory; a count starts it afresh.
			turn(b, 24*time.Hour-1)
			b.want(b.send("id-1"), 400, "")
		})
	}
}

func TestAdvanceNeverRunsBack(t *testing.T) {
	b := newBench(t, Config{})
	b.Advance(-time.Hour)
	if !b.Now().Equal(start) {
		t.Errorf("now %v", b.Now())
	}
}

func TestScope(t *testing.T) {
	tests := []struct {
		scope                        Scope
		otherCustomer, otherName     int
		sameIdentifierCountedInTotal int64
	}{
		{ScopeCustomer, 200, 200, 3},
		{ScopeMeter, 400, 200, 2},
		{ScopeAccount, 400, 400, 1},
	}
	for _, tt := range tests {
		t.Run(string(tt.scope), func(t *testing.T) {
			b := newBench(t, Config{Scope: tt.scope})
			b.want(b.send("id-1"), 200, "")
			b.want(b.send("id-1", "payload[stripe_customer_id]", "cus_2"), tt.otherCustomer, "")
			b.want(b.send("id-1", "event_name", "tokens"), tt.otherName, "")
			if got := b.Totals().Counted; got != tt.sameIdentifierCountedInTotal {
				t.Errorf("counted %d, want %d", got, tt.sameIdentifierCountedInTotal)
			}
		})
	}
}

func TestOneCallPerCustomerAndMeter(t *testing.T) {
	busy := pairKey{false, "api_calls", "cus_1"}
	tests := []struct {
		name   string
		many   bool
		change []string
		status int
		code   string
	}{
		{"same customer and meter", false, nil, 429, "lock_timeout"},
		{"other customer", false, []string{"payload[stripe_customer_id]", "cus_2"}, 200, ""},
		{"other meter", false, []string{"event_name", "tokens"}, 200, ""},
		{"allowed", true, nil, 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{ManyPerCustomer: tt.many})
			b.inFlight.enter(busy)
			got := b.send("id-1", tt.change...)
			b.want(got, tt.status, tt.code)
			if reason := got.header.Get("Stripe-Rate-Limited-Reason"); reason != "" {
				t.Errorf("contention with reason %q", reason)
			}
			overlaps := tt.change == nil
			if totals := b.Totals(); (totals.Violations == 1) != overlaps || (totals.MaxConcurrent == 2) != overlaps {
				t.Errorf("totals %+v", totals)
			}
			b.inFlight.leave(busy)
			b.want(b.send("id-2", tt.change...), 200, "")
			if len(b.inFlight.calls) != 0 {
				t.Errorf("calls left over: %v", b.inFlight.calls)
			}
		})
	}
}

func TestRequestLogKeepsTheNewest(t *testing.T) {
	var log requestLog
	for i := range maxLogged + 3 {
		log.add(Request{ID: fmt.Sprint(i)})
	}
	s := &Simulator{log: &log}
	list := s.Requests()
	if len(list) != maxLogged || list[0].ID != "3" || list[maxLogged-1].ID != fmt.Sprint(maxLogged+2) {
		t.Errorf("%d lines, %s to %s", len(list), list[0].ID, list[len(list)-1].ID)
	}
	if _, err := json.Marshal(list[0]); err != nil {
		t.Error(err)
	}
}
