package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

func TestConsoleReplaysOne(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	c := o.console()
	r := c.deed("/dead-letters/1/replay", url.Values{"actor": {"ann"}, "why": {"mended"}}, nil)
	if r.Done != 1 || r.count("replayed") != 1 || r.Letters[0].ID != 1 || !strings.Contains(r.Letters[0].Detail, "sequence=1 identifier=req-1") {
		t.Errorf("run %+v", r)
	}
	o.holds(1, 0)
	intent, result := c.checkTrail(audit.Replay, "mended")
	if intent.Letters[0].Before != "req-1" || result.Letters[0].Outcome != "replayed" || result.Letters[0].Published != 1 {
		t.Errorf("records %+v %+v", intent, result)
	}
	r = c.deed("/dead-letters/1/replay", nil, nil) // twice
	if r.count("not_found") != 1 || r.State != "done" {
		t.Errorf("again: %+v", r)
	}
	o.holds(1, 0)
	c.must("GET", "/dead-letters/1", nil, 404)
}

// What may be counted needs the acceptance, as with the command.
func TestConsoleRefusesAmbiguous(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Ambiguous), eventBody)
	c := o.console()
	if page := c.must("GET", "/dead-letters/1", nil, 200); !strings.Contains(page, `name="accept_double_billing"`) || strings.Contains(page, "--accept-double-billing if") {
		t.Errorf("page %s", page)
	}
	r := c.deed("/dead-letters/1/replay", nil, nil)
	if r.count("refused") != 1 || !strings.Contains(r.Letters[0].Detail, "Stripe may have counted it") || strings.Contains(r.Letters[0].Detail, "--") {
		t.Errorf("run %+v", r)
	}
	o.holds(0, 1)
	if n := len(o.trail()); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
	c.deed("/dead-letters/1/replay", url.Values{"accept_double_billing": {"true"}, "actor": {"ann"}}, nil)
	o.holds(1, 0)
	if o.message(1).Header.Get(deadletter.HeaderAcceptDoubleBilling) != "true" {
		t.Error("the replay forgives nothing")
	}
	if intent, _ := c.checkTrail(audit.Replay, ""); !slices.Contains(intent.Command, "accept_double_billing") {
		t.Errorf("command %q", intent.Command)
	}
}

func TestConsoleEdits(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.InvalidValue), strings.Replace(eventBody, "3}", `"3.5","note":"a\u202eb"}`, 1))
	c := o.console()
	page := c.must("GET", "/dead-letters/1/edit", nil, 200)
	for _, want := range []string{`name="field.payload.value"`, `name="field.payload.stripe_customer_id"`, `name="field.timestamp"`, `name="field.event_name"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
	if strings.Contains(page, "field.payload.note") { // a form would change what it shows as an escape
		t.Error("the form has a field with something invisible in it")
	}
	digest := regexp.MustCompile(`name="digest" value="([0-9a-f]{64})"`).FindStringSubmatch(page)
	if digest == nil {
		t.Fatal("the form has no digest")
	}
	form := url.Values{
		"with": {"fields"}, "digest": {digest[1]}, "field.event_name": {"api_calls"}, "field.timestamp": {""},
		"field.payload.stripe_customer_id": {"cus_1"}, "field.payload.value": {"4.5"},
	}
	if page := c.must("POST", "/dead-letters/1/edit", form, 422); !strings.Contains(page, "would die again") || !strings.Contains(page, `value="4.5"`) {
		t.Errorf("a wrong value: %s", page)
	}
	form.Set("field.payload.value", "4")
	preview := c.must("POST", "/dead-letters/1/edit", form, 200)
	if !strings.Contains(preview, "payload.value") || strings.Contains(preview, "payload.note") {
		t.Errorf("preview %s", preview)
	}
	o.holds(0, 1)
	hidden := regexp.MustCompile(`name="body" value="([^"]*)"`).FindStringSubmatch(preview)
	if hidden == nil {
		t.Fatal("the preview has no body")
	}
	confirm := url.Values{"with": {"body"}, "confirm": {"true"}, "digest": {digest[1]}, "actor": {"ann"}, "why": {"half a call"}}
	confirm.Set("body", strings.NewReplacer("&#34;", `"`, "&amp;", "&").Replace(hidden[1]))
	r := c.deed("/dead-letters/1/edit", confirm, nil)
	if r.count("replayed") != 1 {
		t.Errorf("run %+v", r)
	}
	o.holds(1, 0)
	var body struct {
		Payload map[string]any `json:"payload"`
	}
	if err := json.Unmarshal(o.message(1).Data, &body); err != nil || body.Payload["value"] != 4.0 || body.Payload["note"] != "a\u202eb" {
		t.Errorf("stored %s, %v", o.message(1).Data, err)
	}
	intent, result := c.checkTrail(audit.Edit, "half a call")
	if intent.Changes["payload.value"] != (audit.Change{From: `"3.5"`, To: "4"}) || len(intent.Changes) != 1 || result.Letters[0].Published != 1 {
		t.Errorf("records %+v %+v", intent, result)
	}
}

// An edit of a letter that is another one by now is refused, and so is a changed identifier.
func TestConsoleRefusesEdits(t *testing.T) {
	o := newTestOutbox(t)
	o.bury(deadLetter(deadletter.Rejected), eventBody)
	unknown := deadLetter(deadletter.ServerError)
	unknown.Outcome = deadletter.Unknown
	o.bury(unknown, eventBody)
	c := o.console()
	changed := strings.Replace(eventBody, "3}", "4}", 1)
	for _, tt := range []struct {
		id   int
		form url.Values
		want string
	}{
		{1, url.Values{"body": {changed}, "digest": {"0"}}, "is another one now"},
		{1, url.Values{"body": {strings.Replace(eventBody, "req-1", "req-2", 1)}}, "not for editing"},
		{1, url.Values{"body": {eventBody}}, "nothing was changed; to publish it as it is, replay it"},
		{1, url.Values{"body": {"no JSON"}}, "would die again"},
		{2, url.Values{"body": {changed}}, "accepting that the customer may be billed twice"},
	} {
		tt.form.Set("with", "body")
		tt.form.Set("confirm", "true")
		if page := c.must("POST", fmt.Sprintf("/dead-letters/%d/edit", tt.id), tt.form, 422); !strings.Contains(page, tt.want) {
			t.Errorf("%v lacks %q: %s", tt.form, tt.want, page)
		}
	}
	o.holds(0, 2)
	if n := len(o.trail()); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
	c.deed("/dead-letters/2/edit", url.Values{"with": {"body"}, "confirm": {"true"}, "body": {changed}, "accept_double_billing": {"true"}}, nil)
	if got := o.message(1).Header.Get(deadletter.HeaderIdentifier); got != "req-1~r1" {
		t.Errorf("billed as %q", got)
	}
}

func TestConsolePausesAndResumes(t *testing.T) {
	o := newTestOutbox(t)
	c := o.console()
	c.must("POST", "/pause", url.Values{"why": {"an invoice run"}, "actor": {"ann"}}, 303)
	if got := o.orders(); !got.Paused || got.Why != "an invoice run" || got.By != "ann" {
		t.Errorf("orders %+v", got)
	}
	c.checkTrail(audit.Pause, "an invoice run")
	if page := c.must("GET", "/?fresh=1", nil, 200); !strings.Contains(page, "an invoice run") || !strings.Contains(page, `action="/resume"`) {
		t.Errorf("page %s", page)
	}
	c.must("POST", "/resume", url.Values{"actor": {"ann"}}, 303)
	if got := o.orders(); got.Paused || got.Resumed != 1 {
		t.Errorf("orders %+v", got)
	}
	c.checkTrail(audit.Resume, "")
}

// The case file has what happened, what people did about this letter, and no more.
func TestConsoleCaseFile(t *testing.T) {
	o := newTestOutbox(t)
	l := deadLetter(deadletter.ServerError)
	l.Outcome, l.Attempts, l.Status, l.RequestID, l.Detail = deadletter.Unknown, 3, 503, "req_stripe", "it failed \x1b[31m<b>"
	l.FirstAttempt, l.LastAttempt, l.StoredAt = l.DeadAt.Add(-time.Hour), l.DeadAt, l.StoredAt.Add(-time.Hour)
	o.bury(l, eventBody)
	o.bury(deadLetter(deadletter.Undecodable), "\xff<script>")
	trail, err := audit.Open(t.Context(), o.js)
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(3) {
		run := trail.Begin(audit.Edit, audit.Who{Actor: fmt.Sprintf("person-%d", id+1)}, "looked into it", nil)
		if err := run.Intent(t.Context(), audit.Record{Letters: []audit.Letter{{ID: id + 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	c := o.console()
	page := c.must("GET", "/dead-letters/1", nil, 200)
	for _, want := range []string{
		"server_error", "req_stripe", "503", `it failed`, "&lt;b&gt;", "Yes, nobody can tell", "a replay cannot count twice", "person-1", "looked into it",
		"Meterworker-Reason", `action="/dead-letters/1/replay"`, `href="/dead-letters/1/edit"`, "meterworker dlq replay 1 --wait 30s", "&#34;value&#34;: 3",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the case file lacks %q", want)
		}
	}
	for _, stray := range []string{"person-2", "person-3", "\x1b", "<b>"} {
		if strings.Contains(page, stray) {
			t.Errorf("the case file has %q", stray)
		}
	}
	if page := c.must("GET", "/dead-letters/2", nil, 200); !strings.Contains(page, "|.&lt;script&gt;|") {
		t.Errorf("what is no text is no hex dump: %s", page)
	}
	c.must("GET", "/dead-letters/3", nil, 404)
	c.must("GET", "/dead-letters/x", nil, 404)
	c.must("GET", "/dead-letters/18446744073709551616", nil, 404)
}

// A form offers what it gives back as it was, and nothing else.
func TestWhatTheFormOffers(t *testing.T) {
	for _, tt := range []struct {
		name, body, text string
		fields           []string
	}{
		{"event", `{"event_name":"a","payload":{"z":"1","stripe_customer_id":"c","value":3}}`, "\"event_name\": \"a\"", []string{"event_name=a", "timestamp=", "payload.stripe_customer_id=c", "payload.value=3", "payload.z=1"}},
		{"empty object", `{}`, "{}", []string{"event_name=", "timestamp=", "payload.stripe_customer_id=", "payload.value="}},
		{"other types", `{"event_name":{"a":1},"timestamp":true,"payload":[1]}`, "true", []string{"payload.stripe_customer_id=", "payload.value="}},
		{"large number", `{"payload":{"value":9007199254740993}}`, "9007199254740993", []string{"event_name=", "timestamp=", "payload.stripe_customer_id=", "payload.value=9007199254740993"}},
		{"line break in a field", `{"payload":{"value":"1\n2","note\u202e":"x"}}`, `"1\n2"`, []string{"event_name=", "timestamp=", "payload.stripe_customer_id="}},
		{"trailing data", `{"event_name":"a"} x`, `{"event_name":"a"} x`, nil},
		{"array", `[1]`, "1", nil},
		{"null", `null`, "null", nil},
		{"text", "a,b\n1,2", "a,b\n1,2", nil},
		{"text with carriage returns", "a\r\nb", "", nil},
		{"no text", "\xff\x00", "", nil},
		{"empty", "", "", nil},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "", nil},
	} {
		var c console.Case
		l := replay.Letter{Body: []byte(tt.body)}
		l.Identifier = "known"
		addEditable(&c, l)
		var fields []string
		for _, field := range c.Fields {
			fields = append(fields, field.Name+"="+field.Value)
		}
		if !slices.Equal(fields, tt.fields) || tt.text == "" && c.Editable != "" || !strings.Contains(c.Editable, tt.text) {
			t.Errorf("%s: %q, %q", tt.name, c.Editable, fields)
		}
	}
	var c console.Case
	addEditable(&c, replay.Letter{Body: []byte(`{"identifier":"x y"}`)})
	if len(c.Fields) == 0 || c.Fields[0].Name != "identifier" {
		t.Errorf("without an identifier: %+v", c.Fields)
	}
}
