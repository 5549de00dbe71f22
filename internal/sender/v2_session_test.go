package sender

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// expiring answers that the session has expired, to any but the token.
func expiring(status int, token string) func(batch) said {
	return func(b batch) said {
		if b.token != token {
			return said{status: status, body: errorBody(expiredCode, "The session has expired.", "")}
		}
		return ok
	}
}

// Many batches that meet an expired session share one new one, and go again; no attempt
// is spent. By its code, whatever the status.
func TestSessionExpiresForMany(t *testing.T) {
	for _, status := range []int{400, 401} {
		synctest.Test(t, func(t *testing.T) {
			s := &stripeV2{latency: time.Second, answer: expiring(status, "token-2")}
			v := s.open(t)
			defer s.close(v)
			for identifier, a := range sendAll(t, v, attempts(t, 500)) {
				if a.Class != delivery.Accepted {
					t.Errorf("%d, %s: %+v", status, identifier, a)
				}
			}
			if len(s.opened) != 2 {
				t.Errorf("%d: %d sessions", status, len(s.opened))
			}
		})
	}
}

// A session that Stripe does not know is worth one new one; when that is refused too, the
// set-up is wrong.
func TestUnknownSession(t *testing.T) {
	unknown := said{status: 401, body: errorBody("invalid_authentication_token", "Invalid authentication token.", "")}
	for _, c := range []struct {
		known string
		want  delivery.Class
	}{{"token-2", delivery.Accepted}, {"none", delivery.SetupFault}} {
		synctest.Test(t, func(t *testing.T) {
			s := &stripeV2{answer: func(b batch) said {
				if b.token != c.known {
					return unknown
				}
				return ok
			}}
			v := s.open(t)
			defer s.close(v)
			if a := v.Send(t.Context(), attemptOf(t, "e1")); a.Class != c.want {
				t.Errorf("%s: %+v, want %v", c.known, a, c.want)
			}
			if len(s.batches) != 2 {
				t.Errorf("%d requests", len(s.batches))
			}
		})
	}
}

// One expired session after the other: nothing was executed, and the event goes again later.
func TestSessionsExpireOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{answer: expiring(401, "none")}
		v := s.open(t)
		defer s.close(v)
		for identifier, a := range together(t, v, attempts(t, 5)) {
			if a.Class != delivery.NotSent {
				t.Errorf("%s: %+v", identifier, a)
			}
		}
		if len(s.batches) != 2 {
			t.Errorf("%d requests", len(s.batches))
		}
	})
}

// Over hours, no event meets an expired session, and none waits for a new one.
func TestSessionIsRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := map[string]time.Time{}
		s := &stripeV2{life: 15 * time.Minute}
		s.session = func(nth int) said {
			opened["token-"+string(rune('0'+nth))] = time.Now()
			return said{}
		}
		s.answer = func(b batch) said {
			s.mu.Lock() // session is called under it
			defer s.mu.Unlock()
			if age := time.Since(opened[b.token]); age >= s.life {
				t.Errorf("%s is used %v after it was opened", b.token, age)
			}
			return ok
		}
		v := s.open(t)
		defer s.close(v)
		for range 80 {
			v.Send(t.Context(), attemptOf(t, "e1"))
			wait(time.Minute)
		}
		if n := len(s.opened); n < 6 || n > 9 {
			t.Errorf("%d sessions in 80 minutes", n)
		}
	})
}

// A rotated key opens a session of its own, at once.
func TestSessionOfARotatedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{}
		v := s.open(t)
		defer s.close(v)
		v.Send(t.Context(), attemptOf(t, "e1"))
		s.mu.Lock()
		s.key = "rk_live_51second"
		s.mu.Unlock()
		v.Send(t.Context(), attemptOf(t, "e2"))
		if want := []string{liveKey, "rk_live_51second"}; !slices.Equal(s.opened, want) || s.batches[1].token != "token-2" {
			t.Errorf("sessions of %v, then %+v", s.opened, s.batches)
		}
	})
}

// What becomes of the events when there is no session: never an unknown outcome, since
// nothing of them was sent.
func TestNoSession(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer said
		want   delivery.Class
		opened int // requests for two attempts, one right after the other
	}{
		{"revoked key", said{status: 401, body: errorBody("api_key_expired", "", "")}, delivery.SetupFault, 1},
		{"no right", said{status: 403, body: errorBody("", "", "")}, delivery.SetupFault, 1},
		{"test mode", said{status: 400, body: errorBody("livemode_required", "", "")}, delivery.SetupFault, 1},
		{"of the other mode", said{status: 200, body: `{"authentication_token":"x","livemode":false}`}, delivery.SetupFault, 1},
		{"500", said{status: 500}, delivery.NotSent, 2},
		{"429", said{status: 429, body: errorBody("rate_limit", "", "")}, delivery.NotSent, 1}, // one request was refused, not what waited for it
		{"cut", said{status: 1, cut: true}, delivery.NotSent, 2},
		{"HTML", said{status: 200, body: "<html>"}, delivery.NotSent, 2},
		{"no token", said{status: 200, body: `{"livemode":true}`}, delivery.NotSent, 2},
		{"a token that splits the header", said{status: 200, body: `{"authentication_token":"x\r\ny"}`}, delivery.NotSent, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stripeV2{session: func(int) said { return c.answer }}
				v := s.open(t)
				defer s.close(v)
				for range 2 {
					if a := v.Send(t.Context(), attemptOf(t, "e1")); a.Class != c.want {
						t.Errorf("%+v, want %v", a, c.want)
					}
				}
				if len(s.batches) != 0 || len(s.opened) != c.opened {
					t.Errorf("%d requests with events, %d for sessions", len(s.batches), len(s.opened))
				}
			})
		})
	}
}

// While the session is good, a renewal that fails is tried again now and then only.
func TestRenewalThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stripeV2{session: func(nth int) said {
			if nth > 1 {
				return said{status: 500}
			}
			return said{}
		}}
		v := s.open(t)
		defer s.close(v)
		v.Send(t.Context(), attemptOf(t, "e0"))
		wait(11 * time.Minute)
		for range 60 {
			if a := v.Send(t.Context(), attemptOf(t, "e1")); a.Class != delivery.Accepted {
				t.Fatalf("%+v", a)
			}
			wait(time.Second)
		}
		if n := len(s.opened); n < 5 || n > 8 {
			t.Errorf("%d tries in a minute", n-1)
		}
	})
}

// A machine that slept does not use a session that has expired meanwhile.
func TestSessionAges(t *testing.T) {
	now := time.Now()
	s := &session{opened: now.Add(-time.Minute), life: sessionLife}
	if s.past(useUntil, now) || !s.past(useUntil, now.Add(sessionLife)) {
		t.Error("not by its life")
	}
	s.opened = now.Add(-time.Hour).Round(0) // the monotonic clock stood still
	if !s.past(useUntil, now) {
		t.Error("not by the wall clock")
	}
}

// A session that is being opened with the key before says nothing of the present one.
func TestSessionOfTheKeyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const next = "rk_live_51second"
		s, hold := &stripeV2{}, make(chan struct{})
		s.session = func(nth int) said {
			if s.opened[nth-1] == next {
				return said{}
			}
			s.mu.Unlock()
			<-hold
			s.mu.Lock()
			return said{status: 401, body: errorBody("api_key_expired", "", "")}
		}
		v := s.open(t)
		defer s.close(v)
		old, fresh := make(chan delivery.Answer, 1), make(chan delivery.Answer, 1)
		go func() { old <- v.Send(t.Context(), attemptOf(t, "e1")) }()
		wait(100 * time.Millisecond)
		s.mu.Lock()
		s.key = next
		s.mu.Unlock()
		go func() { fresh <- v.Send(t.Context(), attemptOf(t, "e2")) }()
		wait(100 * time.Millisecond)
		close(hold)
		if a := <-old; a.Class != delivery.SetupFault {
			t.Errorf("with the key before: %+v", a)
		}
		if a := <-fresh; a.Class != delivery.Accepted {
			t.Errorf("with the present key: %+v", a)
		}
	})
}

// A request for a session that fails is one failure, however many batches wait for it.
func TestFailedSessionCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dropped := &stripeV2{}, false
		s.session = func(nth int) said {
			if nth != 2 {
				return said{}
			}
			s.mu.Unlock()
			wait(300 * time.Millisecond) // all of them wait by then
			s.mu.Lock()
			return said{status: 500}
		}
		s.answer = func(b batch) said {
			if b.token == "token-1" && dropped {
				return said{status: 401, body: errorBody(expiredCode, "x", "")}
			}
			return ok
		}
		v := s.open(t)
		defer s.close(v)
		v.Send(t.Context(), attemptOf(t, "first"))
		dropped = true
		counted, failed := 0, 0
		for _, a := range sendAll(t, v, attempts(t, 1000)) {
			if a.Class == delivery.NotSent {
				failed++
				if !a.Shared {
					counted++
				}
			}
		}
		if counted != 1 || failed < 2 {
			t.Errorf("%d of %d failures count, want 1 of many", counted, failed)
		}
	})
}
