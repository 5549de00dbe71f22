package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

const nap = 30 * time.Hour

// TestSleepingBetweenTwoSteps freezes the worker for 30 h between any two steps. No
// request is made when an attempt of unknown outcome is older than the safe
// window; where there is none, a new intent is stored and the event goes out.
func TestSleepingBetweenTwoSteps(t *testing.T) {
	napOnce := func(nth int) func(context.Context) error {
		n := 0
		return func(context.Context) error {
			if n++; n == nth {
				pass(nap)
			}
			return nil
		}
	}
	dial := func(r reply) reply {
		r.dial = func(context.Context) { pass(nap) }
		return r
	}
	work := func(r reply) reply {
		r.working = func(context.Context) { pass(nap) }
		return r
	}
	delivered, ambiguous := "record delivered, ack", "record unknown dying, publish, record dead, ack"
	for name, c := range map[string]struct {
		script      []reply
		take, spend func(context.Context) error
		want        string
	}{
		"in the permit":                      {nil, napOnce(1), nil, "intent, record not-sent, intent, send, " + delivered},
		"while the permit is renewed":        {nil, nil, napOnce(1), "intent, record not-sent, intent, send, " + delivered},
		"while dialling":                     {[]reply{dial(reply{})}, nil, nil, "intent, record not-sent, intent, send, " + delivered},
		"in the permit, after a 429":         {[]reply{limited}, napOnce(2), nil, "intent, send, record not-sent, intent, send, " + delivered},
		"in the permit, after silence":       {[]reply{silent}, napOnce(2), nil, "intent, send, " + ambiguous},
		"while the permit is renewed, after": {[]reply{silent}, nil, napOnce(2), "intent, send, " + ambiguous},
		"while dialling, after a 500":        {[]reply{counted(failed), dial(reply{})}, nil, nil, "intent, send, " + ambiguous},
		"before silence":                     {[]reply{work(silent)}, nil, nil, "intent, send, " + ambiguous},
		"before a 429":                       {[]reply{work(limited)}, nil, nil, "intent, send, record not-sent, intent, send, " + delivered},
		"before a 200":                       {[]reply{work(counted(reply{Answer: okAnswer}))}, nil, nil, "intent, send, " + delivered},
		"after silence, before a 429":        {[]reply{silent, work(limited)}, nil, nil, "intent, " + sends(2) + ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.script["a"] = c.script
				w.permits.take, w.permits.spend = c.take, c.spend
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				check(t, "effects", strings.Join(w.effects(), ", "), c.want)
				for _, l := range w.letters.all() {
					check(t, "reason", l.Reason, deadletter.Ambiguous)
					check(t, "outcome", l.Outcome, deadletter.Unknown)
					check(t, "detail", l.Detail, pastWindow)
				}
			})
		})
	}
}

// TestSleepingInTheJournal: the moment of the intent is one before it was stored, and
// counts.
func TestSleepingInTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := 0
		w.store.appended = func() {
			if n++; n == 1 {
				pass(nap)
			}
		}
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		check(t, "effects", strings.Join(w.effects(), ", "), "intent, record not-sent, intent, send, record delivered, ack")
	})
}

// TestLongBackOff: a wait that ends past the window.
func TestLongBackOff(t *testing.T) {
	for name, c := range map[string]struct {
		first reply
		want  string
	}{
		"after silence": {silent, "intent, send, record unknown dying, publish, record dead, ack"},
		"after a 429":   {limited, "intent, send, record not-sent, intent, send, record delivered, ack"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.first.RetryAfter = nap
				w.stripe.script["a"] = []reply{c.first}
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				check(t, "effects", strings.Join(w.effects(), ", "), c.want)
			})
		})
	}
}

// TestWindowIsReckonedFromTheOldestAttempt: silence for a day ends at the window, to
// the minute, however young the last attempt is, and over several lives.
func TestWindowIsReckonedFromTheOldestAttempt(t *testing.T) {
	for _, lives := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(lives), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.rule = func(Attempt) *reply { return &silent }
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				began := time.Now()
				for range lives - 1 {
					l := w.start()
					elapse(time.Hour)
					l.drain()
					elapse(time.Minute)
				}
				once(t, w, m)
				made := w.stripe.made("a")
				if last := made[len(made)-1].at.Sub(began); last >= window || last < window-time.Minute {
					t.Errorf("the last request was made after %v", last)
				}
				letters := w.letters.all()
				need(t, "dead letters", len(letters), 1)
				check(t, "reason", letters[0].Reason, deadletter.Ambiguous)
				check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
			})
		})
	}
}

// TestHandedBackWithUnknownAndWithout: what a drain records, and what the age of it
// means a day later.
func TestHandedBackWithUnknownAndWithout(t *testing.T) {
	for name, c := range map[string]struct {
		first reply
		end   string
		dead  int
	}{
		"unknown":  {silent, "record unknown, nak", 1},
		"not sent": {limited, "record not-sent, nak", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.first.RetryAfter = time.Minute
				w.stripe.script["a"] = []reply{c.first}
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				l := w.start()
				elapse(10 * time.Second)
				l.drain()
				effects := w.effects()
				check(t, "effects", strings.Join(effects[len(effects)-2:], ", "), c.end)
				check(t, "open intents", l.journal.Open(), 0)
				elapse(nap)
				once(t, w, m)
				need(t, "dead letters", len(w.letters.all()), c.dead)
				check(t, "counted", len(w.stripe.counted["a"]), 1-c.dead)
			})
		})
	}
}

// TestTooOldByNow: an event that was accepted for its timestamp once and is
// refused for it by now is settled by what became of it in time.
func TestTooOldByNow(t *testing.T) {
	const month = 36 * 24 * time.Hour
	old := func(id string) []byte { return datedBody(id, "cus_1", 7, time.Now().Add(-34*24*time.Hour)) }
	for name, c := range map[string]struct {
		prepare func(t *testing.T, w *world, m *stored)
		want    string // disposition or reason
		outcome deadletter.Outcome
	}{
		"never tried": {func(*testing.T, *world, *stored) {}, "timestamp_too_far_in_past", deadletter.Refused},
		"delivered, the ack was lost": {func(t *testing.T, w *world, m *stored) {
			t.Helper()
			once(t, w, m)
			w.outbox.again(m)
		}, "delivered", ""},
		"published twice": {func(t *testing.T, w *world, m *stored) {
			t.Helper()
			once(t, w, m)
			w.outbox.publish(m.subject, m.body, nil)
		}, "duplicate", ""},
		"perhaps sent": {func(t *testing.T, w *world, _ *stored) {
			t.Helper()
			w.crash = crash{at: 2, performed: true}
			l := w.start()
			<-l.served
			l.drain()
		}, "timestamp_too_far_in_past", deadletter.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.outbox.publish(subject("cus_1"), old("a"), nil)
				c.prepare(t, w, m)
				elapse(month - 34*24*time.Hour)
				before, delivered := w.settledAs(Disposition(c.want)), w.settledAs(Delivered)
				once(t, w, m)
				letters := w.letters.all()
				if c.outcome == "" {
					need(t, "dead letters", len(letters), 0)
					check(t, c.want, w.settledAs(Disposition(c.want)), before+1)
				} else {
					need(t, "dead letters", len(letters), 1)
					check(t, "reason", string(letters[0].Reason), c.want)
					check(t, "outcome", letters[0].Outcome, c.outcome)
					check(t, "delivered", w.settledAs(Delivered), delivered)
				}
				if n := len(w.stripe.made("")); n > 1 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// TestBadMessages: the reason is the parser's, the outcome is "refused", and a
// redelivery of what is buried only acks.
func TestBadMessages(t *testing.T) {
	for name, c := range map[string]struct {
		subject string
		body    string
		reason  deadletter.Reason
	}{
		"empty":         {subject("cus_1"), "", deadletter.Undecodable},
		"other subject": {subject("cus_2"), string(body("a", 1)), deadletter.SubjectMismatch},
		"too large":     {subject("cus_1"), strings.Repeat(" ", 70000), deadletter.TooLarge},
		"ancient":       {subject("cus_1"), `{"event_name":"api_calls","identifier":"a","timestamp":-9223372036854775808,"payload":{"stripe_customer_id":"cus_1","value":1}}`, deadletter.TimestampTooFarInPast},
		"far ahead":     {subject("cus_1"), `{"event_name":"api_calls","identifier":"a","timestamp":9223372036854775807,"payload":{"stripe_customer_id":"cus_1","value":1}}`, deadletter.TimestampInFuture},
		"milliseconds":  {subject("cus_1"), `{"event_name":"api_calls","identifier":"a","timestamp":1760612775000,"payload":{"stripe_customer_id":"cus_1","value":1}}`, deadletter.TimestampInFuture},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.outbox.publish(c.subject, []byte(c.body), nil)
				once(t, w, m)
				w.outbox.again(m)
				once(t, w, m)
				letters := w.letters.all()
				need(t, "dead letters", len(letters), 1)
				check(t, "reason", letters[0].Reason, c.reason)
				check(t, "outcome", letters[0].Outcome, deadletter.Refused)
				check(t, "body", letters[0].body, c.body)
				check(t, "requests", len(w.stripe.made("")), 0)
				check(t, "dead, twice handed out", w.settledAs(Buried), 2)
				check(t, "publications", w.letters.published, 1)
				if slices.Contains(w.effects(), "intent") {
					t.Error("an intent was stored for it")
				}
			})
		})
	}
}
