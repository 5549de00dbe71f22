package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
)

// testConsole is the console of a worker beside an outbox.
type testConsole struct {
	*testOutbox
	handler http.Handler
	stop    func() // as at a drain; returns when nothing runs any more
}

func (o *testOutbox) console() *testConsole {
	o.t.Helper()
	k := &desk{cfg: Config{NATSURL: o.url}, warnings: io.Discard, open: func() ([]nats.Option, error) { return nil, nil }}
	pages, err := console.NewPages(console.PagesConfig{Operator: k, Access: console.Access{Loopback: true}, Registry: prometheus.NewRegistry()})
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(o.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); pages.Run(ctx) }()
	c := &testConsole{testOutbox: o, stop: func() { cancel(); <-done }}
	o.t.Cleanup(c.stop)
	c.handler = console.New(console.Config{Registry: prometheus.NewRegistry(), Ready: func() []console.Check { return nil }, Pages: pages})
	c.must("GET", "/", nil, 200) // the pages run
	return c
}

func (c *testConsole) ask(method, target string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Host = "localhost:8080"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

func (c *testConsole) must(method, target string, form url.Values, status int) string {
	c.t.Helper()
	w := c.ask(method, target, form)
	if w.Code != status {
		c.t.Fatalf("%s %s: status %d, want %d\n%s", method, target, w.Code, status, w.Body)
	}
	return w.Body.String()
}

// runState is what the API says of a run.
type runState struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Selected int    `json:"selected"`
	Done     int    `json:"done"`
	Counts   []struct {
		Name  string `json:"name"`
		Count int    `json:"count"`
	} `json:"counts"`
	Letters []struct {
		ID      uint64 `json:"id"`
		Outcome string `json:"outcome"`
		Detail  string `json:"detail"`
	} `json:"letters"`
	Problem string `json:"problem"`
}

func (r runState) count(name string) int {
	for _, c := range r.Counts {
		if c.Name == name {
			return c.Count
		}
	}
	return 0
}

// deed posts a form, and returns the run when all is done, or until says so.
func (c *testConsole) deed(target string, form url.Values, until func(runState) bool) runState {
	c.t.Helper()
	w := c.ask("POST", target, form)
	id, found := strings.CutPrefix(w.Header().Get("Location"), "/runs/")
	if w.Code != 303 || !found {
		c.t.Fatalf("%s: status %d\n%s", target, w.Code, w.Body)
	}
	return c.await(id, until)
}

func (c *testConsole) await(id string, until func(runState) bool) runState {
	c.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		var r runState
		if err := json.Unmarshal([]byte(c.must("GET", "/api/runs/"+id, nil, 200)), &r); err != nil {
			c.t.Fatal(err)
		}
		if r.State != "running" || until != nil && until(r) {
			return r
		}
		select {
		case <-deadline.C:
			c.t.Fatalf("the run does not end: %+v", r)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var actionOf = regexp.MustCompile(`action="(/dead-letters/(?:replay|discard)\?[^"]*)"`)

// confirmed opens the page that asks, and returns where its form goes.
func (c *testConsole) confirmed(target string) string {
	c.t.Helper()
	match := actionOf.FindStringSubmatch(c.must("GET", target, nil, 200))
	if match == nil {
		c.t.Fatalf("%s has no form", target)
	}
	return strings.ReplaceAll(match[1], "&amp;", "&")
}

// checkTrail wants an intent before and a result after, by the person at the page.
func (c *testConsole) checkTrail(action audit.Action, why string) (intent, result audit.Record) {
	c.t.Helper()
	records := c.trail()
	if len(records) < 2 {
		c.t.Fatalf("%d records", len(records))
	}
	intent, result = records[len(records)-2], records[len(records)-1]
	for i, r := range []audit.Record{intent, result} {
		want := []audit.Stage{audit.Intent, audit.Result}[i]
		if r.Stage != want || r.Action != action || r.Why != why || r.Who.Actor != "ann" || r.Who.User != "console@192.0.2.1" || r.Run != intent.Run || r.Command[0] != "console" {
			c.t.Errorf("record %+v, want %s of %s", r, want, action)
		}
	}
	return intent, result
}
