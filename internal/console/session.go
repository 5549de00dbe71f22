package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	sessionCookie = "meterworker_session"
	nameCookie    = "meterworker_name"
	sessionLife   = 12 * time.Hour // a working day; a stolen cookie dies with it
	mostSessions  = 1000
	mostName      = 100 // characters of a person's name

	// Wrong tokens: so many at once, then one each so often, over all clients. A token of
	// 16 bytes is not guessed at that pace, and a script with a stale one fills no log.
	wrongAtOnce = 10
	wrongEvery  = 5 * time.Second
)

// session is one login. It ends with the token that it was made with.
type session struct {
	who     string
	token   [sha256.Size]byte
	expires time.Time
}

// sessions are the logins, by the hash of their id: what is in memory opens nothing.
type sessions struct {
	mu    sync.Mutex
	all   map[[sha256.Size]byte]session
	wrong float64   // wrong tokens that are still free
	at    time.Time // when that was so
}

func newSessions() *sessions {
	return &sessions{all: map[[sha256.Size]byte]session{}, wrong: wrongAtOnce}
}

// begin makes a session and returns its id.
func (s *sessions) begin(who, token string, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.all {
		if !now.Before(old.expires) {
			delete(s.all, key)
		}
	}
	if len(s.all) >= mostSessions {
		s.forgetOldest()
	}
	id := rand.Text()
	s.all[sha256.Sum256([]byte(id))] = session{who, sha256.Sum256([]byte(token)), now.Add(sessionLife)}
	return id
}

func (s *sessions) forgetOldest() {
	var oldest [sha256.Size]byte
	var expires time.Time
	for key, old := range s.all {
		if expires.IsZero() || old.expires.Before(expires) {
			oldest, expires = key, old.expires
		}
	}
	delete(s.all, oldest)
}

// find returns who is signed in under an id.
func (s *sessions) find(id, token string, now time.Time) (who string, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(id))
	known, found := s.all[key]
	if !found {
		return "", false
	}
	if !now.Before(known.expires) || known.token != sha256.Sum256([]byte(token)) {
		delete(s.all, key)
		return "", false
	}
	return known.who, true
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(id)))
}

// mayTry reports whether a token may be tried now.
func (s *sessions) mayTry(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill(now)
	return s.wrong >= 1
}

func (s *sessions) refill(now time.Time) {
	if !s.at.IsZero() {
		s.wrong = min(wrongAtOnce, s.wrong+now.Sub(s.at).Seconds()/wrongEvery.Seconds())
	}
	s.at = now
}

func (s *sessions) wasWrong(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill(now)
	s.wrong = max(0, s.wrong-1)
}

// sameToken compares hashes, so that neither content nor length shows in the time it takes.
func sameToken(given, wanted string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(wanted))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// nameOf is a person's name as the audit trail takes it.
func nameOf(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	runes := []rune(strings.TrimSpace(text))
	return string(runes[:min(len(runes), mostName)])
}

// setCookie sets one that no script reads and no other site sends. Behind a proxy that ends
// TLS it goes over TLS only, too.
func setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	secure := r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: on loopback and behind `kubectl port-forward` there is no TLS
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second), HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	})
}
