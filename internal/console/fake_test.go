package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fakeOperator answers from memory. Its letters are numbered from 1 up.
type fakeOperator struct {
	text  string        // in every text
	flag  bool          // in every yes or no
	count int           // of letters
	takes time.Duration // of a reading of letters

	mu      sync.Mutex
	looks   int
	rests   int
	deeds   []Deed
	orders  []string
	refusal string                                        // of an edit
	err     error                                         // of everything
	doing   func(context.Context, Deed, func(Step)) error // nil: each letter is replayed
}

func (f *fakeOperator) Look(context.Context) json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	var s Status
	fill(&s, f.text, f.flag)
	s.Verdict, s.At = "delivering", fmt.Sprintf("2026-01-02T03:04:05.%09dZ", f.looks)
	if f.text != "" {
		s.Verdict = f.text
	}
	document, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return document
}

func (f *fakeOperator) Rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rests++
}

func (f *fakeOperator) seen() (looks, rests int, deeds []Deed, orders []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks, f.rests, slices.Clone(f.deeds), slices.Clone(f.orders)
}

func (f *fakeOperator) Resolve(q Query) (Query, error) {
	if q.Since == "nonsense" {
		return q, fmt.Errorf("since=%q is no time", q.Since)
	}
	if q.Since != "" {
		q.Since = "2026-01-02T00:00:00Z"
	}
	return q, nil
}

func (f *fakeOperator) letter(id int) Letter {
	var l Letter
	fill(&l, f.text, f.flag)
	l.ID = uint64(id)
	return l
}

func (f *fakeOperator) Letters(ctx context.Context, q Query, visit func(Letter) error) error {
	if f.err != nil {
		return f.err
	}
	if f.takes > 0 {
		select {
		case <-time.After(f.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for id, visited := int(max(q.From, 1)), 0; id <= f.count && (q.Limit == 0 || visited < q.Limit); id, visited = id+1, visited+1 {
		if err := visit(f.letter(id)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (f *fakeOperator) Groups(context.Context, Query) ([]Group, error) {
	var g Group
	fill(&g, f.text, f.flag)
	g.Count = f.count
	return []Group{g}, f.err
}

func (f *fakeOperator) Case(_ context.Context, id uint64) (*Case, error) {
	if id > uint64(f.count) {
		return nil, fmt.Errorf("dead letter %d: %w", id, ErrNotFound)
	}
	var c Case
	fill(&c, f.text, f.flag)
	c.ID, c.Document = id, json.RawMessage(`{"id":1}`)
	return &c, f.err
}

func (f *fakeOperator) Foresee(context.Context, Deed) (*Forecast, error) {
	var forecast Forecast
	fill(&forecast, f.text, f.flag)
	forecast.Count, forecast.Last = f.count, uint64(f.count)
	return &forecast, f.err
}

func (f *fakeOperator) Revise(_ context.Context, id uint64, e Edit) (*Revision, error) {
	var r Revision
	fill(&r, f.text, f.flag)
	r.Letter.ID, r.Refusal = id, f.refusal
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deeds = append(f.deeds, Deed{Kind: "preview", Edit: &e})
	return &r, f.err
}

func (f *fakeOperator) Do(ctx context.Context, d Deed, report func(Step)) error {
	f.mu.Lock()
	f.deeds = append(f.deeds, d)
	f.mu.Unlock()
	if f.doing != nil {
		return f.doing(ctx, d, report)
	}
	for _, id := range d.IDs {
		report(Step{Selected: 1, ID: id, Outcome: "failed", Text: f.text})
	}
	return f.err
}

func (f *fakeOperator) Pause(_ context.Context, who Who, why string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, "pause "+who.Name+" "+who.Remote+" "+why)
	return f.err
}

func (f *fakeOperator) Resume(_ context.Context, who Who, why string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, "resume "+who.Name+" "+who.Remote+" "+why)
	return f.err
}

func (f *fakeOperator) Audit(_ context.Context, q AuditQuery, visit func(Record) error) error {
	for sequence := f.count; sequence > 0; sequence-- {
		var r Record
		fill(&r, f.text, f.flag)
		if r.Sequence = uint64(sequence); q.Before != 0 && r.Sequence >= q.Before {
			continue
		}
		r.Document = json.RawMessage(fmt.Sprintf(`{"sequence":%d}`, sequence))
		if err := visit(r); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeOperator) Reasons() []string { return []string{"rejected", "ambiguous"} }
func (f *fakeOperator) Actions() []string { return []string{"replay", "edit"} }

const token = "0123456789abcdef"

// scene is a console over an operator.
type scene struct {
	t        *testing.T
	operator *fakeOperator
	pages    *Pages
	handler  http.Handler
}

func newScene(t *testing.T, operator *fakeOperator, access Access) *scene {
	t.Helper()
	s := &scene{t: t, operator: operator}
	registry := prometheus.NewRegistry()
	pages, err := NewPages(PagesConfig{Operator: operator, Access: access, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	s.pages = pages
	s.handler = New(Config{Registry: registry, Ready: func() []Check { return nil }, Pages: pages})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); pages.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	pages.hub.status(t.Context(), true) // Run has begun
	return s
}

// settle returns when nothing that was begun changes anything any more.
func (s *scene) settle() {
	s.pages.runs.mu.Lock()
	all := slices.Clone(s.pages.runs.all)
	s.pages.runs.mu.Unlock()
	for _, r := range all {
		<-r.acted
	}
}

// request is one of a browser on this host, unless change makes it another.
func (s *scene) request(method, target string, form url.Values, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Host = "127.0.0.1:8080"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func withToken(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func withCookie(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("Cookie", name+"="+value) }
}

func withHeader(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func withHost(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }

// ended has the request's client gone, so that a stream ends.
func ended(r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	*r = *r.WithContext(ctx)
}
