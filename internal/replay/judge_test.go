package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// made is a letter as it is read back.
func made(l deadletter.Letter, text string) Letter {
	header := map[string][]string{"Nats-Msg-Id": {"dlq-e-5-" + string(l.Reason)}}
	for name, value := range l.Header() {
		header[name] = []string{value}
	}
	return newLetter(7, "e", l.StreamSubject(), header, []byte(text), l.DeadAt)
}

func TestJudge(t *testing.T) {
	now := time.Now()
	none, risk, hopeless := Permission{}, Permission{AcceptDoubleBilling: true}, Permission{Hopeless: true}
	with := func(reason deadletter.Reason, change func(*deadletter.Letter)) deadletter.Letter {
		l := letter(reason)
		change(&l)
		return l
	}
	later := func(outcome deadletter.Outcome, code string) deadletter.Letter {
		return with(deadletter.RejectedLater, func(l *deadletter.Letter) { l.Outcome, l.Code = outcome, code })
	}
	seconds := func(s int64) deadletter.Letter {
		return with(deadletter.Rejected, func(l *deadletter.Letter) { l.Timestamp = s })
	}
	limit := now.Add(-usage.MaxAge).Unix()
	tests := []struct {
		name       string
		letter     deadletter.Letter
		allowed    Permission
		refusal    string // a part of it; "" for none
		identifier string
	}{
		{"rejected", letter(deadletter.Rejected), none, "", "req-1"},
		{"server error of unknown outcome", with(deadletter.ServerError, func(l *deadletter.Letter) { l.Outcome = deadletter.Unknown }), none, "", "req-1"},
		{"ambiguous", letter(deadletter.Ambiguous), none, "--accept-double-billing", ""},
		{"ambiguous, everything but the risk allowed", letter(deadletter.Ambiguous), hopeless, "--accept-double-billing", ""},
		{"ambiguous, risk taken", letter(deadletter.Ambiguous), risk, "", "req-1"},
		{"35 days old to the second", seconds(limit), none, "", "req-1"},
		{"a second older", seconds(limit - 1), none, "older than 35 days", ""},
		{"a second older, everything allowed", seconds(limit - 1), Permission{true, true}, "older than 35 days", ""},
		{"timestamp of milliseconds", seconds(now.UnixMilli()), none, "", "req-1"},
		{"timestamp at the end of numbers", seconds(1<<63 - 1), none, "", "req-1"},
		{"timestamp at their beginning", seconds(-1 << 63), none, "older than 35 days", ""},
		{"no timestamp, stored 36 days ago", with(deadletter.Undecodable, func(l *deadletter.Letter) { l.Timestamp, l.StoredAt = 0, now.Add(-36*24*time.Hour) }), hopeless, "older than 35 days", ""},
		{"never an event", with(deadletter.Undecodable, func(l *deadletter.Letter) { l.Identifier, l.Timestamp = "", 0 }), none, "will die again with the reason undecodable", ""},
		{"never an event, named", with(deadletter.Undecodable, func(l *deadletter.Letter) { l.Identifier, l.Timestamp = "", 0 }), hopeless, "", ""},
		{"unknown subject", with(deadletter.Rejected, func(l *deadletter.Letter) { l.Subject = "" }), none, "subject", ""},
		{"subject of another kind", with(deadletter.Rejected, func(l *deadletter.Letter) { l.Subject = "usage.dlq.a.b" }), none, "subject", ""},
		{"subject with a wild card", with(deadletter.Rejected, func(l *deadletter.Letter) { l.Subject = "usage.events.a.>" }), none, "subject", ""},
		{"rejected later, not counted", later(deadletter.Refused, "no_meter"), none, "", "req-1~r1"},
		{"rejected later, another code", later(deadletter.Refused, "brand_new_code"), none, "--accept-double-billing", ""},
		{"rejected later, no code", later(deadletter.Refused, ""), none, "--accept-double-billing", ""},
		{"rejected later, outcome unknown", later(deadletter.Unknown, "no_meter"), none, "--accept-double-billing", ""},
		{"rejected later, risk taken", later(deadletter.Unknown, ""), risk, "", "req-1~r1"},
		{"rejected later, 255 characters in all", with(deadletter.RejectedLater, func(l *deadletter.Letter) {
			l.Code, l.Identifier = "no_meter", strings.Repeat("é", 252)
		}), none, "", strings.Repeat("é", 252) + "~r1"},
		{"rejected later, 256", with(deadletter.RejectedLater, func(l *deadletter.Letter) {
			l.Code, l.Identifier = "no_meter", strings.Repeat("é", 253)
		}), none, "more than 255 characters", ""},
		{"rejected later, no identifier", with(deadletter.RejectedLater, func(l *deadletter.Letter) {
			l.Code, l.Identifier = "no_meter", ""
		}), none, "identifier is not known", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, refusal := judge(made(tt.letter, body), tt.allowed, now)
			if (refusal == "") != (tt.refusal == "") || !strings.Contains(refusal, tt.refusal) {
				t.Fatalf("refusal %q, want %q", refusal, tt.refusal)
			}
			if refusal == "" && (p.identifier != tt.identifier || p.header[deadletter.HeaderIdentifier] != tt.identifier) {
				t.Errorf("identifier %q, header %q, want %q", p.identifier, p.header[deadletter.HeaderIdentifier], tt.identifier)
			}
		})
	}
}

func TestJudgeRefusesUnreadableHeaders(t *testing.T) {
	l := made(letter(deadletter.Rejected), body)
	header := maps.Clone(l.Header)
	header[deadletter.HeaderReplays] = []string{"many"}
	l = newLetter(7, "e", "usage.dlq.rejected.api_calls", header, l.Body, l.BuriedAt)
	if _, refusal := judge(l, Permission{true, true}, time.Now()); !strings.Contains(refusal, "Meterworker-Replays") {
		t.Errorf("refusal %q does not name the header", refusal)
	}
}

func TestRenamed(t *testing.T) {
	tests := []struct {
		identifier string
		replays    int
		want       string
	}{
		{"a", 0, "a~r1"},
		{"a", 4, "a~r5"},
		{"a~r1", 1, "a~r2"},
		{"a~r9", 12, "a~r13"},
		{"a~r1", 0, "a~r1~r1"},                   // the producer's own: "a" is another event
		{"a~r5", 2, "a~r5~r3"},                   // no replay of this event was the fifth
		{"a~r0", 3, "a~r0~r4"},                   // never written by us
		{"a~r01", 3, "a~r01~r4"},                 // never written by us
		{"a~r1b", 3, "a~r1b~r4"},                 // not at the end
		{"~r1", 1, "~r2"},                        // an odd name all the same
		{"a~r1~r2", 3, "a~r1~r4"},                // one suffix is replaced
		{"a~r9999999999", 3, "a~r9999999999~r4"}, // out of range
	}
	for _, tt := range tests {
		if got := renamed(tt.identifier, tt.replays); got != tt.want {
			t.Errorf("renamed(%q, %d) = %q, want %q", tt.identifier, tt.replays, got, tt.want)
		}
	}
}

// Only what was not known to be refused is forgiven.
func TestAcceptHeader(t *testing.T) {
	tests := []struct {
		reason  deadletter.Reason
		outcome deadletter.Outcome
		accept  bool
		want    string
	}{
		{deadletter.ServerError, deadletter.Unknown, false, ""},
		{deadletter.ServerError, deadletter.Unknown, true, "true"},
		{deadletter.ServerError, "", true, "true"},
		{deadletter.Rejected, deadletter.Refused, true, ""},
		{deadletter.Ambiguous, deadletter.Refused, true, "true"},
	}
	for _, tt := range tests {
		l := letter(tt.reason)
		l.Outcome = tt.outcome
		p, refusal := judge(made(l, body), Permission{AcceptDoubleBilling: tt.accept}, time.Now())
		if got := p.header[deadletter.HeaderAcceptDoubleBilling]; got != tt.want || refusal != "" {
			t.Errorf("%s, %q, %v: header %q, %q, want %q", tt.reason, tt.outcome, tt.accept, got, refusal, tt.want)
		}
	}
}

// Undated usage that only this version can read is not dated by its replay.
func TestReplayDatesWhatTheWorkerCouldNotRead(t *testing.T) {
	l := letter(deadletter.Undecodable)
	l.Identifier, l.Timestamp = "", 0
	if got, want := timestampOf(made(l, body)), l.StoredAt.Unix(); got != want {
		t.Errorf("readable body: timestamp %d, want that of the storing, %d", got, want)
	}
	if got := timestampOf(made(l, "{")); got != 0 {
		t.Errorf("unreadable body: timestamp %d, want none", got)
	}
}

func TestLineage(t *testing.T) {
	tests := map[string]string{
		"dlq-e-5-rejected": "7 dlq-e-5-rejected", "": "7", "a b": "7", "a\x1b[2J": "7", "ä": "7", strings.Repeat("a", 257): "7",
	}
	for id, want := range tests {
		if got := lineage(Letter{ID: 7, Header: map[string][]string{"Nats-Msg-Id": {id}}}); got != want {
			t.Errorf("message id %q: %q, want %q", id, got, want)
		}
	}
}

// A reason that is added needs advice, and a decision whether a replay is hopeless.
func TestEveryReasonHasAdvice(t *testing.T) {
	for _, reason := range deadletter.Reasons() {
		l := Letter{Letter: deadletter.Letter{Reason: reason}}
		if !strings.HasSuffix(l.Advice(), ".") {
			t.Errorf("%s: advice %q", reason, l.Advice())
		}
		diesAgain := strings.Contains(l.Advice(), "dies again")
		if diesAgain != slices.Contains(hopeless, reason) {
			t.Errorf("%s: advice and rule differ on whether it dies again", reason)
		}
	}
	if len(advice) != len(deadletter.Reasons()) {
		t.Errorf("%d pieces of advice for %d reasons", len(advice), len(deadletter.Reasons()))
	}
}

func TestGlimpse(t *testing.T) {
	const subject = "usage.events.api=2Ecalls.cus=201"
	tests := []struct{ name, body, subject, event, customer, value string }{
		{"all in the body", `{"event_name":"n","payload":{"stripe_customer_id":"c","value":3}}`, subject, "n", "c", "3"},
		{"value as text", `{"event_name":"n","payload":{"stripe_customer_id":"c","value":" 1"}}`, subject, "n", "c", " 1"},
		{"huge value", `{"payload":{"value":1e309}}`, subject, "api.calls", "cus 1", "1e309"},
		{"no JSON", `garbage`, subject, "api.calls", "cus 1", ""},
		{"empty", ``, subject, "api.calls", "cus 1", ""},
		{"other types", `{"event_name":[1],"payload":{"stripe_customer_id":{},"value":true}}`, subject, "api.calls", "cus 1", ""},
		{"payload of another type", `{"event_name":"n","payload":7}`, subject, "n", "cus 1", ""},
		{"subject not encoded our way", `{}`, "usage.events.=zz.a=41", "=zz", "a=41", ""},
		{"no subject", `{}`, "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := glimpseOf([]byte(tt.body), tt.subject), (glimpse{tt.event, tt.customer, tt.value}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestExpiresAt(t *testing.T) {
	stored := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	tests := []struct {
		name      string
		timestamp int64
		stored    time.Time
		want      time.Time
	}{
		{"by its timestamp", 1_760_612_775, stored, time.Unix(1_760_612_775, 0).UTC().Add(35 * 24 * time.Hour)},
		{"by when it was stored", 0, stored, stored.Truncate(time.Second).Add(35 * 24 * time.Hour)},
		{"not known", 0, time.Time{}, time.Time{}},
		{"out of range", 1<<63 - 1, stored, time.Time{}},
	}
	for _, tt := range tests {
		l := Letter{Letter: deadletter.Letter{Timestamp: tt.timestamp, StoredAt: tt.stored}}
		if got := l.ExpiresAt(); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
