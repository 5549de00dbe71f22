package usage_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 700_000_000, time.UTC)

// message is a stored message; headers are name and value in turn.
func message(subject, body string, headers ...string) usage.Message {
	return usage.Message{
		Subject: subject,
		Header: func(name string) string {
			for i := 0; i < len(headers); i += 2 {
				if headers[i] == name {
					return headers[i+1]
				}
			}
			return ""
		},
		Body: []byte(body), Sequence: 42, Epoch: "e7", StoredAt: noon,
	}
}

func ofCase(c usagetest.Case) usage.Message {
	m := message(c.Subject, string(c.Body))
	m.Header = func(name string) string {
		if values := c.Headers[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	return m
}

// parsed fails the test when the message is refused.
func parsed(t *testing.T, m usage.Message) usage.Event {
	t.Helper()
	e, err := usage.Parse(m, noon)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return e
}

func refusalOf(t *testing.T, err error) *usage.Refusal {
	t.Helper()
	refusal, ok := errors.AsType[*usage.Refusal](err)
	if !ok {
		t.Fatalf("error is %T %v, want a *usage.Refusal", err, err)
	}
	return refusal
}

func TestParseCorpus(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range append(usagetest.Cases(noon), usagetest.EdgeOfWindow(noon)...) {
		if seen[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		seen[c.Name] = true
		e, err := usage.Parse(ofCase(c), noon)
		if c.Reason == "" {
			if err != nil {
				t.Errorf("%s: refused, want an event: %v", c.Name, err)
				continue
			}
			checkAgainstLibrary(t, c, e)
			continue
		}
		if err == nil {
			t.Errorf("%s: accepted, want %s", c.Name, c.Reason)
			continue
		}
		refusal := refusalOf(t, err)
		if string(refusal.Reason) != c.Reason {
			t.Errorf("%s: %v, want %s", c.Name, refusal, c.Reason)
		}
		checkDetail(t, c.Name, refusal)
	}
}

// checkAgainstLibrary reads the body with encoding/json, another implementation.
func checkAgainstLibrary(t *testing.T, c usagetest.Case, e usage.Event) {
	t.Helper()
	var want struct {
		EventName string         `json:"event_name"`
		Payload   map[string]any `json:"payload"`
	}
	if err := json.Unmarshal(c.Body, &want); err != nil {
		t.Errorf("%s: encoding/json refuses what Parse accepts: %v", c.Name, err)
		return
	}
	if e.EventName() != want.EventName || e.Customer() != want.Payload["stripe_customer_id"] {
		t.Errorf("%s: event name and customer are %q and %q, encoding/json has %q and %q",
			c.Name, e.EventName(), e.Customer(), want.EventName, want.Payload["stripe_customer_id"])
	}
	fields := e.Payload()
	if len(fields) != len(want.Payload) {
		t.Errorf("%s: %d payload pairs, encoding/json has %d", c.Name, len(fields), len(want.Payload))
	}
	for _, f := range fields {
		if text, ok := want.Payload[f.Key].(string); ok && f.Key != "value" && text != f.Value {
			t.Errorf("%s: payload[%q] is %q, encoding/json has %q", c.Name, f.Key, f.Value, text)
		}
	}
}

func checkDetail(t *testing.T, name string, refusal *usage.Refusal) {
	t.Helper()
	detail := refusal.Detail
	if len(detail) > 512 || !utf8.ValidString(detail) || strings.IndexFunc(detail, unicode.IsControl) >= 0 {
		t.Errorf("%s: detail of %d bytes %q, want at most 512 printable ones", name, len(detail), detail)
	}
	// What is wrong; what to do.
	if problem, remedy, both := strings.Cut(detail, "; "); !both || problem == "" || remedy == "" {
		t.Errorf("%s: detail %q does not say what to do", name, detail)
	}
}

func TestDetailHoldsNoPayload(t *testing.T) {
	const secret = "s3cret-customer-text"
	bodies := []string{
		`{"event_name":"a\n` + secret + `","payload":{}}`,
		`{"event_name":"a","identifier":"` + secret + `\n","payload":{}}`,
		`{"event_name":"a","payload":"` + secret + `"}`,
		`{"event_name":"a","payload":{"stripe_customer_id":"` + secret + `\n","value":1}}`,
		`{"event_name":"a","payload":{"stripe_customer_id":"c","value":"` + secret + `"}}`,
		`{"event_name":"a","payload":{"stripe_customer_id":"c","value":1,"k":"` + secret + `\n"}}`,
		`{"event_name":"a","payload":{"stripe_customer_id":"` + secret + `","value":1}}`,
		`{"event_name":"a","timestamp":"` + secret + `","payload":{}}`,
		`{"event_name":"` + secret,
	}
	for _, body := range bodies {
		_, err := usage.Parse(message("usage.events.a.c", body), noon)
		if detail := refusalOf(t, err).Detail; strings.Contains(detail, secret) {
			t.Errorf("detail %q quotes a value of %s", detail, body)
		}
	}
}

func TestDetailNamesHostileKeySafely(t *testing.T) {
	body := `{"\u001b[31m\u202e` + strings.Repeat("é", 2000) + `":1}`
	_, err := usage.Parse(message("usage.events.a.c", body), noon)
	refusal := refusalOf(t, err)
	checkDetail(t, "hostile key", refusal)
	if strings.Contains(refusal.Detail, "\u202e") || !strings.Contains(refusal.Detail, "é") {
		t.Errorf("detail %q, want the key without its direction override", refusal.Detail)
	}
}

// A byte order mark cannot be seen in an editor, so the detail must name it.
func TestDetailNamesByteOrderMark(t *testing.T) {
	_, err := usage.Parse(message("usage.events.a.c", "\ufeff{}"), noon)
	if detail := refusalOf(t, err).Detail; !strings.Contains(detail, "byte order mark;") {
		t.Errorf("detail %q does not name the byte order mark", detail)
	}
}

func TestParseSubjectOfAnotherShape(t *testing.T) {
	for _, subject := range []string{
		"", "usage", "usage.events", "usage.events.", "usage.events.api_calls", "usage.events.api_calls.", "usage.events.api_calls.cus_123.x",
		"usage.part.3.events.api_calls.cus_123", "Usage.events.api_calls.cus_123", "usage.replay.api_calls.cus_123.x", "usage.dlq.api_calls.cus_123",
		"xusage.events.api_calls.cus_123", "usage.events.*.*", "usage.events.>",
	} {
		body := `{"event_name":"api_calls","payload":{"stripe_customer_id":"cus_123","value":1}}`
		m := message(subject, body, usage.HeaderTimestamp, "soon", usage.HeaderIdentifier, "smuggled")
		_, err := usage.Parse(m, noon)
		refusal := refusalOf(t, err)
		if refusal.Reason != usage.SubjectMismatch {
			t.Errorf("%q: %v, want %s", subject, refusal, usage.SubjectMismatch)
		}
		if refusal.Identifier != "mw-e7-42" {
			t.Errorf("%q: identifier %q: the headers of a replay count on another subject", subject, refusal.Identifier)
		}
	}
}

// Each body breaks one rule more than the next: the reason is the first in the
// order of checks.
func TestOrderOfChecks(t *testing.T) {
	tests := []struct {
		body string
		want usage.Reason
	}{
		{strings.Repeat(" ", usage.MaxBody) + `{`, usage.TooLarge},
		{`{"event_name":"","identifier":"","timestamp":0,"payload":{"a":null},"x":1}`, usage.Undecodable},
		{`{"event_name":"","identifier":"","timestamp":"soon","payload":{"a":null}}`, usage.Undecodable},
		{`{"event_name":"","identifier":"","timestamp":0,"payload":{"a":null}}`, usage.InvalidEventName},
		{`{"event_name":"a","identifier":"","timestamp":0,"payload":{"a":null}}`, usage.InvalidIdentifier},
		{`{"event_name":"a","timestamp":0,"payload":{"a":null}}`, usage.InvalidPayload},
		{`{"event_name":"a","timestamp":0,"payload":{}}`, usage.NoCustomer},
		{`{"event_name":"a","timestamp":0,"payload":{"stripe_customer_id":"c"}}`, usage.InvalidValue},
		{`{"event_name":"a","timestamp":0,"payload":{"stripe_customer_id":"c","value":1}}`, usage.TimestampTooFarInPast},
		{`{"event_name":"a","timestamp":99999999999,"payload":{"stripe_customer_id":"c","value":1}}`, usage.TimestampInFuture},
		{`{"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`, usage.SubjectMismatch},
	}
	for _, test := range tests {
		_, err := usage.Parse(message("usage.events.x.x", test.body), noon)
		if refusal := refusalOf(t, err); refusal.Reason != test.want {
			t.Errorf("%.90s: %v, want %s", test.body, refusal, test.want)
		}
	}
}

func TestRefusalCarriesWhatIsKnown(t *testing.T) {
	tests := []struct {
		name, body string
		identifier string
		timestamp  int64
	}{
		{"nothing decoded", `{`, "", 0},
		{"timestamp unreadable", `{"event_name":"a","identifier":"i","timestamp":null,"payload":{}}`, "i", 0},
		{"event name", `{"identifier":"i","timestamp":1795348000}`, "i", 1795348000},
		{"identifier", `{"event_name":"a","identifier":"","timestamp":1795348000}`, "", 1795348000},
		{"both from the message", `{"event_name":"a"}`, "mw-e7-42", noon.Unix()},
		{"timestamp", `{"event_name":"a","identifier":"i","timestamp":-7,"payload":{"stripe_customer_id":"c","value":1}}`, "i", -7},
	}
	for _, test := range tests {
		_, err := usage.Parse(message("usage.events.a.c", test.body), noon)
		refusal := refusalOf(t, err)
		if refusal.Identifier != test.identifier || refusal.Timestamp != test.timestamp {
			t.Errorf("%s: identifier %q timestamp %d, want %q %d", test.name, refusal.Identifier, refusal.Timestamp, test.identifier, test.timestamp)
		}
	}
}
