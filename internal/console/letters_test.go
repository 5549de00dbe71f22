package console

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// A walk through the pages by their links shows every letter, however many there are.
func TestPagesShowEveryLetter(t *testing.T) {
	const many = 1234
	s := newScene(t, &fakeOperator{count: many, text: "x"}, Access{Loopback: true})
	rows, next := regexp.MustCompile(`href="/dead-letters/(\d+)"`), regexp.MustCompile(`href="(/dead-letters\?after=\d+)"[^>]*rel="next"`)
	seen, pages := map[string]bool{}, 0
	for target := "/dead-letters"; target != ""; pages++ {
		body := s.request("GET", target, nil).Body.String()
		found := rows.FindAllStringSubmatch(body, -1)
		if len(found) == 0 || len(found) > 2*pageLength {
			t.Fatalf("%s has %d links to letters", target, len(found))
		}
		for _, match := range found {
			seen[match[1]] = true
		}
		target = ""
		if match := next.FindStringSubmatch(body); match != nil {
			target = match[1]
		}
	}
	if len(seen) != many || pages != (many+pageLength-1)/pageLength {
		t.Errorf("%d letters on %d pages, want %d", len(seen), pages, many)
	}
	if lines := strings.Count(s.request("GET", "/api/dead-letters", nil).Body.String(), "\n"); lines != many {
		t.Errorf("the API has %d letters, want %d", lines, many)
	}
	if lines := strings.Count(s.request("GET", "/api/dead-letters?after=1000&limit=7", nil).Body.String(), "\n"); lines != 7 {
		t.Errorf("the API has %d letters, want 7", lines)
	}
}

func TestAuditPages(t *testing.T) {
	const many = 120
	s := newScene(t, &fakeOperator{count: many}, Access{Loopback: true})
	next := regexp.MustCompile(`href="(/audit\?before=\d+)"[^>]*rel="next"`)
	pages := 0
	for target := "/audit"; target != ""; pages++ {
		body := s.request("GET", target, nil).Body.String()
		target = ""
		if match := next.FindStringSubmatch(body); match != nil {
			target = match[1]
		}
	}
	if pages != 3 {
		t.Errorf("%d pages, want 3", pages)
	}
	if body := s.request("GET", "/api/audit", nil).Body.String(); strings.Count(body, "\n") != many || !strings.HasPrefix(body, `{"sequence":120}`) {
		t.Errorf("the API: %.200s", body)
	}
}

// What NATS refuses is said on the page, with the status of a failed gateway.
func TestTroubleIsShown(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 3}, Access{Loopback: true})
	s.operator.err = errors.New(`NATS user "worker" may not publish to "usage.audit.pause": give it the operator's permissions`)
	for target, form := range map[string]url.Values{
		"/dead-letters/1": nil, "/dead-letters/replay": nil, "/audit": nil, "/pause": {"why": {"x"}}, "/resume": {}, "/api/dead-letters": nil,
	} {
		method := http.MethodGet
		if form != nil {
			method = http.MethodPost
		}
		w := s.request(method, target, form)
		if body := w.Body.String(); w.Code != 502 || !strings.Contains(body, "usage.audit.pause") {
			t.Errorf("%s: %d: %s", target, w.Code, body)
		}
	}
	if w := s.request("GET", "/dead-letters?since=nonsense", nil); w.Code != 400 {
		t.Errorf("nonsense: %d", w.Code)
	}
}

// A list that breaks off in the middle must not look like a whole one.
func TestBrokenListIsCut(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 3}, Access{Loopback: true})
	s.operator.err = errors.New("gone") // the records come first, then this
	defer func() {
		if got := recover(); got != any(http.ErrAbortHandler) {
			t.Errorf("recovered %v", got)
		}
	}()
	s.request("GET", "/api/audit", nil)
	t.Error("the list ended as if it were whole")
}

func TestFormsAreBounded(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 3}, Access{Loopback: true})
	if w := s.request("POST", "/dead-letters/1/edit", url.Values{"body": {strings.Repeat("<", 64<<10)}}); w.Code != 200 {
		t.Errorf("64 KiB, all of it escaped: %d", w.Code)
	}
	if w := s.request("POST", "/dead-letters/1/edit", url.Values{"body": {strings.Repeat("x", longestForm)}}); w.Code != 400 {
		t.Errorf("over the limit: %d", w.Code)
	}
}

func TestStaticFiles(t *testing.T) {
	s := newScene(t, &fakeOperator{}, Access{Loopback: true})
	for _, name := range []string{"app.css", "app.js", "htmx.min.js", "uplot.iife.min.js", "uplot.min.css", "pico.min.css"} {
		w := s.request("GET", s.pages.link(name), nil)
		kind := map[bool]string{true: "text/javascript; charset=utf-8", false: "text/css; charset=utf-8"}[strings.HasSuffix(name, ".js")]
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %v", name, w.Code, w.Header())
		}
		again := s.request("GET", "/static/"+name, nil, withHeader("If-None-Match", w.Header().Get("ETag")))
		if again.Code != 304 || again.Body.Len() > 0 || again.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s again: %d, %v", name, again.Code, again.Header())
		}
	}
	for _, name := range []string{"nope.js", "..%2f..%2fdoc.go", "LICENSES", "%00"} {
		if w := s.request("GET", "/static/"+name, nil); w.Code != 404 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	body := s.request("GET", "/", nil).Body.String()
	for _, match := range regexp.MustCompile(`/static/[^"]+`).FindAllString(body, -1) {
		if w := s.request("GET", match, nil); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("the page asks for %s: %d", match, w.Code)
		}
	}
}

// htmx gets the main part alone, and is sent to the login rather than shown it.
func TestFragments(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 3}, Access{Token: func() string { return token }})
	htmx := withHeader("Hx-Request", "true")
	w := s.request("GET", "/dead-letters", nil, htmx, withToken(token))
	if body := w.Body.String(); w.Code != 200 || strings.Contains(body, "<html") || !strings.Contains(body, "<h1>Dead letters</h1>") || w.Header().Get("Vary") != "Hx-Request" {
		t.Errorf("%d, %v: %.300s", w.Code, w.Header(), body)
	}
	if w := s.request("GET", "/dead-letters", nil, htmx); w.Code != 401 || w.Header().Get("Hx-Redirect") != "/login" {
		t.Errorf("a stranger: %d, %v", w.Code, w.Header())
	}
}
