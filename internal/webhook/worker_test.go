package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

func TestSomeOfOurs(t *testing.T) {
	s := newScene(t)
	for i := range uint64(20) {
		s.sent(i+1, "api_calls", "cus_1", fmt.Sprint("req-", i+1), journal.Open, journal.Delivered)
	}
	s.says(10, failing(customerNotFound, 8, "req-3", "req-5", "nobody-knows")+","+failing("brand_new", 1, "req-7"))
	if !s.take(1).acked {
		t.Fatal("not acked")
	}
	s.want(3, 7, 3, 5, 7)
	if want := map[string]int{customerNotFound: 8, "brand_new": 1, "": 1}; !maps.Equal(s.rejected, want) {
		t.Errorf("counted %v, want %v", s.rejected, want)
	}
	l := s.letters[slices.IndexFunc(s.letters, func(l deadletter.Letter) bool { return l.Sequence == 3 })]
	l.DeadAt = time.Time{}
	if want := (deadletter.Letter{
		Reason: deadletter.RejectedLater, Outcome: deadletter.Refused, Detail: "not known", Code: customerNotFound, Status: 200,
		Attempts: 1, LastAttempt: start.Add(time.Second), Subject: "usage.events.api_calls.cus_1", Sequence: 3,
		StoredAt: start.Add(-time.Second), Identifier: "req-3", Timestamp: start.Unix(),
	}); l != want {
		t.Errorf("letter %+v\nwant   %+v", l, want)
	}
	if string(s.bodies[0]) != string(s.messages[s.letters[0].Sequence].Body) {
		t.Errorf("body %s", s.bodies[0])
	}
	if s.permits != 2 || !slices.Equal(s.asked, []string{"/v2/core/events/" + sceneEvent, sceneMeter}) {
		t.Errorf("%d permits, asked %v", s.permits, s.asked)
	}
}

// TestWhatIsFound has a row for each way in which usage can stand to a report.
func TestWhatIsFound(t *testing.T) {
	header := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}
	byKey := func(key, more string) string {
		return `{"code":"no_meter","error_count":1,"sample_errors":[{"error_message":"m","request":{"id":"req_123","idempotency_key":"` + key + `"` + more + `}}]}`
	}
	for _, c := range []struct {
		name    string
		set     func(s *scene)
		types   string
		named   int
		unnamed int
		letters []uint64
	}{
		{"delivered", func(s *scene) { s.sent(1, "api_calls", "cus_1", "a", journal.Open, journal.Delivered) }, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"its intent is purged", func(s *scene) { s.sent(1, "api_calls", "cus_1", "a", journal.Delivered) }, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"delivered after a doubt", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Unknown, journal.Open, journal.NotSent, journal.Open, journal.Delivered)
		}, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"died on the way: it has its letter", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Unknown, journal.Dying, journal.Dead)
		}, failing(customerNotFound, 1, "a"), 1, 0, nil},
		{"dying", func(s *scene) { s.sent(1, "api_calls", "cus_1", "a", journal.Open, journal.Dying) }, failing(customerNotFound, 1, "a"), 1, 0, nil},
		{"never sent", func(s *scene) { s.sent(1, "api_calls", "cus_1", "a", journal.Open, journal.NotSent) }, failing(customerNotFound, 1, "a"), 0, 1, nil},
		{"of another meter", func(s *scene) { s.sent(1, "storage", "cus_1", "a", journal.Delivered) }, failing(customerNotFound, 1, "a"), 0, 1, nil},
		{"the same identifier on another meter", func(s *scene) {
			s.sent(1, "storage", "cus_1", "a", journal.Delivered)
			s.sent(2, "api_calls", "cus_1", "a", journal.Delivered)
		}, failing(customerNotFound, 1, "a"), 1, 0, []uint64{2}},
		{"named twice", func(s *scene) { s.sent(1, "api_calls", "cus_1", "a", journal.Delivered) }, failing(customerNotFound, 2, "a", "a"), 1, 1, []uint64{1}},
		{"trimmed", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
			delete(s.messages, 1)
		}, failing(customerNotFound, 1, "a"), 0, 1, nil},
		{"an hour off", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
			s.lines[0].At = start.Add(-50 * time.Minute)
		}, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"a month off", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
			s.lines[0].At = start.Add(-30 * 24 * time.Hour)
		}, failing(customerNotFound, 1, "a"), 0, 1, nil},
		{"by our key", func(s *scene) { s.sent(7, "api_calls", "cus_1", "a", journal.Delivered) }, byKey("mw-abc-w1-4-99-7-12.3", ""), 1, 0, []uint64{7}},
		{"by key and identifier", func(s *scene) { s.sent(7, "api_calls", "cus_1", "a", journal.Delivered) }, byKey("mw-abc-w1-7-12.3", `,"identifier":"a"`), 1, 0, []uint64{7}},
		{"key and identifier disagree: the identifier counts", func(s *scene) {
			s.sent(7, "api_calls", "cus_1", "a", journal.Delivered)
			s.sent(8, "api_calls", "cus_1", "b", journal.Delivered)
		}, byKey("mw-abc-w1-7-12.3", `,"identifier":"b"`), 1, 0, []uint64{8}},
		{"the key of another stream", func(s *scene) { s.sent(7, "api_calls", "cus_1", "a", journal.Delivered) }, byKey("mw-abd-w1-7-12.3", ""), 0, 1, nil},
		{"somebody else's key", func(s *scene) { s.sent(7, "api_calls", "cus_1", "a", journal.Delivered) }, byKey("7", ""), 0, 1, nil},
		{"a key beyond 64 bits", func(*scene) {}, byKey("mw-abc-w1-99999999999999999999-12.3", ""), 0, 1, nil},
		{"our key of another meter", func(s *scene) { s.sent(7, "storage", "cus_1", "a", journal.Delivered) }, byKey("mw-abc-w1-7-12.3", ""), 0, 1, nil},
		{"identifier from the header", func(s *scene) {
			s.stored(1, Message{
				Subject: "usage.events.api_calls.cus_1", Header: header(map[string]string{"Nats-Msg-Id": "a"}),
				Body: []byte(`{"event_name":"api_calls","payload":{"stripe_customer_id":"cus_1","value":1}}`),
			}, journal.Delivered)
		}, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"no identifier at all", func(s *scene) {
			s.stored(1, Message{
				Subject: "usage.events.api_calls.cus_1", Header: header(nil),
				Body: []byte(`{"event_name":"api_calls","payload":{"stripe_customer_id":"cus_1","value":1}}`),
			}, journal.Delivered)
		}, failing(customerNotFound, 1, "mw-abc-1"), 1, 0, []uint64{1}},
		{"a replay under its new identifier", func(s *scene) {
			s.stored(1, Message{
				Subject: "usage.replay.api_calls.cus_1",
				Header:  header(map[string]string{"Meterworker-Identifier": "a~r1", "Meterworker-Replays": "1"}),
				Body:    []byte(`{"event_name":"api_calls","identifier":"a","payload":{"stripe_customer_id":"cus_1","value":1}}`),
			}, journal.Delivered)
		}, failing(customerNotFound, 1, "a~r1"), 1, 0, []uint64{1}},
		{"ahead of time when it was stored", func(s *scene) {
			s.stored(1, Message{
				Subject: "usage.events.api_calls.cus_1", Header: header(nil),
				Body: fmt.Appendf(nil, `{"event_name":"api_calls","identifier":"a","timestamp":%d,"payload":{"stripe_customer_id":"cus_1","value":1}}`, start.Unix()+3600),
			}, journal.Delivered)
		}, failing(customerNotFound, 1, "a"), 1, 0, []uint64{1}},
		{"identifiers that nobody can have sent", func(*scene) {}, failing(customerNotFound, 3, "", strings.Repeat("x", 256), "a\tb"), 0, 3, nil},
		{"no samples", func(*scene) {}, failing(customerNotFound, 4), 0, 4, nil},
		{"more samples than errors", func(s *scene) {
			s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
			s.sent(2, "api_calls", "cus_1", "b", journal.Delivered)
		}, failing(customerNotFound, 1, "a", "b"), 2, 0, []uint64{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			c.set(s)
			s.says(c.named+c.unnamed, c.types)
			if !s.take(1).acked {
				t.Fatal("not acked")
			}
			s.want(c.named, c.unnamed, c.letters...)
			if c.name == "a replay under its new identifier" && s.letters[0].Replays != 1 {
				t.Errorf("replays %d, want 1: or the next identifier would be this one again", s.letters[0].Replays)
			}
		})
	}
}

// An identifier is unique per customer only: where it fits two, each may have been counted.
func TestOneIdentifierOfTwoCustomers(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	s.sent(2, "api_calls", "cus_2", "a", journal.Delivered)
	s.says(1, failing(customerNotFound, 1, "a"))
	s.take(1)
	s.want(1, 0, 1, 2)
	for _, l := range s.letters {
		if l.Outcome != deadletter.Unknown || !strings.Contains(l.Detail, "several messages") {
			t.Errorf("letter %+v", l)
		}
	}
}

// A code that is not known says nothing about whether the event was counted.
func TestUnknownCodeSurvives(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	code := strings.Repeat("x", 300)
	s.says(1, failing(code, 1, "a"))
	s.take(1)
	s.want(1, 0, 1)
	if l := s.letters[0]; l.Code != code[:maxCode] || l.Outcome != deadletter.Unknown {
		t.Errorf("letter %+v", l)
	}
}

func TestSecretsStayOut(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	s.says(1, strings.Replace(failing(customerNotFound, 1, "a"), "not known", "key sk_live_abc and whsec_def", 1))
	s.take(1)
	if l := s.letters[0]; strings.Contains(l.Detail, "abc") || strings.Contains(l.Detail, "def") {
		t.Errorf("detail %q", l.Detail)
	}
}
