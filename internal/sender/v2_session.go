package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

const (
	// sessionLife is how long a session lives where Stripe does not say.
	sessionLife = 15 * time.Minute

	// A session is renewed after renewAt of its life, beside the requests that use it, and
	// not used after useUntil of it.
	renewAt  = 2.0 / 3
	useUntil = 0.95

	// renewAgain is how long after a failed renewal the next one is tried, while the
	// old session is still good.
	renewAgain = 10 * time.Second

	// refusedFor is how long a refusal stands for those who ask next, at least: they are on
	// their way already, and of a key or mode the worker is about to halt.
	refusedFor = time.Second
)

// session is a token of the stream, opened with a key.
type session struct {
	token  string
	key    Key
	live   bool
	opened time.Time // before it was asked for
	life   time.Duration
}

// age is by the clock that makes it older: a monotonic one may stand still with the
// machine.
func (s *session) age(now time.Time) time.Duration {
	return max(now.Sub(s.opened), now.Round(0).Sub(s.opened.Round(0)))
}

func (s *session) past(share float64, now time.Time) bool {
	return float64(s.age(now)) >= share*float64(s.life)
}

// sessions keeps one session for everybody, and opens one at a time.
type sessions struct {
	v       *V2
	opening sync.WaitGroup

	mu      sync.Mutex
	current *session
	pending *renewal
	failed  time.Time // of the last renewal that failed
	refused *refusedKey
}

// renewal is a session being opened, for all who wait for it.
type renewal struct {
	done   chan struct{}
	key    Key
	live   bool
	told   atomic.Bool // the answer, to whom it counts for
	opened *session
	answer delivery.Answer // where there is none
}

type refusedKey struct {
	key    Key
	answer delivery.Answer
	until  time.Time
}

// get returns a session for the present key, or the answer for the events that would have
// used it.
func (s *sessions) get(ctx context.Context) (*session, delivery.Answer) {
	live := s.v.api.live()
	key, err := ParseKey(s.v.api.key())
	if err == nil && key.Live() != live {
		err = fmt.Errorf("the key %v is of the other mode; this worker needs a %s key", key, modeName(live))
	}
	if err != nil {
		return nil, classify(observation{end: endSetup, err: err})
	}
	for {
		current, pending, answer := s.look(key, live, time.Now())
		if pending == nil {
			return current, answer
		}
		select {
		case <-pending.done:
			if pending.live == live && pending.key.Equal(key) {
				return pending.opened, pending.tell()
			} // else it was begun with the key before, and says nothing of this one
		case <-ctx.Done():
			return nil, delivery.Answer{Class: delivery.NotSent, Detail: "no session in time"}
		}
	}
}

// tell is the answer, which counts once, however many waited for it.
func (r *renewal) tell() delivery.Answer {
	answer := r.answer
	answer.Shared = r.told.Swap(true)
	return answer
}

// look is a session that is good, or the one that is being opened, or a refusal.
func (s *sessions) look(key Key, live bool, now time.Time) (*session, *renewal, delivery.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current
	if c != nil && c.key.Equal(key) && c.live == live && !c.past(useUntil, now) {
		if c.past(renewAt, now) && s.pending == nil && now.Sub(s.failed) >= renewAgain {
			s.renew(key, live)
		}
		return c, nil, delivery.Answer{}
	}
	if r := s.refused; r != nil && r.key.Equal(key) && now.Before(r.until) {
		return nil, nil, r.answer
	}
	if s.pending == nil {
		s.renew(key, live)
	}
	return nil, s.pending, delivery.Answer{}
}

// renew opens another session, once for everybody. s.mu is held.
func (s *sessions) renew(key Key, live bool) {
	r := &renewal{done: make(chan struct{}), key: key, live: live}
	s.pending = r
	s.opening.Go(func() {
		defer close(r.done)
		r.opened, r.answer = s.open(key, live)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending = nil
		switch {
		case r.opened != nil:
			s.current, s.refused, s.failed = r.opened, nil, time.Time{}
		case r.answer.Class == delivery.SetupFault, r.answer.Status == http.StatusTooManyRequests:
			s.failed = time.Now()
			s.refused = &refusedKey{key, r.answer, s.failed.Add(max(r.answer.RetryAfter, refusedFor))}
		default:
			s.failed = time.Now()
		}
	})
}

// drop forgets a session that Stripe does not take any more.
func (s *sessions) drop(used *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == used {
		s.current = nil
	}
}

// open asks for a session: one request, one permit.
func (s *sessions) open(key Key, live bool) (*session, delivery.Answer) {
	api := s.v.api
	permit, err := s.v.permits.TakeUpTo(s.v.life, 1)
	if err != nil {
		return nil, delivery.Answer{Class: delivery.NotSent, Detail: errClosed.Error()}
	}
	defer permit.Done()
	x := newExchange(s.v.life, api, delivery.Attempt{Ready: permit.Spend, Written: permit.Done})
	defer x.cancel(nil)
	began := time.Now()
	out, err := http.NewRequestWithContext(x.traced(x.ctx), http.MethodPost,
		strings.TrimSuffix(api.base, "/")+sessionPath, io.NopCloser(bytes.NewReader([]byte("{}"))))
	if err == nil {
		out.ContentLength = 2
		out.Header.Set("Authorization", "Bearer "+key.Reveal())
		out.Header.Set("Content-Type", "application/json")
		out.Header.Set("Stripe-Version", api.version)
		err = x.carry(out)
	}
	o := x.outcome(err)
	opened, answer := o.session(live)
	s.v.made(answer.Class, time.Since(began))
	if opened != nil {
		opened.key, opened.live, opened.opened = key, live, began
	}
	return opened, answer
}

// session reads the answer to a request for one. Where there is none no event was sent, so
// that silence is NotSent here; whatever Stripe refuses is the set-up, as no event is involved.
func (o observation) session(live bool) (*session, delivery.Answer) {
	r := o.reply()
	answer := o.answer(o.class(r), r)
	switch {
	case o.end == endAnswered && o.status == http.StatusOK:
		opened, problem := readSession(o.body, live)
		if opened != nil {
			answer.Class, answer.Detail = delivery.Accepted, ""
			return opened, answer
		}
		answer.Class, answer.Detail = problem.class, problem.detail
	case answer.Class == delivery.Refused, answer.Class == delivery.Duplicate:
		answer.Class = delivery.SetupFault
	case answer.Class.MayHaveCounted(), answer.Class == delivery.Contended, answer.Class == delivery.Throttled:
		answer.Class = delivery.NotSent
	}
	return nil, answer
}

type sessionProblem struct {
	class  delivery.Class
	detail string
}

func readSession(body []byte, live bool) (*session, sessionProblem) {
	var reply struct {
		Token    string    `json:"authentication_token"`
		Created  time.Time `json:"created"`
		Expires  time.Time `json:"expires_at"`
		Livemode *bool     `json:"livemode"`
	}
	if json.Unmarshal(body, &reply) != nil || !validToken(reply.Token) {
		return nil, sessionProblem{delivery.NotSent, "the reply is not a session"}
	}
	if reply.Livemode != nil && *reply.Livemode != live {
		return nil, sessionProblem{delivery.SetupFault, "the session is of the other mode"}
	}
	life := reply.Expires.Sub(reply.Created)
	if life <= 0 || life > sessionLife || reply.Created.IsZero() {
		life = sessionLife
	}
	return &session{token: reply.Token, life: life}, sessionProblem{}
}

// maxToken bounds a token in bytes, so that the headers of a request stay small.
const maxToken = 4096

// validToken reports whether the token can stand in a header.
func validToken(token string) bool {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return token != "" && len(token) <= maxToken
}
