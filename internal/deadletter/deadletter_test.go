package deadletter

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// full has a value in every field.
func full() Letter {
	at := time.Date(2025, 10, 16, 12, 0, 0, 123456789, time.UTC)
	return Letter{
		Reason: Rejected, Outcome: Unknown, Detail: "no such customer", Code: "resource_missing", Status: 400,
		RequestID: "req_1", Attempts: 3, FirstAttempt: at, LastAttempt: at.Add(time.Second), DeadAt: at.Add(time.Minute),
		Subject: "usage.events.api_calls.cus_1", Sequence: 42, StoredAt: at.Add(-time.Hour), Identifier: "req-7f3a",
		Timestamp: 1_760_612_775, Episode: "7", Replays: 2, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func getter(h map[string]string) func(string) string {
	return func(name string) string { return h[name] }
}

func TestEveryFieldHasAHeaderAndComesBack(t *testing.T) {
	l := full()
	if v := reflect.ValueOf(l); slices.ContainsFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool { return v.FieldByIndex(f.Index).IsZero() }) {
		t.Fatalf("full() leaves a field empty: %+v", l)
	}
	got, err := Read(getter(l.Header()))
	if err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v; want %+v", got, err, l)
	}
	if n := len(l.Header()); n != reflect.TypeFor[Letter]().NumField() {
		t.Errorf("%d headers for %d fields", n, reflect.TypeFor[Letter]().NumField())
	}
}

// The names are a contract with whoever reads dead letters.
func TestHeaderNames(t *testing.T) {
	want := map[string]string{
		"Meterworker-Reason": "rejected", "Meterworker-Outcome": "unknown", "Meterworker-Detail": "no such customer",
		"Meterworker-Code": "resource_missing", "Meterworker-Status": "400", "Meterworker-Request-Id": "req_1",
		"Meterworker-Attempts": "3", "Meterworker-First-Attempt": "2025-10-16T12:00:00.123456789Z",
		"Meterworker-Last-Attempt": "2025-10-16T12:00:01.123456789Z", "Meterworker-Dead-At": "2025-10-16T12:01:00.123456789Z",
		"Meterworker-Subject": "usage.events.api_calls.cus_1", "Meterworker-Sequence": "42",
		"Meterworker-Stored-At": "2025-10-16T11:00:00.123456789Z", "Meterworker-Identifier": "req-7f3a",
		"Meterworker-Timestamp": "1760612775", "Meterworker-Episode": "7", "Meterworker-Replays": "2",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	if got := full().Header(); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// What is not known yields no header; counts do.
func TestWhatIsNotKnownHasNoHeader(t *testing.T) {
	l := Letter{Reason: Undecodable, Outcome: Refused, Sequence: 1}
	want := map[string]string{
		HeaderReason: "undecodable", HeaderOutcome: "refused", HeaderAttempts: "0", HeaderSequence: "1", HeaderReplays: "0",
	}
	if got := l.Header(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := Read(getter(l.Header())); err != nil || got != l {
		t.Errorf("%+v, %v", got, err)
	}
}

// Every reason is a subject token, a label value and on the list in design order.
func TestReasonsAreTheClosedList(t *testing.T) {
	want := []string{
		"undecodable", "too_large", "subject_mismatch", "invalid_event_name", "invalid_identifier", "invalid_payload",
		"meter_event_no_customer_defined", "meter_event_invalid_value", "timestamp_too_far_in_past", "timestamp_in_future",
		"identifier_conflict", "rejected", "server_error", "unexpected_response", "ambiguous", "rejected_later", "panic",
	}
	var got []string
	for _, r := range Reasons() {
		got = append(got, string(r))
		if !r.Valid() || !regexp.MustCompile(`^[a-z_]+$`).MatchString(string(r)) {
			t.Errorf("%q is not valid", r)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for _, r := range []Reason{"", "Rejected", "rejected ", "unknown"} {
		if r.Valid() {
			t.Errorf("%q is valid", r)
		}
	}
}

// A reason that is declared and not on the list would be a metric without a label.
func TestEveryDeclaredReasonIsOnTheList(t *testing.T) {
	source, err := os.ReadFile("deadletter.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\t\w+\s+Reason = "`).FindAll(source, -1)
	if len(declared) != len(Reasons()) {
		t.Errorf("%d reasons are declared, %d are on the list", len(declared), len(Reasons()))
	}
}

func TestSubjects(t *testing.T) {
	tests := []struct{ subject, want string }{
		{"usage.events.api_calls.cus_1", "usage.dlq.rejected.api_calls"},
		{"usage.replay.api_calls.cus_1", "usage.dlq.rejected.api_calls"},
		{"usage.events.a=20b.cus=2E1", "usage.dlq.rejected.a=20b"},
		{"usage.events.api_calls", "usage.dlq.rejected._"},
		{"usage.events..cus_1", "usage.dlq.rejected._"},
		{"", "usage.dlq.rejected._"},
	}
	for _, test := range tests {
		l := full()
		l.Subject = test.subject
		if got := l.StreamSubject(); got != test.want {
			t.Errorf("%q is buried at %q, want %q", test.subject, got, test.want)
		}
		if r := ReasonOf(l.StreamSubject()); r != Rejected {
			t.Errorf("reason %q in %q", r, l.StreamSubject())
		}
	}
	for _, subject := range []string{"", "usage", "usage.dlq"} {
		if r := ReasonOf(subject); r != "" {
			t.Errorf("reason %q in %q", r, subject)
		}
	}
}

// Two letters for one message share an id; those of two messages, reasons or
// outboxes do not.
func TestMessageIDs(t *testing.T) {
	l := full()
	if id := l.MessageID("e1"); id != "dlq-e1-42-rejected" {
		t.Errorf("id %q", id)
	}
	same := Letter{Reason: l.Reason, Sequence: l.Sequence, Detail: "another day, another word"}
	if same.MessageID("e1") != l.MessageID("e1") {
		t.Error("two letters for one message have two ids")
	}
	ids := map[string]bool{}
	for _, epoch := range []string{"e1", "e2"} {
		for _, sequence := range []uint64{42, 43} {
			for _, reason := range []Reason{Rejected, Ambiguous} {
				ids[Letter{Reason: reason, Sequence: sequence}.MessageID(epoch)] = true
			}
		}
	}
	if len(ids) != 8 {
		t.Errorf("%d ids for eight letters", len(ids))
	}
}

// Headers are lines: whatever Stripe or a producer said, none of them ends early.
func TestHeadersHoldNoControlCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune{'a', 'é', '\r', '\n', 0, 0x1b, 0x7f, 0x85, 0x202e, utf8.RuneError}, unicode.Cc)).Draw(t, "text")
		text += string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		l := full()
		l.Detail, l.Code, l.RequestID, l.Subject, l.Identifier, l.Episode = text, text, text, text, text, text
		for name, value := range l.Header() {
			if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
				t.Fatalf("%s: %q", name, value)
			}
		}
		if _, err := Read(getter(l.Header())); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLongTextsAreCutBetweenCharacters(t *testing.T) {
	bounds := map[string]int{
		HeaderDetail: MaxDetail, HeaderCode: 128, HeaderRequestID: 128, HeaderSubject: 4096, HeaderIdentifier: 4096, HeaderEpisode: 64,
	}
	for _, long := range []string{strings.Repeat("x", 9000), strings.Repeat("é", 5000), "x" + strings.Repeat("é", 5000)} {
		l := full()
		l.Detail, l.Code, l.RequestID, l.Subject, l.Identifier, l.Episode = long, long, long, long, long, long
		header := l.Header()
		for name, bound := range bounds {
			value := header[name]
			if len(value) > bound || len(value) < bound-utf8.UTFMax || !utf8.ValidString(value) {
				t.Errorf("%s: %d bytes (valid: %t), want %d at most", name, len(value), utf8.ValidString(value), bound)
			}
		}
	}
}

func TestUnreadableHeadersAreNamed(t *testing.T) {
	tests := map[string]string{
		HeaderStatus: "abc", HeaderAttempts: "1e3", HeaderSequence: "18446744073709551616", HeaderTimestamp: "now", HeaderReplays: "0x1",
		HeaderFirstAttempt: "yesterday", HeaderLastAttempt: "2025-13-01T00:00:00Z", HeaderDeadAt: "1760612775", HeaderStoredAt: "2025-10-16",
		HeaderReason: "unheard_of",
	}
	h := full().Header()
	h[HeaderSequence] = "-1"
	if l, err := Read(getter(h)); err == nil {
		t.Errorf("sequence -1 was read as %d", l.Sequence)
	}
	for name, value := range tests {
		h := full().Header()
		h[name] = value
		if _, err := Read(getter(h)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %q was read: %v", name, value, err)
		}
	}
	if _, err := Read(getter(nil)); err == nil {
		t.Error("a message without headers was read")
	}
}

func TestBlocksComeBack(t *testing.T) {
	header := full().Header()
	block, err := Pack(header)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(block)
	if err != nil || !maps.Equal(got, header) {
		t.Errorf("%v, %v", got, err)
	}
	for _, block := range []string{"", "{", "[]", `{"a":1}`, "null", "{}x"} {
		if h, err := Unpack([]byte(block)); err == nil {
			t.Errorf("%q was unpacked as %v", block, h)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`{"Meterworker-Reason":"rejected"}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, block []byte) {
		header, err := Unpack(block)
		if err != nil {
			return
		}
		if !json.Valid(block) || header == nil {
			t.Fatalf("%q was unpacked as %v", block, header)
		}
		_, _ = Read(getter(header)) // whatever it says
	})
}
