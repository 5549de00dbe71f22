package usage_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

func FuzzParse(f *testing.F) {
	for _, c := range usagetest.Cases(noon) {
		if len(c.Body) <= 4096 { // larger ones slow the search down
			m := ofCase(c)
			f.Add(c.Subject, m.Header("Nats-Msg-Id"), m.Header(usage.HeaderIdentifier), m.Header(usage.HeaderTimestamp), c.Body)
		}
	}
	f.Fuzz(func(t *testing.T, subject, id, identifier, timestamp string, body []byte) {
		m := message(subject, string(body), "Nats-Msg-Id", id, usage.HeaderIdentifier, identifier, usage.HeaderTimestamp, timestamp)
		e, err := usage.Parse(m, noon)
		if err != nil {
			checkRefusal(t, body, refusalOf(t, err))
			return
		}
		checkAccepted(t, m, e)
	})
}

func checkRefusal(t *testing.T, body []byte, refusal *usage.Refusal) {
	t.Helper()
	checkDetail(t, "fuzz", refusal)
	if len(body) <= usage.MaxBody && !json.Valid(body) && refusal.Reason != usage.Undecodable {
		t.Errorf("%q is not JSON and refused as %s, want %s", body, refusal.Reason, usage.Undecodable)
	}
}

// checkAccepted holds an event against the rules, the library, and itself once
// published again.
func checkAccepted(t *testing.T, m usage.Message, e usage.Event) {
	t.Helper()
	checkLimits(t, e)
	if !json.Valid(m.Body) || !utf8.Valid(m.Body) {
		t.Fatalf("%q is accepted and not JSON", m.Body)
	}
	checkAgainstLibrary(t, usagetest.Case{Name: "fuzz", Body: m.Body}, e)
	if m.Subject != e.Subject() && m.Subject != usage.ReplaySubject(e.EventName(), e.Customer()) {
		t.Errorf("subject %q is accepted for %q", m.Subject, e.Subject())
	}
	published, err := e.MarshalJSON()
	if err != nil || !json.Valid(published) {
		t.Fatalf("MarshalJSON: %q %v", published, err)
	}
	if len(published) > usage.MaxBody { // numbers became strings
		return
	}
	again := m
	again.Body = published
	back, err := usage.Parse(again, noon)
	if err != nil || back.Key() != e.Key() || back.Fingerprint() != e.Fingerprint() ||
		back.Identifier() != e.Identifier() || back.Timestamp() != e.Timestamp() || back.Value() != e.Value() {
		t.Errorf("%q is published as %q, which is %+v %v, want %+v", m.Body, published, back, err, e)
	}
	twice, _ := back.MarshalJSON()
	if string(twice) != string(published) {
		t.Errorf("canonical form %q has the canonical form %q", published, twice)
	}
}

func checkLimits(t *testing.T, e usage.Event) {
	t.Helper()
	for text, limit := range map[string]int{e.EventName(): usage.MaxEventName, e.Identifier(): usage.MaxIdentifier, e.Customer(): usage.MaxDimension} {
		if n := utf8.RuneCountInString(text); n == 0 || n > limit {
			t.Errorf("%q has %d characters, want 1 to %d", text, n, limit)
		}
	}
	if strings.ContainsAny(e.Identifier()+e.EventName()+e.Customer(), "\x00\r\n\x1b\x7f") {
		t.Errorf("%+v has a control character", e)
	}
	if e.Units() > 999_999_999_999_999 || e.Units() < -999_999_999_999_999 {
		t.Errorf("%d units", e.Units())
	}
	if age := noon.Unix() - e.Timestamp(); age > 35*86_400 || age < -300 {
		t.Errorf("timestamp is %d s old", age)
	}
}

// Everything that New makes is stored, read and read again as one event.
func TestNewProperties(t *testing.T) {
	printable := rapid.StringOfN(rapid.RuneFrom([]rune("aZ0 .*>=\"\\/é日😀[]&<\u2028")), 1, 100, -1)
	plainKey := rapid.StringOfN(rapid.RuneFrom([]rune("abc \"é日")), 1, 100, -1)
	now := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		e, err := usage.New(usage.Params{
			EventName: printable.Draw(rt, "event name"), Identifier: printable.Draw(rt, "identifier"), Customer: printable.Draw(rt, "customer"),
			Timestamp: now, Value: rapid.Int64Range(-999_999_999_999_999, 999_999_999_999_999).Draw(rt, "value"),
			Dimensions: rapid.MapOfN(plainKey, printable, 0, 8).Draw(rt, "dimensions"),
		})
		if err != nil {
			rt.Fatalf("New: %v", err)
		}
		published, _ := e.MarshalJSON()
		back, err := usage.Parse(message(e.Subject(), string(published)), now)
		if err != nil || back.Key() != e.Key() || back.Fingerprint() != e.Fingerprint() || back.Identifier() != e.Identifier() {
			rt.Fatalf("%s: %+v %v, want %+v", published, back, err, e)
		}
	})
}
