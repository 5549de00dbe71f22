package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// bulk begins a run of many letters.
func (s *scene) bulk(t *testing.T) (id string) {
	t.Helper()
	w := s.request("POST", "/dead-letters/replay?reason=rejected&count=9&through=12", url.Values{"rate": {"7"}, "why": {"because"}, "hopeless": {"true"}})
	id, found := strings.CutPrefix(w.Header().Get("Location"), "/runs/")
	if w.Code != 303 || !found {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return id
}

func (s *scene) runView(id string) (v runView) {
	s.t.Helper()
	w := s.request("GET", "/api/runs/"+id, nil)
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		s.t.Fatalf("%s: %v", w.Body, err)
	}
	return v
}

// One run of many letters at a time; it can be stopped, and what it says is kept.
func TestBulkRun(t *testing.T) {
	entered := make(chan struct{}, 1)
	operator := &fakeOperator{count: 9}
	operator.doing = func(ctx context.Context, _ Deed, report func(Step)) error {
		report(Step{Selected: 3, ID: 1, Outcome: "replayed", Text: "fine"})
		report(Step{Selected: 3, ID: 2, Outcome: "refused", Text: "too old"})
		entered <- struct{}{}
		<-ctx.Done()
		return nil
	}
	s := newScene(t, operator, Access{Loopback: true})
	id := s.bulk(t)
	<-entered
	if w := s.request("POST", "/dead-letters/discard?count=1&through=1", url.Values{"why": {"x"}}); w.Code != 409 {
		t.Errorf("a second run: %d", w.Code)
	}
	v := s.runView(id)
	if v.State != stateRunning || v.Selected != 3 || v.Done != 2 || !v.Unfinished || len(v.Steps) != 1 || v.Steps[0] != (stepView{2, "refused", "too old", 0}) {
		t.Errorf("under way: %+v", v)
	}
	_, _, deeds, _ := operator.seen()
	d := deeds[0]
	if d.Kind != Replay || !slices.Equal(d.Query.Reasons, []string{"rejected"}) || d.Query.Through != 12 || d.Query.Limit != 9 || d.Rate != 7 || d.Why != "because" || !d.Hopeless || d.Accepted {
		t.Errorf("deed %+v", d)
	}
	if w := s.request("POST", "/runs/"+id+"/stop", nil); w.Code != 303 {
		t.Errorf("stop: %d", w.Code)
	}
	if v := s.runView(id); v.State != stateStopped || v.Unfinished {
		t.Errorf("stopped: %+v", v)
	}
	second := s.bulk(t) // there is room again
	<-entered
	s.request("POST", "/runs/"+second+"/stop", nil)
}

func TestBulkNeedsWhatWasCounted(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 9}, Access{Loopback: true})
	for _, tt := range []struct{ query, form, want string }{
		{"", "", "count and through are missing"},
		{"?count=0&through=5", "", "count and through are missing"},
		{"?count=5", "", "count and through are missing"},
		{"?count=-1&through=5", "", "count and through are missing"},
		{"?count=1&through=5&since=nonsense", "", "is no time"},
		{"?count=1&through=5", "rate=10001", "rate is a whole number"},
		{"?count=1&through=5", "rate=x", "rate is a whole number"},
	} {
		form, err := url.ParseQuery(tt.form)
		if err != nil {
			t.Fatal(err)
		}
		if w := s.request("POST", "/dead-letters/replay"+tt.query, form); w.Code != 400 || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d", tt.query, tt.form, w.Code)
		}
	}
	for _, target := range []string{"/dead-letters/1/discard", "/dead-letters/discard?count=1&through=1", "/pause"} {
		if w := s.request("POST", target, url.Values{"why": {" "}}); w.Code != 400 || !strings.Contains(w.Body.String(), "say why") {
			t.Errorf("%s without a reason: %d", target, w.Code)
		}
	}
	if _, _, deeds, orders := s.operator.seen(); len(deeds)+len(orders) > 0 {
		t.Errorf("done: %+v %v", deeds, orders)
	}
	// The page fixes relative times, and says so in where its form goes.
	w := s.request("GET", "/dead-letters/replay?since=2h&q=a", nil)
	if want := "/dead-letters/replay?count=9&amp;q=a&amp;since=2026-01-02T00%3A00%3A00Z&amp;through=9"; !strings.Contains(w.Body.String(), want) {
		t.Errorf("%s lacks %s", w.Body, want)
	}
}

// What became of a replay takes the place of the replay.
func TestFollowUps(t *testing.T) {
	operator := &fakeOperator{count: 9}
	operator.doing = func(_ context.Context, d Deed, report func(Step)) error {
		report(Step{Selected: 1, ID: d.IDs[0], Outcome: "replayed"})
		report(Step{Acted: true})
		report(Step{ID: d.IDs[0], Outcome: "died_again", FollowUp: true, Letter: 7, Text: "died again"})
		return nil
	}
	s := newScene(t, operator, Access{Loopback: true})
	w := s.request("POST", "/dead-letters/3/replay", url.Values{"accept_double_billing": {"true"}})
	s.pages.runs.work.Wait()
	v := s.runView(strings.TrimPrefix(w.Header().Get("Location"), "/runs/"))
	if v.State != stateDone || v.Done != 1 || len(v.Counts) != 2 || len(v.Steps) != 1 || v.Steps[0] != (stepView{3, "died_again", "died again", 7}) {
		t.Errorf("%+v", v)
	}
	if _, _, deeds, _ := operator.seen(); !deeds[0].Accepted || !deeds[0].Hopeless || deeds[0].Who.Remote != "192.0.2.1" {
		t.Errorf("deed %+v", deeds[0])
	}
}

// A run of 50,000 remembers counts, and the first hundred troubles.
func TestRunsAreBounded(t *testing.T) {
	operator := &fakeOperator{count: 9}
	operator.doing = func(_ context.Context, _ Deed, report func(Step)) error {
		for i := range 50_000 {
			report(Step{Selected: 50_000, ID: uint64(i + 1), Outcome: []string{"replayed", "refused"}[i%2]})
		}
		return errors.New("stopped after 3 failures in a row")
	}
	s := newScene(t, operator, Access{Loopback: true})
	id := s.bulk(t)
	s.pages.runs.work.Wait()
	v := s.runView(id)
	if v.State != stateFailed || v.Problem == "" || v.Done != 50_000 || len(v.Steps) != mostSteps || !v.Cut || fmt.Sprint(v.Counts) != "[{replayed 25000} {refused 25000}]" {
		t.Errorf("%+v", v)
	}
	operator.doing = nil
	for range 3 * mostRuns {
		s.request("POST", "/dead-letters/3/replay", nil)
		s.pages.runs.work.Wait()
	}
	if n := len(s.pages.runs.all); n != mostRuns {
		t.Errorf("%d runs are remembered", n)
	}
	if w := s.request("GET", "/runs/"+id, nil); w.Code != 404 {
		t.Errorf("a forgotten run: %d", w.Code)
	}
}

// At the end of the worker a run stops, and Run waits for the letter in hand.
func TestDrainStopsRuns(t *testing.T) {
	operator := &fakeOperator{count: 9}
	entered, leave := make(chan struct{}), make(chan struct{})
	operator.doing = func(ctx context.Context, _ Deed, report func(Step)) error {
		close(entered)
		<-ctx.Done()
		<-leave // the letter in hand
		report(Step{Selected: 1, ID: 1, Outcome: "replayed"})
		return nil
	}
	rs := newRuns(operator)
	ctx, cancel := context.WithCancel(t.Context())
	rs.open(ctx)
	r, err := rs.begin(Deed{Kind: Replay})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	cancel()
	if _, err := rs.begin(Deed{Kind: Replay, IDs: []uint64{1}}); !errors.Is(err, errDraining) {
		t.Errorf("a deed at the end: %v", err)
	}
	close(leave)
	rs.wait()
	if v := r.view(); v.State != stateStopped || v.Done != 1 {
		t.Errorf("%+v", v)
	}
}

func TestAwaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{acted: make(chan struct{})}
		r.await(t.Context()) // or the bubble is stuck
	})
}

func TestEditForm(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 9, text: "before"}, Access{Loopback: true})
	// The fake's two fields are both named "before".
	w := s.request("POST", "/dead-letters/1/edit", url.Values{
		"with": {"fields"}, "field.before": {"a\r\nb"}, "new_name": {" region "}, "new_value": {"eu"}, "digest": {"d"}, "field.made_up": {"x"},
	})
	_, _, deeds, _ := s.operator.seen()
	if w.Code != 200 || len(deeds) != 1 {
		t.Fatalf("%d: %+v", w.Code, deeds)
	}
	e := deeds[0].Edit
	if want := []Field{{"before", "a\nb"}, {"before", "a\nb"}, {"payload.region", "eu"}}; !slices.Equal(e.Set, want) || len(e.Unset) > 0 || e.Digest != "d" || e.Body != "" {
		t.Errorf("edit %+v", e)
	}
	s.request("POST", "/dead-letters/1/edit", url.Values{"with": {"fields"}, "field.before": {""}})
	_, _, deeds, _ = s.operator.seen()
	if e := deeds[1].Edit; len(e.Set) > 0 || !slices.Equal(e.Unset, []string{"before", "before"}) {
		t.Errorf("edit %+v", e)
	}
	// A refusal shows the form again, with what was typed; nothing is published.
	s.operator.refusal = "would die again"
	w = s.request("POST", "/dead-letters/1/edit", url.Values{"with": {"body"}, "body": {"{\"typed\":1}"}, "confirm": {"true"}})
	if body := w.Body.String(); w.Code != 422 || !strings.Contains(body, "would die again") || !strings.Contains(body, "typed") {
		t.Errorf("%d: %s", w.Code, body)
	}
	_, _, deeds, _ = s.operator.seen()
	if slices.ContainsFunc(deeds, func(d Deed) bool { return d.Kind == Revise }) {
		t.Errorf("published: %+v", deeds)
	}
	s.operator.refusal = ""
	w = s.request("POST", "/dead-letters/1/edit", url.Values{"with": {"body"}, "body": {"{}"}, "confirm": {"true"}, "why": {"half"}})
	s.settle()
	_, _, deeds, _ = s.operator.seen()
	if d := deeds[len(deeds)-1]; w.Code != 303 || d.Kind != Revise || d.Edit.Body != "{}" || d.Why != "half" || !slices.Equal(d.IDs, []uint64{1}) {
		t.Errorf("%d: %+v", w.Code, d)
	}
}
