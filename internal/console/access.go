package console

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Access says who may use page and API.
type Access struct {
	// Loopback tells that the address is reachable from this host only.
	Loopback bool
	// Token returns the token in force; nil: none is asked for. Beyond loopback there is
	// neither page nor API without one.
	Token func() string
	// ReadOnly refuses everything that changes something.
	ReadOnly bool
}

// offered reports whether there are a page and an API at all.
func (a Access) offered() bool { return a.Loopback || a.Token != nil }

// visitor is whoever makes a request.
type visitor struct {
	who     Who
	session bool        // signed in by a form; it has an end
	still   func() bool // whether they may still look
}

// need is what a route asks of a visitor.
type need int

const (
	nothing need = iota // before anybody is known: the login and what it looks like
	toLook
	toChange
)

// route is one address of the page or the API.
type route struct {
	pattern string // method and path
	need    need
	serve   func(http.ResponseWriter, *http.Request, visitor)
}

// longestForm bounds a body: an event of 64 KiB whose every byte is written %XX, and the rest.
const longestForm = 3*(64<<10) + 16<<10

// admit lets a request through to its route, or says why not.
func (p *Pages) admit(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stranger := visitor{who: Who{Remote: remoteOf(r)}, still: func() bool { return true }}
		if p.access.Token == nil && !isLoopback(r.Host) {
			p.fail(w, r, stranger, http.StatusMisdirectedRequest, "this address is for requests to a loopback name, such as localhost")
			return
		}
		v, refusal := p.recognise(r, stranger)
		switch {
		case route.need == nothing:
		case refusal != 0:
			p.turnAway(w, r, stranger, refusal)
			return
		case route.need == toChange && p.access.ReadOnly:
			p.fail(w, r, v, http.StatusForbidden, "this console is read-only (METERWORKER_ADMIN_READ_ONLY)")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, longestForm)
		if err := r.ParseForm(); err != nil {
			p.fail(w, r, v, http.StatusBadRequest, "the form cannot be read: "+err.Error())
			return
		}
		v.who.Name = firstOf(nameOf(r.PostForm.Get("actor")), v.who.Name)
		route.serve(w, r, v)
	})
}

// recognise finds out who it is; refusal is 0, or the status of the answer.
func (p *Pages) recognise(r *http.Request, v visitor) (_ visitor, refusal int) {
	if p.access.Token == nil {
		if cookie, err := r.Cookie(nameCookie); err == nil {
			if name, err := url.QueryUnescape(cookie.Value); err == nil {
				v.who.Name = nameOf(name)
			}
		}
		return v, 0
	}
	if given, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
		return v, p.tryToken(given)
	}
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return v, http.StatusUnauthorized
	}
	name, found := p.sessions.find(cookie.Value, p.access.Token(), time.Now())
	if !found {
		return v, http.StatusUnauthorized
	}
	v.who.Name, v.session = name, true
	v.still = func() bool {
		_, still := p.sessions.find(cookie.Value, p.access.Token(), time.Now())
		return still
	}
	return v, 0
}

// tryToken compares a token with the one in force; 0 is the same.
func (p *Pages) tryToken(given string) (refusal int) {
	if !p.sessions.mayTry(time.Now()) {
		return http.StatusTooManyRequests
	}
	if !sameToken(given, p.access.Token()) {
		p.sessions.wasWrong(time.Now())
		return http.StatusUnauthorized
	}
	return 0
}

// turnAway sends people to the login, and tells programs what is missing.
func (p *Pages) turnAway(w http.ResponseWriter, r *http.Request, v visitor, status int) {
	login := "/login"
	if r.Method == http.MethodGet {
		login += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
	}
	switch {
	case status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
		p.fail(w, r, v, status, "too many wrong tokens; wait a few seconds")
	case wantsJSON(r):
		w.Header().Set("WWW-Authenticate", `Bearer realm="meterworker"`)
		p.fail(w, r, v, status, "a token is asked for: Authorization: Bearer, with what is in the file of METERWORKER_ADMIN_TOKEN_FILE")
	case isFragment(r):
		w.Header().Set("Hx-Redirect", "/login")
		w.WriteHeader(status)
	default:
		http.Redirect(w, r, login, http.StatusSeeOther)
	}
}

// isLoopback keeps pages of other sites out, whose names are made to point here: the browser
// says by which name it came. Where there is a token, they do not have it. The port is the
// caller's, who may come through a tunnel.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func remoteOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
