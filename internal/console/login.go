package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

type loginView struct{ Next, Problem string }

func (p *Pages) loginPage(w http.ResponseWriter, r *http.Request, v visitor) {
	next := r.Form.Get("next")
	if p.access.Token == nil || v.session {
		goOn(w, r, next)
		return
	}
	p.show(w, r, v, http.StatusOK, "login", page{Title: "Sign in", Data: loginView{Next: localPath(next)}})
}

// login makes a session. The token is never shown again, and the answer to a wrong one says
// nothing but that.
func (p *Pages) login(w http.ResponseWriter, r *http.Request, v visitor) {
	next := r.PostForm.Get("next")
	if p.access.Token == nil {
		goOn(w, r, next)
		return
	}
	token := p.access.Token()
	var problem string
	status := p.tryToken(strings.TrimSpace(r.PostForm.Get("token")))
	switch status {
	case 0:
		id := p.sessions.begin(nameOf(r.PostForm.Get("name")), token, time.Now())
		setCookie(w, r, sessionCookie, id, sessionLife)
		goOn(w, r, next)
		return
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
		problem = "Too many wrong tokens. Wait a few seconds."
	default:
		problem = "That is not the token."
	}
	p.show(w, r, v, status, "login", page{Title: "Sign in", Data: loginView{localPath(next), problem}})
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request, _ visitor) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		p.sessions.end(cookie.Value)
	}
	setCookie(w, r, sessionCookie, "", -time.Second)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// goOn takes a person to a path of ours.
func goOn(w http.ResponseWriter, r *http.Request, next string) {
	http.Redirect(w, r, localPath(next), http.StatusSeeOther) //nolint:gosec // G710: localPath lets nothing lead away
}

// localPath is where to go after the login: a path of ours, whatever the link says.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
