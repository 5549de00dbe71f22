package usage_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/usage"
)

const (
	goldenKey         = 0x25745fb96b8b9268
	goldenFingerprint = 0x82450755
	goldenUndated     = 0x208b7dff
)

// These numbers stand in journals: a change makes the worker forget what it
// billed. They were computed from the documented rule by another program.
func TestKeyAndFingerprintAreFixed(t *testing.T) {
	body := `{"event_name":"api_calls","identifier":"req-7f3a","timestamp":1795348000,"payload":{"stripe_customer_id":"cus_123","value":1024,"region":"eu"}}`
	dated := parsed(t, message("usage.events.api_calls.cus_123", body))
	undated := parsed(t, message("usage.events.api_calls.cus_123", strings.Replace(body, `"timestamp":1795348000,`, "", 1)))
	for _, test := range []struct {
		name      string
		got, want uint64
	}{
		{"key", dated.Key(), goldenKey},
		{"key without a timestamp", undated.Key(), goldenKey},
		{"fingerprint", uint64(dated.Fingerprint()), goldenFingerprint},
		{"fingerprint without a timestamp", uint64(undated.Fingerprint()), goldenUndated},
	} {
		if test.got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, test.got, test.want)
		}
	}
}

func TestReasonsAreTheDeadLetters(t *testing.T) {
	reasons := []usage.Reason{
		usage.Undecodable, usage.TooLarge, usage.SubjectMismatch, usage.InvalidEventName, usage.InvalidIdentifier,
		usage.InvalidPayload, usage.NoCustomer, usage.InvalidValue, usage.TimestampTooFarInPast, usage.TimestampInFuture,
	}
	want := strings.Fields(`undecodable too_large subject_mismatch invalid_event_name invalid_identifier
		invalid_payload meter_event_no_customer_defined meter_event_invalid_value timestamp_too_far_in_past timestamp_in_future`)
	for i, reason := range reasons {
		if string(reason) != want[i] {
			t.Errorf("reason %q, want %q", reason, want[i])
		}
	}
}

func TestKeySeparates(t *testing.T) {
	key := func(name, customer, identifier string) uint64 {
		e, err := usage.New(usage.Params{EventName: name, Customer: customer, Identifier: identifier})
		if err != nil {
			t.Fatal(err)
		}
		return e.Key()
	}
	base := key("ab", "cd", "ef")
	if key("ab", "cd", "ef") != base {
		t.Error("the same event has two keys")
	}
	for _, parts := range [][3]string{{"abc", "d", "ef"}, {"ab", "cde", "f"}, {"a", "bcd", "ef"}, {"ab", "cd", "ef "}, {"AB", "cd", "ef"}, {"cd", "ab", "ef"}} {
		if key(parts[0], parts[1], parts[2]) == base {
			t.Errorf("%q has the key of another event", parts)
		}
	}
}

func TestFingerprintIsOfTheContentAsPublished(t *testing.T) {
	const base = `{"event_name":"a","identifier":"i","timestamp":1795348000,"payload":{"stripe_customer_id":"c","value":1,"k":"v"}}`
	fingerprint := func(subject, body string, headers ...string) uint32 {
		t.Helper()
		return parsed(t, message(subject, body, headers...)).Fingerprint()
	}
	want := fingerprint("usage.events.a.c", base)
	same := map[string]uint32{
		"another identifier":       fingerprint("usage.events.a.c", strings.Replace(base, `"i"`, `"j"`, 1)),
		"timestamp in a string":    fingerprint("usage.events.a.c", strings.Replace(base, `1795348000`, `"1795348000"`, 1)),
		"timestamp in RFC 3339":    fingerprint("usage.events.a.c", strings.Replace(base, `1795348000`, `"2026-11-22T11:46:40.25Z"`, 1)),
		"value in a string":        fingerprint("usage.events.a.c", strings.Replace(base, `"value":1`, `"value":"1"`, 1)),
		"keys in another order":    fingerprint("usage.events.a.c", strings.Replace(base, `"value":1,"k":"v"`, `"k":"v","value":1`, 1)),
		"escapes and white space":  fingerprint("usage.events.a.c", strings.Replace(base, `"k":"v"`, ` "\u006b" : "\u0076" `, 1)),
		"replay":                   fingerprint("usage.replay.a.c", base),
		"replay with its headers":  fingerprint("usage.replay.a.c", base, usage.HeaderIdentifier, "h", usage.HeaderTimestamp, "1795340000"),
		"smuggled headers, events": fingerprint("usage.events.a.c", base, usage.HeaderIdentifier, "h", usage.HeaderTimestamp, "1795340000"),
	}
	for name, got := range same {
		if got != want {
			t.Errorf("%s: fingerprint %#x, want the same as the original, %#x", name, got, want)
		}
	}
	other := map[string]string{
		"value":         strings.Replace(base, `"value":1`, `"value":2`, 1),
		"sign":          strings.Replace(base, `"value":1`, `"value":-1`, 1),
		"timestamp":     strings.Replace(base, `8000`, `8001`, 1),
		"no timestamp":  strings.Replace(base, `"timestamp":1795348000,`, "", 1),
		"dimension":     strings.Replace(base, `"v"`, `"w"`, 1),
		"dimension key": strings.Replace(base, `"k"`, `"l"`, 1),
		"boundary":      strings.Replace(base, `"k":"v"`, `"kv":""`, 1),
		"more":          strings.Replace(base, `"k":"v"`, `"k":"v","l":""`, 1),
		"fewer":         strings.Replace(base, `,"k":"v"`, "", 1),
	}
	for name, body := range other {
		if fingerprint("usage.events.a.c", body) == want {
			t.Errorf("%s: the fingerprint does not show it", name)
		}
	}
}

// A replay of an event that was published without a timestamp carries the time at
// which it was stored in a header, and still is the same content.
func TestReplayOfUndatedEvent(t *testing.T) {
	body := `{"event_name":"a","payload":{"stripe_customer_id":"c","value":1}}`
	original := parsed(t, message("usage.events.a.c", body))
	replay := message("usage.replay.a.c", body, usage.HeaderIdentifier, original.Identifier(), usage.HeaderTimestamp, "1795348800")
	replay.Sequence, replay.StoredAt = 99, noon.Add(time.Hour)
	again := parsed(t, replay)
	if again.Fingerprint() != original.Fingerprint() || again.Key() != original.Key() || again.Timestamp() != original.Timestamp() {
		t.Errorf("replay %v %x %x, want the original %v %x %x", again, again.Key(), again.Fingerprint(), original, original.Key(), original.Fingerprint())
	}
}

func TestNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := usage.New(usage.Params{EventName: `api "calls" v2`, Customer: `cus\1`, Value: -7, Dimensions: map[string]string{"b": "2", "a": ""}})
		if err != nil {
			t.Fatal(err)
		}
		if e.Timestamp() != time.Now().Unix() || e.Units() != -7 || e.Value() != "-7" || len(e.Identifier()) < 20 {
			t.Errorf("event %+v, want value -7, now and a long identifier", e)
		}
		if want := "usage.events.api=20=22calls=22=20v2.cus=5C1"; e.Subject() != want {
			t.Errorf("subject %q, want %q", e.Subject(), want)
		}
		published, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := usage.Parse(usage.Message{Subject: e.Subject(), Body: published}, time.Now())
		if err != nil || again.Key() != e.Key() || again.Fingerprint() != e.Fingerprint() || again.Timestamp() != e.Timestamp() {
			t.Errorf("%s parses to %+v %v, want %+v", published, again, err, e)
		}
		other, _ := usage.New(usage.Params{EventName: "a", Customer: "c"})
		if other.Identifier() == e.Identifier() {
			t.Error("two events were given one identifier")
		}
	})
}

func TestMarshalJSONIsCanonical(t *testing.T) {
	e, err := usage.New(usage.Params{
		EventName: "api_calls", Identifier: `req "1"`, Timestamp: time.Now().Truncate(time.Hour), Customer: "cus_123",
		Value: 1024, Dimensions: map[string]string{"region": `e\u`, "<zone>": "日本"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.MarshalJSON()
	want := `{"event_name":"api_calls","identifier":"req \"1\"","timestamp":` +
		jsonNumber(e.Timestamp()) + `,"payload":{"<zone>":"日本","region":"e\\u","stripe_customer_id":"cus_123","value":1024}}`
	if err != nil || string(got) != want {
		t.Errorf("body %s %v, want %s", got, err, want)
	}
	if _, err := (usage.Event{}).MarshalJSON(); err == nil {
		t.Error("the zero Event was rendered")
	}
}

func TestNewRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		long := strings.Repeat("é", 256)
		valid := usage.Params{EventName: "a", Customer: "c"}
		tests := []struct {
			name   string
			change func(*usage.Params)
			want   usage.Reason // "" = accepted
		}{
			{"nothing", func(*usage.Params) {}, ""},
			{"event name empty", func(p *usage.Params) { p.EventName = "" }, usage.InvalidEventName},
			{"event name long", func(p *usage.Params) { p.EventName = long[:202] }, usage.InvalidEventName},
			{"event name not UTF-8", func(p *usage.Params) { p.EventName = "\xff" }, usage.InvalidEventName},
			{"identifier long", func(p *usage.Params) { p.Identifier = long }, usage.InvalidIdentifier},
			{"identifier at the limit", func(p *usage.Params) { p.Identifier = long[:510] }, ""},
			{"identifier with a control", func(p *usage.Params) { p.Identifier = "a\r\n" }, usage.InvalidIdentifier},
			{"customer empty", func(p *usage.Params) { p.Customer = "" }, usage.NoCustomer},
			{"customer not UTF-8", func(p *usage.Params) { p.Customer = "c\xc3" }, usage.InvalidPayload},
			{"15 digits", func(p *usage.Params) { p.Value = -999_999_999_999_999 }, ""},
			{"16 digits", func(p *usage.Params) { p.Value = 1_000_000_000_000_000 }, usage.InvalidValue},
			{"smallest integer", func(p *usage.Params) { p.Value = math.MinInt64 }, usage.InvalidValue},
			{"35 d old", func(p *usage.Params) { p.Timestamp = now.Add(-usage.MaxAge) }, ""},
			{"older", func(p *usage.Params) { p.Timestamp = now.Add(-usage.MaxAge - time.Second) }, usage.TimestampTooFarInPast},
			{"5 min ahead", func(p *usage.Params) { p.Timestamp = now.Add(usage.MaxAhead) }, ""},
			{"further", func(p *usage.Params) { p.Timestamp = now.Add(usage.MaxAhead + time.Second) }, usage.TimestampInFuture},
			{"dimension named value", func(p *usage.Params) { p.Dimensions = map[string]string{"value": "1"} }, usage.InvalidPayload},
			{"dimension named like the customer", func(p *usage.Params) { p.Dimensions = map[string]string{"stripe_customer_id": "d"} }, usage.InvalidPayload},
			{"dimension with a bracket", func(p *usage.Params) { p.Dimensions = map[string]string{"a[b": "1"} }, usage.InvalidPayload},
			{"dimension key empty", func(p *usage.Params) { p.Dimensions = map[string]string{"": "1"} }, usage.InvalidPayload},
			{"dimension long", func(p *usage.Params) { p.Dimensions = map[string]string{"k": long} }, usage.InvalidPayload},
			{"too many dimensions", func(p *usage.Params) { p.Dimensions = manyDimensions(1000) }, usage.TooLarge},
		}
		for _, test := range tests {
			params := valid
			test.change(&params)
			_, err := usage.New(params)
			if test.want == "" {
				if err != nil {
					t.Errorf("%s: %v, want an event", test.name, err)
				}
				continue
			}
			if refusal := refusalOf(t, err); refusal.Reason != test.want {
				t.Errorf("%s: %v, want %s", test.name, refusal, test.want)
			}
		}
	})
}

func manyDimensions(n int) map[string]string {
	dimensions := map[string]string{}
	for i := range n {
		dimensions[strings.Repeat("k", 90)+jsonNumber(int64(i))] = ""
	}
	return dimensions
}

func jsonNumber(n int64) string {
	b, _ := json.Marshal(n) // cannot fail
	return string(b)
}
