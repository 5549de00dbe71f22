package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// visit is a request that a route serves, and what it answers to somebody who may.
type visit struct {
	target string
	form   url.Values
	status int
}

// visits has a row for every route: one without it fails the test.
var visits = map[string]visit{
	"GET /static/{file}":             {"/static/app.css", nil, 200},
	"GET /login":                     {"/login", nil, 303},
	"POST /login":                    {"/login", nil, 303},
	"POST /logout":                   {"/logout", nil, 303},
	"GET /{$}":                       {"/", nil, 200},
	"GET /api/status":                {"/api/status", nil, 200},
	"GET /api/events":                {"/api/events", nil, 200},
	"GET /api/series":                {"/api/series", nil, 200},
	"GET /dead-letters":              {"/dead-letters", nil, 200},
	"GET /dead-letters/{id}":         {"/dead-letters/1", nil, 200},
	"GET /api/dead-letters":          {"/api/dead-letters", nil, 200},
	"GET /api/dead-letters/groups":   {"/api/dead-letters/groups", nil, 200},
	"GET /api/dead-letters/{id}":     {"/api/dead-letters/1", nil, 200},
	"GET /runs/{id}":                 {"/runs/KNOWN", nil, 200},
	"GET /api/runs/{id}":             {"/api/runs/KNOWN", nil, 200},
	"GET /audit":                     {"/audit", nil, 200},
	"GET /api/audit":                 {"/api/audit", nil, 200},
	"GET /dead-letters/{id}/edit":    {"/dead-letters/1/edit", nil, 200},
	"GET /dead-letters/replay":       {"/dead-letters/replay", nil, 200},
	"GET /dead-letters/discard":      {"/dead-letters/discard", nil, 200},
	"POST /dead-letters/{id}/edit":   {"/dead-letters/1/edit", url.Values{"body": {"{}"}}, 200},
	"POST /dead-letters/{id}/replay": {"/dead-letters/1/replay", nil, 303},
	"POST /dead-letters/{id}/discard": {
		"/dead-letters/1/discard", url.Values{"why": {"test"}}, 303,
	},
	"POST /dead-letters/replay":  {"/dead-letters/replay?count=1&through=1", nil, 303},
	"POST /dead-letters/discard": {"/dead-letters/discard?count=1&through=1", url.Values{"why": {"test"}}, 303},
	"POST /runs/{id}/stop":       {"/runs/KNOWN/stop", nil, 303},
	"POST /pause":                {"/pause", url.Values{"why": {"test"}}, 303},
	"POST /resume":               {"/resume", nil, 303},
}

// role is somebody who asks, and what becomes of them at each kind of route.
type role struct {
	name   string
	access Access
	change func(s *scene) func(*http.Request)
	want   func(route route, served int) int
}

func isPost(r route) bool { return strings.HasPrefix(r.pattern, http.MethodPost) }
func isAPI(r route) bool  { return strings.Contains(r.pattern, " /api/") }

// asServed is what the row says.
func asServed(_ route, served int) int { return served }

// toLogin is what happens to a stranger where there is a token.
func toLogin(r route, served int) int {
	switch {
	case r.pattern == "GET /login", r.pattern == "POST /login":
		return map[bool]int{true: 401, false: 200}[isPost(r)]
	case r.need == nothing:
		return served
	case isAPI(r):
		return 401
	default:
		return 303
	}
}

// refusedWith is for those who come with something that is wrong.
func refusedWith(status int) func(route, int) int {
	return func(r route, served int) int {
		if r.need == nothing {
			return toLogin(r, served)
		}
		return status
	}
}

func always(status int) func(route, int) int { return func(route, int) int { return status } }

// signedInBy is served everything; who has a token and no session still finds the login.
func signedInBy(session bool) func(route, int) int {
	return func(r route, served int) int {
		if r.pattern == "GET /login" && session {
			return 303
		}
		if r.need == nothing {
			return toLogin(r, served)
		}
		return served
	}
}

func roles() []role {
	fixed := func() string { return token }
	unchanged := func(*scene) func(*http.Request) { return func(*http.Request) {} }
	session := func(who string, made string, at time.Duration) func(*scene) func(*http.Request) {
		return func(s *scene) func(*http.Request) {
			return withCookie(sessionCookie, s.pages.sessions.begin(who, made, time.Now().Add(at)))
		}
	}
	as := func(change func(*http.Request)) func(*scene) func(*http.Request) {
		return func(*scene) func(*http.Request) { return change }
	}
	readOnly := func(r route, served int) int {
		if r.need == toChange {
			return 403
		}
		return served
	}
	return []role{
		{"loopback", Access{Loopback: true}, unchanged, asServed},
		{"loopback, by name", Access{Loopback: true}, as(withHost("LocalHost:1")), asServed},
		{"loopback, by IPv6", Access{Loopback: true}, as(withHost("[::1]:8080")), asServed},
		{"loopback, another host's name", Access{Loopback: true}, as(withHost("rebound.example:8080")), always(421)},
		{"loopback, a name that looks like it", Access{Loopback: true}, as(withHost("localhost.example")), always(421)},
		{"loopback, no name", Access{Loopback: true}, as(withHost("")), always(421)},
		{"loopback, read-only", Access{Loopback: true, ReadOnly: true}, unchanged, readOnly},
		{"another origin", Access{Loopback: true}, as(withHeader("Sec-Fetch-Site", "cross-site")), func(r route, served int) int {
			if isPost(r) {
				return 403
			}
			return served
		}},
		{"another port of this host", Access{Loopback: true}, as(func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://127.0.0.1:3000")
		}), func(r route, served int) int {
			if isPost(r) {
				return 403
			}
			return served
		}},
		{"token: stranger", Access{Loopback: true, Token: fixed}, unchanged, toLogin},
		{"token: stranger from afar", Access{Token: fixed}, as(withHost("worker-0:8080")), toLogin},
		{"token: stranger through a proxy", Access{Loopback: true, Token: fixed}, as(withHost("meterworker.example")), toLogin},
		{"token: session through a proxy", Access{Loopback: true, Token: fixed}, func(s *scene) func(*http.Request) {
			known := session("ann", token, 0)(s)
			return func(r *http.Request) { known(r); r.Host = "meterworker.example" }
		}, signedInBy(true)},
		{"token: right", Access{Token: fixed}, as(withToken(token)), signedInBy(false)},
		{"token: wrong", Access{Token: fixed}, as(withToken(token + "x")), refusedWith(401)},
		{"token: empty", Access{Token: fixed}, as(withToken("")), refusedWith(401)},
		{"token: session", Access{Token: fixed}, session("ann", token, 0), signedInBy(true)},
		{"token: expired session", Access{Token: fixed}, session("ann", token, -sessionLife), toLogin},
		{"token: session of another token", Access{Token: fixed}, session("ann", "fedcba9876543210", 0), toLogin},
		{"token: made-up session", Access{Token: fixed}, as(withCookie(sessionCookie, "made-up")), toLogin},
		{"token: read-only", Access{Token: fixed, ReadOnly: true}, session("ann", token, 0), func(r route, served int) int {
			return readOnly(r, signedInBy(true)(r, served))
		}},
		{"beyond loopback without a token", Access{}, unchanged, always(404)},
	}
}

func TestEveryRouteByEveryRole(t *testing.T) {
	for _, role := range roles() {
		t.Run(role.name, func(t *testing.T) {
			s := newScene(t, &fakeOperator{count: 1, text: "x", flag: true}, role.access)
			run, err := s.pages.runs.begin(Deed{Kind: Replay, IDs: []uint64{1}})
			if err != nil {
				t.Fatal(err)
			}
			s.settle()
			routes := s.pages.routes()
			if len(routes) != len(visits) {
				t.Errorf("%d routes and %d rows", len(routes), len(visits))
			}
			for _, route := range routes {
				row, found := visits[route.pattern]
				if !found {
					t.Errorf("%s has no row", route.pattern)
					continue
				}
				s.pages.sessions.wrong = wrongAtOnce // each is a try of its own
				s.byRole(role, route, row, run.id)
			}
			for target, want := range map[string]int{"/livez": 200, "/readyz": 503, "/metrics": 200} { // no check holds
				if w := s.request("GET", target, nil, role.change(s)); w.Code != want {
					t.Errorf("%s: %d, want %d", target, w.Code, want)
				}
			}
		})
	}
}

// byRole asks for one route, and holds the answer against the matrix.
func (s *scene) byRole(role role, route route, row visit, run string) {
	s.t.Helper()
	method, _, _ := strings.Cut(route.pattern, " ")
	changes := []func(*http.Request){role.change(s)}
	if route.pattern == "GET /api/events" {
		changes = append(changes, ended)
	}
	_, _, before, ordersBefore := s.operator.seen()
	w := s.request(method, strings.ReplaceAll(row.target, "KNOWN", run), row.form, changes...)
	s.settle()
	_, _, after, ordersAfter := s.operator.seen()
	want := role.want(route, row.status)
	if withBearer := role.name == "token: right" || role.name == "token: wrong" || role.name == "token: empty"; want == 303 && withBearer && w.Code == 401 {
		want = 401 // programs are not sent to the login
	}
	if w.Code != want {
		s.t.Errorf("%s: status %d, want %d: %s", route.pattern, w.Code, want, w.Body)
	}
	if acted := len(after)+len(ordersAfter) > len(before)+len(ordersBefore); acted && (route.need != toChange || want >= 400 || want == 303 && w.Header().Get("Location") == "/login") {
		s.t.Errorf("%s: something was done: %+v", route.pattern, after)
	}
	s.checkHeaders(route.pattern, w.Header())
}

// checkHeaders holds one answer, whatever it says, against what every answer carries.
func (s *scene) checkHeaders(what string, h http.Header) {
	s.t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy":      policy,
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := h.Get(name); got != want {
			s.t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	if got := h.Get("Cache-Control"); got != "no-store" && !strings.Contains(what, "/static/") {
		s.t.Errorf("%s: Cache-Control is %q", what, got)
	}
	for _, forbidden := range []string{"unsafe-inline", "unsafe-eval", "*", "http:"} {
		if strings.Contains(policy, forbidden) {
			s.t.Errorf("the policy has %q", forbidden)
		}
	}
}

// What only a POST does, nothing else does.
func TestOtherMethods(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 1}, Access{Loopback: true})
	twins := map[string]bool{}
	for _, route := range s.pages.routes() {
		twins[route.pattern] = true
	}
	for _, route := range s.pages.routes() {
		path, post := strings.CutPrefix(route.pattern, "POST ")
		if !post {
			continue
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE"} {
			if (method == "GET" || method == "HEAD") && twins["GET "+path] {
				continue
			}
			if w := s.request(method, visits[route.pattern].target, nil); w.Code != 405 && w.Code != 404 {
				t.Errorf("%s %s: status %d", method, path, w.Code)
			}
		}
	}
	if _, _, deeds, orders := s.operator.seen(); len(deeds)+len(orders) > 0 {
		t.Errorf("done: %+v %v", deeds, orders)
	}
}
