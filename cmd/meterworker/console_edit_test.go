package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/deadletter"
)

// An edit that changes nothing is none, in whatever form it comes: it would be published
// under another identifier, or with its keys in another order.
func TestConsoleRefusesEmptyEdits(t *testing.T) {
	o := newTestOutbox(t)
	body := `{"identifier":"req-1","event_name":"api_calls","payload":{"value":3,"stripe_customer_id":"cus_1","a=b":"1","note":"\u00e9"}}`
	o.bury(deadLetter(deadletter.Rejected), body)
	o.bury(deadLetter(deadletter.Ambiguous), body)
	o.bury(deadLetter(deadletter.IdentifierConflict), body)
	c := o.console()
	escaped := strings.Replace(body, `\u00e9`, "é", 1)
	for _, tt := range []struct {
		id   int
		form url.Values
		want string
	}{
		{1, url.Values{}, "nothing was changed; to publish it as it is, replay it"},
		{1, url.Values{"with": {"fields"}, "field.event_name": {"api_calls"}}, "nothing was changed"},
		{1, url.Values{"with": {"body"}, "body": {" " + body + "\r\n"}}, "nothing was changed"},
		{1, url.Values{"with": {"body"}, "body": {escaped}}, "nothing was changed"},
		{2, url.Values{"with": {"fields"}, "field.payload.value": {"3"}}, "nothing was changed"},
		{2, url.Values{"with": {"body"}, "body": {body}}, "nothing was changed"},
		{3, url.Values{"with": {"fields"}}, "send the whole body"},
		{1, url.Values{"with": {"fields"}, "field.payload.a=b": {"2"}}, "payload.a=b has a = in its name; edit it in the whole body"},
		{1, url.Values{"with": {"fields"}, "new_name": {"c=d"}, "new_value": {"2"}}, "payload.c=d has a = in its name; edit it in the whole body"},
	} {
		tt.form.Set("confirm", "true")
		tt.form.Set("accept_double_billing", "true")
		if page := c.must("POST", fmt.Sprintf("/dead-letters/%d/edit", tt.id), tt.form, 422); !strings.Contains(page, tt.want) {
			t.Errorf("%d %v lacks %q: %s", tt.id, tt.form, tt.want, page)
		}
	}
	o.holds(0, 3)
	// The new identifier is what this one needs.
	c.deed("/dead-letters/3/edit", url.Values{"with": {"body"}, "confirm": {"true"}, "body": {body}}, nil)
	c.deed("/dead-letters/1/edit", url.Values{"with": {"body"}, "confirm": {"true"}, "body": {strings.Replace(body, `"a=b":"1"`, `"a=b":"2"`, 1)}}, nil)
	o.holds(2, 1)
	if got := o.message(1).Header.Get(deadletter.HeaderIdentifier); got != "req-1~r1" {
		t.Errorf("billed as %q", got)
	}
}

// A form has one value for a key: of a body with two, it would choose.
func TestConsoleBodyWithAKeyTwice(t *testing.T) {
	o := newTestOutbox(t)
	twice := strings.Replace(eventBody, `"value":3`, `"value":1000,"value":3`, 1)
	o.bury(deadLetter(deadletter.Undecodable), twice)
	c := o.console()
	page := c.must("GET", "/dead-letters/1/edit", nil, 200)
	if strings.Contains(page, `name="field.`) || !strings.Contains(page, "stands twice in the body") || !strings.Contains(page, "1000") {
		t.Errorf("page %s", page)
	}
	form := url.Values{"with": {"fields"}, "confirm": {"true"}, "new_name": {"note"}, "new_value": {"x"}}
	if page := c.must("POST", "/dead-letters/1/edit", form, 422); !strings.Contains(page, "stands twice in the body") {
		t.Errorf("fields: %s", page)
	}
	c.must("POST", "/dead-letters/1/edit", url.Values{"with": {"body"}, "confirm": {"true"}, "body": {twice}}, 422)
	o.holds(0, 1)
	preview := c.must("POST", "/dead-letters/1/edit", url.Values{"with": {"body"}, "body": {eventBody}}, 200)
	if !strings.Contains(preview, "<del>") || !strings.Contains(preview, "1000") {
		t.Errorf("the preview hides what changes: %s", preview)
	}
	c.deed("/dead-letters/1/edit", url.Values{"with": {"body"}, "confirm": {"true"}, "body": {eventBody}}, nil)
	o.holds(1, 0)
}

func TestConsoleRepeatedKeys(t *testing.T) {
	for _, tt := range []struct {
		body, key string
		twice     bool
	}{
		{`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`, "", false},
		{`{"a":1,"b":2,"a":1}`, "a", true},
		{`{"a":{"x":1},"b":[1e999,{"y":1,"y":2}]}`, "y", true},
		{`{"a":1,"\u0061":2}`, "a", true},
		{`{"a":1,"A":2}`, "", false},
		{`{"":1,"":2}`, "", true},
		{`[1,"a","a"]`, "", false},
		{`"a"`, "", false},
		{``, "", false},
		{`{"a":1,"a"`, "", false},
		{strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "", false},
	} {
		if key, twice := repeatedKey([]byte(tt.body)); key != tt.key || twice != tt.twice {
			t.Errorf("%.60s: %q, %t", tt.body, key, twice)
		}
	}
}

// The trail says who stopped what another one had begun.
func TestConsoleRecordsWhoStopped(t *testing.T) {
	o := newTestOutbox(t)
	for i := range 3 {
		l := deadLetter(deadletter.Rejected)
		l.Identifier = fmt.Sprintf("req-%d", i)
		o.bury(l, strings.Replace(eventBody, "req-1", l.Identifier, 1))
	}
	k := &desk{cfg: Config{NATSURL: o.url}, warnings: io.Discard, open: func() ([]nats.Option, error) { return nil, nil }}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := func(console.Step) { cancel(&console.Stopped{By: console.Who{Name: "bob", Remote: "192.0.2.7"}}) }
	if err := k.Do(ctx, console.Deed{Kind: console.Discard, Who: console.Who{Name: "ann"}, Why: "a test"}, stop); err != nil {
		t.Fatal(err)
	}
	o.holds(0, 2)
	records := o.trail()
	if last := records[len(records)-1]; last.Stage != audit.Result || last.Note != "stopped by bob from 192.0.2.7" || last.Who.Actor != "ann" || last.Counts["not_begun"] != 2 {
		t.Errorf("record %+v", last)
	}
}

// stuckOperator never gets an answer of NATS.
type stuckOperator struct {
	console.Operator

	begun, over chan struct{}
}

func (o *stuckOperator) Rest() {}

func (o *stuckOperator) Do(context.Context, console.Deed, func(console.Step)) error {
	close(o.begun)
	<-o.over
	return nil
}

// What a person began may take as long as the drain, and a little longer; then the worker
// ends all the same, and says where to look.
func TestConsoleDoesNotHoldUpTheEnd(t *testing.T) {
	for _, takes := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			operator := &stuckOperator{begun: make(chan struct{}), over: make(chan struct{})}
			pages, err := console.NewPages(console.PagesConfig{Operator: operator, Access: console.Access{Loopback: true}, Registry: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			core, logs := observer.New(zap.WarnLevel)
			d := &daemon{cfg: Config{ShutdownTimeout: 10 * time.Second}, log: zap.New(core), pages: pages}
			stop, cancel := context.WithCancel(t.Context())
			end := d.runPages(stop)
			synctest.Wait()
			r := httptest.NewRequest(http.MethodPost, "http://localhost/dead-letters/1/replay", nil)
			handler := console.New(console.Config{Registry: prometheus.NewRegistry(), Ready: func() []console.Check { return nil }, Pages: pages})
			handler.ServeHTTP(httptest.NewRecorder(), r)
			<-operator.begun
			cancel()
			began := time.Now()
			time.AfterFunc(takes, func() { close(operator.over) })
			end()
			if took, most := time.Since(began), d.cfg.ShutdownTimeout+handGrace; took != min(takes, most) {
				t.Errorf("it took %s", took)
			}
			if late := logs.FilterMessageSnippet("the audit trail has the intent").Len() == 1; late != (takes == time.Hour) {
				t.Errorf("after %s: %v", takes, logs.All())
			}
			<-operator.over
		})
	}
}
