package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func cookieOf(t *testing.T, h http.Header, name string) *http.Cookie {
	t.Helper()
	for _, line := range h.Values("Set-Cookie") {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

func TestLoginAndLogout(t *testing.T) {
	s := newScene(t, &fakeOperator{count: 1}, Access{Token: func() string { return token }})
	if w := s.request("GET", "/dead-letters?q=1", nil); w.Code != 303 || w.Header().Get("Location") != "/login?next=%2Fdead-letters%3Fq%3D1" {
		t.Errorf("a stranger: %d to %s", w.Code, w.Header().Get("Location"))
	}
	w := s.request("POST", "/login", url.Values{"token": {" " + token + "\n"}, "name": {" Ann\u202e "}, "next": {"/dead-letters?q=1"}})
	cookie := cookieOf(t, w.Header(), sessionCookie)
	if w.Code != 303 || w.Header().Get("Location") != "/dead-letters?q=1" || cookie == nil {
		t.Fatalf("login: %d, %v", w.Code, w.Header())
	}
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Secure || cookie.MaxAge != int(sessionLife/time.Second) || strings.Contains(cookie.Value, token) {
		t.Errorf("cookie %+v", cookie)
	}
	in := withCookie(sessionCookie, cookie.Value)
	if w := s.request("POST", "/pause", url.Values{"why": {"x"}}, in); w.Code != 303 {
		t.Errorf("signed in: %d", w.Code)
	}
	if _, _, _, orders := s.operator.seen(); len(orders) != 1 || orders[0] != "pause Ann 192.0.2.1 x" {
		t.Errorf("orders %q", orders)
	}
	if w := s.request("POST", "/logout", nil, in); w.Code != 303 || cookieOf(t, w.Header(), sessionCookie).MaxAge >= 0 {
		t.Errorf("logout: %d, %v", w.Code, w.Header())
	}
	if w := s.request("GET", "/", nil, in); w.Code != 303 {
		t.Errorf("signed out: %d", w.Code)
	}
}

func TestCookiesBehindTLS(t *testing.T) {
	s := newScene(t, &fakeOperator{}, Access{Token: func() string { return token }})
	w := s.request("POST", "/login", url.Values{"token": {token}}, withHeader("X-Forwarded-Proto", "https"))
	if cookie := cookieOf(t, w.Header(), sessionCookie); cookie == nil || !cookie.Secure {
		t.Errorf("cookie %+v", cookie)
	}
}

// A rotated token ends every session and every event stream that it opened.
func TestRotationEndsSessions(t *testing.T) {
	now := token
	s := newScene(t, &fakeOperator{count: 1}, Access{Token: func() string { return now }})
	in := withCookie(sessionCookie, s.pages.sessions.begin("ann", now, time.Now()))
	if w := s.request("GET", "/", nil, in); w.Code != 200 {
		t.Fatalf("signed in: %d", w.Code)
	}
	now = "fedcba9876543210"
	if w := s.request("GET", "/api/status", nil, in); w.Code != 401 {
		t.Errorf("after the rotation: %d", w.Code)
	}
	if w := s.request("GET", "/api/status", nil, withToken(now)); w.Code != 200 {
		t.Errorf("the new token: %d", w.Code)
	}
}

// Wrong tokens are answered ten times, then one each five seconds; sessions go on.
func TestWrongTokensAreThrottled(t *testing.T) {
	s := newSessions()
	synctest.Test(t, func(t *testing.T) {
		for i := range wrongAtOnce {
			if !s.mayTry(time.Now()) {
				t.Fatalf("try %d is throttled", i)
			}
			s.wasWrong(time.Now())
		}
		if s.mayTry(time.Now()) {
			t.Error("nothing is throttled")
		}
		<-time.After(wrongEvery)
		if !s.mayTry(time.Now()) {
			t.Error("throttled for longer than it takes")
		}
		s.wasWrong(time.Now())
		if s.mayTry(time.Now()) {
			t.Error("two tries in five seconds")
		}
	})
	c := newScene(t, &fakeOperator{count: 1}, Access{Token: func() string { return token }})
	in := withCookie(sessionCookie, c.pages.sessions.begin("ann", token, time.Now()))
	for range wrongAtOnce {
		if w := c.request("POST", "/login", url.Values{"token": {"wrong"}}); w.Code != 401 || !strings.Contains(w.Body.String(), "not the token") {
			t.Fatalf("a wrong token: %d", w.Code)
		}
	}
	for _, given := range []string{"wrong", token} {
		if w := c.request("POST", "/login", url.Values{"token": {given}}); w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one more: %d", w.Code)
		}
		if w := c.request("GET", "/api/status", nil, withToken(given)); w.Code != 429 {
			t.Errorf("one more, by a program: %d", w.Code)
		}
	}
	if w := c.request("GET", "/", nil, in); w.Code != 200 {
		t.Errorf("a session is throttled: %d", w.Code)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := newSessions()
	now := time.Now()
	first := s.begin("first", token, now.Add(-time.Minute))
	for range mostSessions {
		s.begin("x", token, now)
	}
	if _, found := s.find(first, token, now); found || len(s.all) != mostSessions {
		t.Errorf("%d sessions, the first is still there: %t", len(s.all), found)
	}
	s.begin("y", token, now.Add(sessionLife))
	if len(s.all) != 1 {
		t.Errorf("%d sessions, of which all but one have expired", len(s.all))
	}
}

func TestLocalPath(t *testing.T) {
	for next, want := range map[string]string{
		"/dead-letters?q=a%20b": "/dead-letters?q=a%20b", "": "/", "//evil.example": "/", "///evil.example": "/", "/..//evil.example": "/..//evil.example", "https://evil.example": "/", "/\\evil.example": "/",
		"evil": "/", "javascript:alert(1)": "/", "/\tx": "/", "/a\r\nSet-Cookie: x": "/", "\\\\evil.example": "/", "/%zz": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q: %q, want %q", next, got, want)
		}
	}
}

func TestNamesOfPeople(t *testing.T) {
	for given, want := range map[string]string{
		"  Ann ": "Ann", "": "", "a\x1b[2J\u202eb": "a[2Jb", "\xff": "", strings.Repeat("é", 200): strings.Repeat("é", mostName),
	} {
		if got := nameOf(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
	// Without a login the name is remembered by the browser.
	s := newScene(t, &fakeOperator{count: 1}, Access{Loopback: true})
	w := s.request("POST", "/pause", url.Values{"why": {"x"}, "actor": {"Ann Ö"}})
	cookie := cookieOf(t, w.Header(), nameCookie)
	if cookie == nil || !cookie.HttpOnly {
		t.Fatalf("%v", w.Header())
	}
	s.request("POST", "/resume", nil, withCookie(nameCookie, cookie.Value))
	if _, _, _, orders := s.operator.seen(); len(orders) != 2 || orders[1] != "resume Ann Ö 192.0.2.1 " {
		t.Errorf("orders %q", orders)
	}
}
