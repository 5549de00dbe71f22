package usage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/usage"
)

func TestIdentifierIsResolved(t *testing.T) {
	const events, replay = "usage.events.a.c", "usage.replay.a.c"
	tests := []struct {
		name, subject, raw string // raw JSON, "" = absent
		headers            []string
		want               string
	}{
		{"body", events, `"i"`, nil, "i"},
		{"body wins over message id", events, `"i"`, []string{"Nats-Msg-Id", "m"}, "i"},
		{"message id", events, "", []string{"Nats-Msg-Id", "m"}, "m"},
		{"place in the stream", events, "", nil, "mw-e7-42"},
		{"header is ignored on events", events, `"i"`, []string{usage.HeaderIdentifier, "h"}, "i"},
		{"header is ignored on events without identifier", events, "", []string{usage.HeaderIdentifier, "h"}, "mw-e7-42"},
		{"header wins on replay", replay, `"i"`, []string{usage.HeaderIdentifier, "h", "Nats-Msg-Id", "m"}, "h"},
		{"header stands in on replay", replay, "", []string{usage.HeaderIdentifier, "mw-e7-9", "Nats-Msg-Id", "m"}, "mw-e7-9"},
		{"header wins over one that is no string", replay, "7", []string{usage.HeaderIdentifier, "h"}, "h"},
		{"replay without header", replay, `"i"`, []string{"Nats-Msg-Id", "m"}, "i"},
		{"header lost a trailing space", replay, `"i "`, []string{usage.HeaderIdentifier, "i"}, "i "},
		{"header lost white space around", replay, `"\u00a0 i\u2003"`, []string{usage.HeaderIdentifier, "i"}, "\u00a0 i\u2003"},
		{"header differs by more than white space", replay, `"i "`, []string{usage.HeaderIdentifier, "i~r1"}, "i~r1"},
		{"header lost everything", replay, `"  "`, []string{usage.HeaderIdentifier, ""}, "  "},
		{"unicode composed", events, "\"caf\u00e9\"", nil, "caf\u00e9"},
		{"unicode decomposed", events, "\"cafe\u0301\"", nil, "cafe\u0301"},
	}
	for _, test := range tests {
		member := ""
		if test.raw != "" {
			member = `"identifier":` + test.raw + `,`
		}
		body := `{` + member + `"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`
		if got := parsed(t, message(test.subject, body, test.headers...)).Identifier(); got != test.want {
			t.Errorf("%s: identifier %q, want %q", test.name, got, test.want)
		}
	}
}

func TestTimestampIsResolved(t *testing.T) {
	const events, replay = "usage.events.a.c", "usage.replay.a.c"
	tests := []struct {
		name, subject, raw string
		headers            []string
		want               int64
	}{
		{"number", events, "1795348000", nil, 1795348000},
		{"string", events, `"1795348000"`, nil, 1795348000},
		{"RFC 3339", events, `"2026-11-22T11:46:40Z"`, nil, 1795348000},
		{"RFC 3339 with a zone", events, `"2026-11-22T17:16:40+05:30"`, nil, 1795348000},
		{"RFC 3339 cut, not rounded", events, `"2026-11-22T11:46:40.999999999Z"`, nil, 1795348000},
		{"absent, floor of the store time", events, "", nil, noon.Truncate(time.Second).Unix()},
		{"header ignored on events", events, "1795348000", []string{usage.HeaderTimestamp, "1795348001"}, 1795348000},
		{"header ignored on events, absent", events, "", []string{usage.HeaderTimestamp, "1795348001"}, noon.Unix()},
		{"header ignored on events, unreadable", events, "1795348000", []string{usage.HeaderTimestamp, "soon"}, 1795348000},
		{"header wins on replay", replay, "1795348000", []string{usage.HeaderTimestamp, "1795348001"}, 1795348001},
		{"header in RFC 3339", replay, "1795348000", []string{usage.HeaderTimestamp, "2026-11-22T11:46:41.5Z"}, 1795348001},
		{"header stands in on replay", replay, "", []string{usage.HeaderTimestamp, "1795348001"}, 1795348001},
		{"replay without header", replay, "1795348000", nil, 1795348000},
	}
	for _, test := range tests {
		member := ""
		if test.raw != "" {
			member = `"timestamp":` + test.raw + `,`
		}
		body := `{` + member + `"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`
		if got := parsed(t, message(test.subject, body, test.headers...)).Timestamp(); got != test.want {
			t.Errorf("%s: timestamp %d, want %d", test.name, got, test.want)
		}
	}
}

// A fraction before 1970 is cut downward too; such a timestamp is only seen in
// the refusal.
func TestTimestampIsCutDownward(t *testing.T) {
	body := `{"event_name":"a","timestamp":"1969-12-31T23:59:59.5Z","payload":{"stripe_customer_id":"c","value":1}}`
	_, err := usage.Parse(message("usage.events.a.c", body), noon)
	if got := refusalOf(t, err).Timestamp; got != -1 {
		t.Errorf("timestamp %d, want -1", got)
	}
}

// The message as a whole says when it happened: reading it later changes nothing
// until it leaves the window.
func TestParseDependsOnNowForTheWindowOnly(t *testing.T) {
	body := `{"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`
	m := message("usage.events.a.c", body)
	first := parsed(t, m)
	last := noon.Add(usage.MaxAge)
	later, err := usage.Parse(m, last)
	if err != nil || later.Timestamp() != first.Timestamp() || later.Fingerprint() != first.Fingerprint() || later.Key() != first.Key() {
		t.Errorf("35 days later: %v %v, want the event of the first reading", later, err)
	}
	_, err = usage.Parse(m, last.Add(time.Second))
	if refusal := refusalOf(t, err); refusal.Reason != usage.TimestampTooFarInPast {
		t.Errorf("a second later still: %v, want %s", refusal, usage.TimestampTooFarInPast)
	}
}

func TestValueIsCanonical(t *testing.T) {
	for raw, want := range map[string]int64{
		`0`: 0, `-0`: 0, `"-0"`: 0, `"1024"`: 1024, `1024`: 1024, `-5`: -5, `"-5"`: -5,
		`999999999999999`: 999999999999999, `"-999999999999999"`: -999999999999999,
	} {
		e := parsed(t, message("usage.events.a.c", `{"event_name":"a","payload":{"stripe_customer_id":"c","value":`+raw+`}}`))
		if e.Units() != want || e.Value() != fmt.Sprint(want) {
			t.Errorf("value %s: %q, %d units, want %d", raw, e.Value(), e.Units(), want)
		}
	}
}

func TestPayloadIsSortedAndLiteral(t *testing.T) {
	body := `{"payload":{"z":1.50,"value":"-0","\u0061":true,"stripe_customer_id":"c","B":-1E9,"m":"x\"\\y"},"event_name":"a"}`
	e := parsed(t, message("usage.events.a.c", body))
	const want = `[{B -1E9} {a true} {m x"\y} {stripe_customer_id c} {value 0} {z 1.50}]`
	if got := fmt.Sprint(e.Payload()); got != want {
		t.Errorf("payload %s, want %s", got, want)
	}
	e.Payload()[0] = usage.Field{Key: "B", Value: "changed"}
	if got := fmt.Sprint(e.Payload()); got != want {
		t.Errorf("a caller changed the event: payload %s", got)
	}
}

// The event must not change when the client reuses its read buffer.
func TestParseKeepsNothingOfTheBody(t *testing.T) {
	m := message("usage.events.a.c", `{"event_name":"a","identifier":"i","payload":{"stripe_customer_id":"c","value":1,"k":"v"}}`)
	e := parsed(t, m)
	before, _ := e.MarshalJSON()
	copy(m.Body, strings.Repeat("x", len(m.Body)))
	if after, _ := e.MarshalJSON(); string(after) != string(before) {
		t.Errorf("event changed with the buffer: %s, want %s", after, before)
	}
}

func TestParseWithoutHeaders(t *testing.T) {
	m := message("usage.replay.a.c", `{"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`)
	m.Header = nil
	if got := parsed(t, m).Identifier(); got != "mw-e7-42" {
		t.Errorf("identifier %q, want mw-e7-42", got)
	}
}
