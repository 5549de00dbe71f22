package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func (b *bench) session(key string) testReply {
	b.t.Helper()
	r := b.request(http.MethodPost, pathSession, "application/json", "{}")
	r.Header.Set("Authorization", "Bearer "+key)
	return b.do(r)
}

func newStream(t *testing.T, cfg Config) (b *bench, token string) {
	t.Helper()
	cfg.Keys = []string{liveKey, testKey}
	b = newBench(t, cfg)
	got := b.session(liveKey)
	if got.status != 200 {
		t.Fatalf("session: %d %s", got.status, got.body)
	}
	return b, got.object(t)["authentication_token"].(string)
}

func (b *bench) streamEvent(identifier string) streamEvent {
	return streamEvent{
		EventName: "api_calls", Identifier: identifier, Timestamp: b.Now().Format(time.RFC3339),
		Payload: map[string]string{"stripe_customer_id": "cus_1", "value": "1"},
	}
}

func (b *bench) batchRequest(token, body string) *http.Request {
	b.t.Helper()
	r := b.request(http.MethodPost, pathStream, "application/json", body)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func (b *bench) batch(token string, events ...streamEvent) testReply {
	b.t.Helper()
	body, err := json.Marshal(streamBody{Events: events})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(b.batchRequest(token, string(body)))
}

func TestSession(t *testing.T) {
	b, _ := newStream(t, Config{})
	got := b.session(liveKey).object(t)
	if got["object"] != "v2.billing.meter_event_session" || got["livemode"] != true || got["id"] == nil ||
		got["created"] != "2025-10-16T12:00:00Z" || got["expires_at"] != "2025-10-16T12:15:00Z" {
		t.Errorf("session %v", got)
	}
	b.want(b.session(testKey), 400, "livemode_required")
	b.want(b.session("sk_live_other"), 401, "api_key_invalid")
	open := newBench(t, Config{StreamInTestMode: true})
	if got := open.session(testKey); got.status != 200 || got.object(t)["livemode"] != false {
		t.Errorf("test mode: %d %s", got.status, got.body)
	}
}

func TestStreamCounts(t *testing.T) {
	b, token := newStream(t, Config{})
	got := b.batch(token, b.streamEvent("a"), b.streamEvent("b"), b.streamEvent("a"))
	if got.status != 200 || got.body != "{}\n" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	b.want(b.batch(token, b.streamEvent("a")), 200, "") // a duplicate is dropped in silence
	totals := b.Totals()
	if totals.Counted != 2 || totals.Duplicates != 2 {
		t.Errorf("totals %+v", totals)
	}
	events := b.Books().Events
	if len(events) != 2 || !events[0].Livemode || events[0].Identifier != "a" || events[0].Units != 1 {
		t.Errorf("books %+v", events)
	}
	if line := b.Requests()[1]; line.Events != 3 || line.Identifier != "a" {
		t.Errorf("log %+v", line)
	}
}

func TestOneIdentifierOverBothAPIsIsOne(t *testing.T) {
	b, token := newStream(t, Config{})
	b.want(b.batch(token, b.streamEvent("a")), 200, "")
	r := b.event(b.form("a"))
	r.Header.Set("Authorization", "Bearer "+liveKey)
	b.want(b.do(r), 400, "")
	if totals := b.Totals(); totals.Counted != 1 || totals.ChangedContent != 0 {
		t.Errorf("totals %+v", totals)
	}
}

func TestSessionExpiresAtExactly15Minutes(t *testing.T) {
	b, token := newStream(t, Config{})
	b.Advance(15*time.Minute - 1)
	b.want(b.batch(token, b.streamEvent("a")), 200, "")
	b.Advance(1)
	b.want(b.batch(token, b.streamEvent("b")), 401, "billing_meter_event_session_expired")
	b.want(b.batch("mes_tok_invented", b.streamEvent("b")), 401, "invalid_authentication_token")
	b.want(b.batch(liveKey, b.streamEvent("b")), 401, "invalid_authentication_token")
}

func TestMalformedEventRefusesTheBatch(t *testing.T) {
	b, token := newStream(t, Config{})
	good, err := json.Marshal(b.streamEvent("good"))
	if err != nil {
		t.Fatal(err)
	}
	bad := func(change func(*streamEvent)) string {
		e := b.streamEvent("bad")
		change(&e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"events":[%s,%s]}`, good, text)
	}
	for name, body := range map[string]string{
		"nothing":           ``,
		"no events":         `{}`,
		"empty events":      `{"events":[]}`,
		"trailing data":     fmt.Sprintf(`{"events":[%s]} {}`, good),
		"cut":               fmt.Sprintf(`{"events":[%s`, good),
		"unknown field":     fmt.Sprintf(`{"events":[%s],"x":1}`, good),
		"unknown event key": fmt.Sprintf(`{"events":[%s,{"x":1}]}`, good),
		"value as a number": fmt.Sprintf(`{"events":[%s,{"event_name":"a","identifier":"b","timestamp":"2025-10-16T12:00:00Z","payload":{"value":1}}]}`, good),
		"no event name":     bad(func(e *streamEvent) { e.EventName = "" }),
		"no identifier":     bad(func(e *streamEvent) { e.Identifier = "" }),
		"long identifier":   bad(func(e *streamEvent) { e.Identifier = strings.Repeat("i", 256) }),
		"no payload":        bad(func(e *streamEvent) { e.Payload = nil }),
		"long value":        bad(func(e *streamEvent) { e.Payload["a"] = strings.Repeat("a", 101) }),
		"no timestamp":      bad(func(e *streamEvent) { e.Timestamp = "" }),
		"Unix timestamp":    bad(func(e *streamEvent) { e.Timestamp = "1760616000" }),
	} {
		if got := b.do(b.batchRequest(token, body)); got.status != 400 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := b.Totals().Counted; got != 0 {
		t.Errorf("counted %d out of refused batches", got)
	}
}

func TestBatchHoldsAtMost100(t *testing.T) {
	b, token := newStream(t, Config{})
	events := make([]streamEvent, 101)
	for i := range events {
		events[i] = b.streamEvent(fmt.Sprint(i))
	}
	b.want(b.batch(token, events...), 400, "parameter_invalid")
	b.want(b.batch(token, events[:100]...), 200, "")
	if got := b.Totals().Counted; got != 100 {
		t.Errorf("counted %d", got)
	}
}

func TestStreamRules(t *testing.T) {
	b, token := newStream(t, Config{})
	body := `{"events":[]}`
	r := b.batchRequest(token, body)
	r.Header.Del("Stripe-Version")
	b.want(b.do(r), 400, "")
	r = b.batchRequest(token, body)
	r.Header.Set("Content-Type", formType)
	b.want(b.do(r), 400, "")
	r = b.batchRequest(token, "")
	r.Method = http.MethodGet
	b.want(b.do(r), 404, "")
	r = b.request(http.MethodPost, pathSession, "application/json", `{"x":1}`)
	r.Header.Set("Authorization", "Bearer "+liveKey)
	b.want(b.do(r), 400, "parameter_unknown")
}

func TestStreamRefusesMeaningLater(t *testing.T) {
	b, token := newStream(t, Config{Meters: []Meter{{EventName: "api_calls"}}})
	var batch []streamEvent
	for i, change := range []func(*streamEvent){
		func(*streamEvent) {},
		func(e *streamEvent) { e.Payload["value"] = "1.5" },
		func(e *streamEvent) { delete(e.Payload, "stripe_customer_id") },
		func(e *streamEvent) { e.Timestamp = b.Now().Add(-36 * 24 * time.Hour).Format(time.RFC3339) },
		func(e *streamEvent) { e.Timestamp = b.Now().Add(6 * time.Minute).Format(time.RFC3339) },
		func(e *streamEvent) { e.EventName = "nowhere" },
	} {
		e := b.streamEvent(fmt.Sprint(i))
		change(&e)
		batch = append(batch, e)
	}
	b.want(b.batch(token, batch...), 200, "")
	if totals := b.Totals(); totals.Counted != 1 || totals.RefusedLater != 5 {
		t.Errorf("totals %+v", totals)
	}
	b.clock.move(reportWindow)
	var codes []string
	for _, r := range b.rejected.out(b.Now()) {
		for _, kind := range r.types {
			codes = append(codes, kind.Code)
		}
	}
	slices.Sort(codes)
	want := []string{"meter_event_invalid_value", "meter_event_no_customer_defined", "no_meter", "timestamp_in_future", "timestamp_too_far_in_past"}
	if !slices.Equal(codes, want) {
		t.Errorf("codes %v, want %v", codes, want)
	}
}

func TestStreamRateIsOfEvents(t *testing.T) {
	b, token := newStream(t, Config{StreamRate: 1000, StreamBurst: 3})
	e := b.streamEvent
	b.want(b.batch(token, e("a"), e("b"), e("c")), 200, "")
	got := b.batch(token, e("d"), e("e"))
	b.want(got, 429, "rate_limit")
	if reason := got.header.Get("Stripe-Rate-Limited-Reason"); reason != "endpoint-rate" {
		t.Errorf("reason %q", reason)
	}
	b.clock.move(2 * time.Millisecond)
	b.want(b.batch(token, e("d"), e("e")), 200, "")
}

func TestStreamFaultsMatchOneOfTheEvents(t *testing.T) {
	b, token := newStream(t, Config{})
	b.inject(Fault{Kind: Error500, Identifier: "b", Recorded: true, Times: 1}, Fault{Kind: RejectedLater, Identifier: "c"})
	b.want(b.batch(token, b.streamEvent("a")), 200, "")
	b.want(b.batch(token, b.streamEvent("x"), b.streamEvent("b")), 500, "")
	b.want(b.batch(token, b.streamEvent("x"), b.streamEvent("b"), b.streamEvent("c"), b.streamEvent("d")), 200, "")
	if totals := b.Totals(); totals.Counted != 4 || totals.Duplicates != 2 || totals.RefusedLater != 1 {
		t.Errorf("totals %+v", totals)
	}
	b.inject(Fault{Kind: EmptyOK, Times: 1})
	if got := b.batch(token, b.streamEvent("e")); got.status != 200 || got.body != "" {
		t.Errorf("got %d %q", got.status, got.body)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := newSessions()
	for i := range maxSessions {
		s.open(fmt.Sprint(i), true, start)
	}
	if _, ok := s.open("one more", true, start.Add(sessionLife-1)); ok {
		t.Error("more sessions alive than the bound")
	}
	if _, ok := s.open("one more", true, start.Add(sessionLife)); !ok || len(s.tokens) != 1 {
		t.Errorf("ok %v with %d tokens after all expired", ok, len(s.tokens))
	}
}
