package replay

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// fixed is the body with another value.
const fixed = `{"event_name":"api_calls","identifier":"req-1","payload":{"stripe_customer_id":"cus_1","value":5}}`

func TestRevise(t *testing.T) {
	now := time.Now()
	none, risk := Permission{}, Permission{AcceptDoubleBilling: true}
	with := func(reason deadletter.Reason, change func(*deadletter.Letter)) deadletter.Letter {
		l := letter(reason)
		change(&l)
		return l
	}
	same := func(*deadletter.Letter) {}
	unknown := func(l *deadletter.Letter) { l.Outcome = deadletter.Unknown }
	code := func(code string) func(*deadletter.Letter) { return func(l *deadletter.Letter) { l.Code = code } }
	inForce := func(l *deadletter.Letter) { l.Code, l.Identifier, l.Replays = "no_meter", "req-1~r1", 1 }
	nameless := func(l *deadletter.Letter) { l.Identifier, l.Timestamp = "", 0 }
	tests := []struct {
		name       string
		letter     deadletter.Letter
		body       string
		allowed    Permission
		refusal    string // a part of it; "" for none
		identifier string
	}{
		{"refused: the identifier is free", with(deadletter.Rejected, same), fixed, none, "", "req-1"},
		{"never sent", with(deadletter.InvalidValue, same), fixed, none, "", "req-1"},
		{"unknown outcome", with(deadletter.ServerError, unknown), fixed, none, "--accept-double-billing", ""},
		{"unknown outcome, risk taken", with(deadletter.ServerError, unknown), fixed, risk, "", "req-1~r1"},
		{"outcome not known at all", with(deadletter.Rejected, func(l *deadletter.Letter) { l.Outcome = "" }), fixed, none, "--accept-double-billing", ""},
		{"refused now, sent before", with(deadletter.Rejected, unknown), fixed, risk, "", "req-1~r1"},
		{"ambiguous", with(deadletter.Ambiguous, same), fixed, none, "--accept-double-billing", ""},
		{"ambiguous, risk taken", with(deadletter.Ambiguous, unknown), fixed, risk, "", "req-1~r1"},
		{"rejected later, not counted", with(deadletter.RejectedLater, code("no_meter")), fixed, none, "", "req-1~r1"},
		{"rejected later, another code", with(deadletter.RejectedLater, code("new")), fixed, none, "--accept-double-billing", ""},
		{"rejected later, another code, risk taken", with(deadletter.RejectedLater, code("new")), fixed, risk, "", "req-1~r1"},
		{"conflict", with(deadletter.IdentifierConflict, same), fixed, none, "", "req-1~r1"},
		{"conflict, as it is", with(deadletter.IdentifierConflict, same), body, none, "", "req-1~r1"},
		{"conflict of unknown outcome", with(deadletter.IdentifierConflict, unknown), fixed, none, "--accept-double-billing", ""},
		{"third time", with(deadletter.RejectedLater, func(l *deadletter.Letter) { l.Code, l.Identifier, l.Replays = "no_meter", "req-1~r2", 2 }), fixed, none, "", "req-1~r3"},
		{"new identifier too long", with(deadletter.IdentifierConflict, func(l *deadletter.Letter) { l.Identifier = strings.Repeat("é", 253) }), fixed, none, "more than 255 characters", ""},
		{"nothing changed", with(deadletter.Rejected, same), body, none, "nothing was changed", ""},
		{"only spaces changed", with(deadletter.Rejected, same), strings.ReplaceAll(body, ",", ", \n"), none, "nothing was changed", ""},
		{"identifier changed by hand", with(deadletter.Rejected, same), strings.ReplaceAll(fixed, "req-1", "req-2"), none, "not for editing", ""},
		{"identifier taken out", with(deadletter.Rejected, same), strings.Replace(fixed, `"identifier":"req-1",`, "", 1), none, "not for editing", ""},
		{"identifier set to the one in force", with(deadletter.RejectedLater, inForce), strings.ReplaceAll(fixed, "req-1", "req-1~r1"), none, "", "req-1~r2"},
		{"no identifier was known, the body has one", with(deadletter.Undecodable, nameless), fixed, none, "", "req-1"},
		{"no identifier was known, nor is one", with(deadletter.Undecodable, nameless), strings.Replace(fixed, `"identifier":"req-1",`, "", 1), none, "", "mw-e-1"},
		{"no identifier, of unknown outcome", with(deadletter.Panic, func(l *deadletter.Letter) { nameless(l); unknown(l) }), fixed, risk, "identifier is not known", ""},
		{"dies again", with(deadletter.Rejected, same), strings.Replace(fixed, "5", `"5.5"`, 1), none, "would die again: meter_event_invalid_value", ""},
		{"no event", with(deadletter.Undecodable, nameless), "garbage", none, "would die again: undecodable", ""},
		{"no customer", with(deadletter.Undecodable, nameless), `{"event_name":"a","identifier":"x","payload":{"value":1}}`, none, "would die again: meter_event_no_customer_defined", ""},
		{"older than 35 days", with(deadletter.TimestampTooFarInPast, func(l *deadletter.Letter) { l.Timestamp = now.Add(-36 * 24 * time.Hour).Unix() }), fixed, none, "timestamp_too_far_in_past", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.letter.Sequence = 1
			r, refusal := Revise(made(tt.letter, body), []byte(tt.body), tt.allowed, now)
			if (refusal == "") != (tt.refusal == "") || !strings.Contains(refusal, tt.refusal) {
				t.Fatalf("refusal %q, want %q", refusal, tt.refusal)
			}
			if refusal == "" && (r.Identifier != tt.identifier || r.plan.header[deadletter.HeaderIdentifier] != tt.identifier) {
				t.Errorf("identifier %q, header %q, want %q", r.Identifier, r.plan.header[deadletter.HeaderIdentifier], tt.identifier)
			}
		})
	}
}

// The date is the one that was resolved, unless the person has set another.
func TestReviseDates(t *testing.T) {
	now := time.Now()
	l := letter(deadletter.Rejected)
	dated := func(seconds int64) string {
		return strings.Replace(fixed, `"identifier"`, `"timestamp":`+strconv.FormatInt(seconds, 10)+`,"identifier"`, 1)
	}
	ago := now.Unix() - 3600
	for _, tt := range []struct {
		name, before, after string
		want                int64
	}{
		{"undated stays as resolved", body, fixed, l.Timestamp},
		{"dated, and left alone", dated(ago), strings.Replace(dated(ago), "5}", "6}", 1), l.Timestamp}, // a replay's header had won
		{"set by hand", body, dated(ago), ago},
		{"changed by hand", dated(ago - 5), dated(ago), ago},
	} {
		r, refusal := Revise(made(l, tt.before), []byte(tt.after), Permission{}, now)
		if refusal != "" || r.Timestamp != tt.want || r.plan.header[deadletter.HeaderTimestamp] != strconv.FormatInt(tt.want, 10) {
			t.Errorf("%s: %d, %q, %s; want %d", tt.name, r.Timestamp, r.plan.header, refusal, tt.want)
		}
	}
}

// An edit is stored like a replay, on the subject of what it says now, with our headers and
// no other; and only then the letter goes.
func TestPublishEdit(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.SubjectMismatch), body, [2]string{"Nats-Smuggled", "all"}, [2]string{"X", "1"})
	l, err := b.letters.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	moved := `{"event_name":"api calls","identifier":"req-1","payload":{"stripe_customer_id":"cus_2","value":5}}`
	r, refusal := Revise(l, []byte(moved), Permission{}, time.Now())
	if refusal != "" {
		t.Fatal(refusal)
	}
	got := b.letters.Publish(t.Context(), r)
	if got.Outcome != Replayed || got.Identifier != "req-1" {
		t.Fatalf("result %+v", got)
	}
	m := b.message(got.Sequence)
	if !strings.HasSuffix(m.Subject, ".replay.api=20calls.cus_2") || string(m.Data) != moved {
		t.Errorf("stored %q, %q", m.Subject, m.Data)
	}
	names := slices.Sorted(maps.Keys(m.Header))
	if want := []string{"Meterworker-Identifier", "Meterworker-Replay-Of", "Meterworker-Replays", "Meterworker-Timestamp", "Nats-Msg-Id"}; !slices.Equal(names, want) {
		t.Errorf("headers %q, want %q", names, want)
	}
	if dead := b.stored(outbox.DLQStream); dead != 0 {
		t.Errorf("%d letters left", dead)
	}
	if again := b.letters.Publish(t.Context(), r); again.Outcome != Failed || b.stored(outbox.UsageStream) != 1 {
		t.Errorf("again: %+v", again)
	}
}

// A replay and an edit at once, or two edits: one is stored, and the other's letter is not
// taken for its own.
func TestEditAndReplayAtOnce(t *testing.T) {
	b := newBench(t)
	id := b.bury(letter(deadletter.Rejected), body)
	l, err := b.letters.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	r, refusal := Revise(l, []byte(fixed), Permission{}, time.Now())
	if refusal != "" {
		t.Fatal(refusal)
	}
	p, _ := b.letters.prepare(t.Context(), id, Permission{}, time.Now())
	if _, err := b.letters.publish(t.Context(), p); err != nil { // a replay that died before it deleted
		t.Fatal(err)
	}
	if got := b.letters.Publish(t.Context(), r); got.Outcome != Failed || !strings.Contains(got.Detail, "another message") {
		t.Errorf("result %+v", got)
	}
	if usage, dead := b.stored(outbox.UsageStream), b.stored(outbox.DLQStream); usage != 1 || dead != 1 {
		t.Errorf("%d messages and %d letters, want 1 and 1", usage, dead)
	}
}

func TestEditKeepsTheLetterWhenTheOutboxRefuses(t *testing.T) {
	b := newBench(t)
	l, err := b.letters.Get(t.Context(), b.bury(letter(deadletter.Rejected), body))
	if err != nil {
		t.Fatal(err)
	}
	config := b.letters.usage.CachedInfo().Config
	config.MaxMsgSize = 10
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	r, refusal := Revise(l, []byte(fixed), Permission{}, time.Now())
	if got := b.letters.Publish(t.Context(), r); refusal != "" || got.Outcome != Failed || b.stored(outbox.DLQStream) != 1 {
		t.Errorf("result %+v, %s", got, refusal)
	}
}

// While a person edits, the stream may be lost and made anew: its numbers begin again, and
// name other letters.
func TestEditOfALetterThatIsAnotherNow(t *testing.T) {
	b := newBench(t)
	l, err := b.letters.Get(t.Context(), b.bury(letter(deadletter.Rejected), body))
	if err != nil {
		t.Fatal(err)
	}
	r, refusal := Revise(l, []byte(fixed), Permission{}, time.Now())
	if refusal != "" {
		t.Fatal(refusal)
	}
	if err := b.js.DeleteStream(t.Context(), outbox.DLQStream); err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Open(t.Context(), b.js, outbox.Settings{Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	b.bury(letter(deadletter.Rejected), fixed)
	if got := b.letters.Publish(t.Context(), r); got.Outcome != Failed || !strings.Contains(got.Detail, "another one now") || b.stored(outbox.UsageStream) != 0 {
		t.Errorf("result %+v", got)
	}
}

func TestAssign(t *testing.T) {
	tests := []struct {
		body       string
		set, unset []string
		want       string // or a part of the error
	}{
		{body, []string{"payload.value=7"}, nil, `{"event_name":"api_calls","identifier":"req-1","payload":{"stripe_customer_id":"cus_1","value":7}}`},
		{`{"a":1e400}`, []string{"timestamp=1760612775"}, nil, `{"a":1e400,"timestamp":1760612775}`},
		{`{}`, []string{"timestamp=2026-01-02T03:04:05Z", "event_name=<a>"}, nil, `{"event_name":"<a>","timestamp":"2026-01-02T03:04:05Z"}`},
		{`{}`, []string{"payload.region=5", "payload.value=-5"}, nil, `{"payload":{"region":"5","value":-5}}`},
		{`{}`, []string{"payload.value=05"}, nil, `{"payload":{"value":"05"}}`},
		{`{}`, []string{"payload.value="}, nil, `{"payload":{"value":""}}`},
		{`{}`, []string{"payload.a.b=c=d"}, nil, `{"payload":{"a.b":"c=d"}}`},
		{`{"payload":{"a":1,"b":2}}`, nil, []string{"payload.a"}, `{"payload":{"b":2}}`},
		{"garbage", []string{"event_name=x"}, nil, `{"event_name":"x"}`},
		{`{"payload":7}`, []string{"payload.value=1"}, nil, `{"payload":{"value":1}}`},
		{body, []string{"value=1"}, nil, `"value" is no field`},
		{body, []string{"payload.=1"}, nil, `"payload." is no field`},
		{body, []string{"payload.value"}, nil, "is no assignment"},
		{body, nil, []string{"payload.nope"}, "there is no payload.nope"},
	}
	for _, tt := range tests {
		got, err := Assign([]byte(tt.body), tt.set, tt.unset)
		if text := string(got); err != nil && !strings.Contains(err.Error(), tt.want) || err == nil && text != tt.want {
			t.Errorf("%s, %q, %q: %s, %v; want %s", tt.body, tt.set, tt.unset, text, err, tt.want)
		}
	}
}

func TestChanges(t *testing.T) {
	want := []Change{{"event_name", `"a"`, ""}, {"payload.value", "1", `"1"`}, {"x", "", `{"y":1}`}}
	got := Changes([]byte(`{"event_name":"a","payload":{"value":1,"z":1}}`), []byte(`{"payload":{"z":1,"value":"1"},"x":{"y":1}}`))
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Changes([]byte("raw"), []byte("{}")); !slices.Equal(got, []Change{{"body", "raw", ""}}) {
		t.Errorf("%+v", got)
	}
}
