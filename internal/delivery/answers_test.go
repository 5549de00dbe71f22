package delivery

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestServerFaults: three requests in all, and what the letter says of them.
func TestServerFaults(t *testing.T) {
	no := failed
	no.ShouldRetry = RetryNo
	yes := failed
	yes.ShouldRetry = RetryYes
	mixed := []reply{failed, limited, silent, contended, unsent, strange, limited, failed}
	for name, c := range map[string]struct {
		script   []reply
		requests int
		attempts int
		reason   deadletter.Reason
	}{
		"always 500":                        {[]reply{failed, failed, failed, failed}, 3, 3, deadletter.ServerError},
		"retry, says Stripe, for ever":      {[]reply{yes, yes, yes, yes}, 3, 3, deadletter.ServerError},
		"do not retry":                      {[]reply{no, no}, 1, 1, deadletter.ServerError},
		"do not retry, the second time":     {[]reply{failed, no, no}, 2, 2, deadletter.ServerError},
		"outside the contract":              {[]reply{strange, strange, strange, strange}, 3, 3, deadletter.UnexpectedResponse},
		"with throttling and silence in it": {mixed, 7, 4, deadletter.ServerError},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.script["a"] = c.script
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				check(t, "requests", len(w.stripe.made("a")), c.requests)
				letters := w.letters.all()
				need(t, "dead letters", len(letters), 1)
				check(t, "reason", letters[0].Reason, c.reason)
				check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
				check(t, "attempts", letters[0].Attempts, c.attempts)
			})
		})
	}
}

// keys runs one event through the script and returns the Idempotency-Keys as
// letters: the same letter, the same key.
func keys(t *testing.T, script ...reply) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["a"] = script
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		known := map[string]byte{}
		for _, r := range w.stripe.made("") {
			check(t, "identifier", r.identifier, "a")
			if len(r.key) > 255 || strings.Contains(r.key, "cus_1") {
				t.Errorf("key %q", r.key)
			}
			if known[r.key] == 0 {
				known[r.key] = byte('a' + len(known))
			}
			out.WriteByte(known[r.key])
		}
	})
	return out.String()
}

func TestIdempotencyKeys(t *testing.T) {
	cutBody := silent
	cutBody.Status = 200 // the status came, the body did not: no answer
	for name, c := range map[string]struct {
		script []reply
		want   string
	}{
		"500":                   {[]reply{failed, failed, failed}, "abc"},
		"no answer":             {[]reply{silent, silent, silent}, "aaaa"},
		"cut body":              {[]reply{cutBody, cutBody}, "aaa"},
		"no answer, 500":        {[]reply{silent, failed, silent}, "aabb"},
		"429":                   {[]reply{limited, limited}, "abc"},
		"409":                   {[]reply{contended, silent}, "abb"},
		"outside the contract":  {[]reply{strange}, "ab"},
		"not sent is no answer": {[]reply{unsent, silent, unsent}, "aa"},
	} {
		t.Run(name, func(t *testing.T) { check(t, "keys", keys(t, c.script...), c.want) })
	}
}

func TestANewLifeHasNewKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.crash = crash{at: 2, performed: true} // the request
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		first := w.start()
		<-first.served
		first.drain()
		once(t, w, m)
		made := w.stripe.made("a")
		check(t, "requests", len(made), 2)
		if made[0].key == made[1].key {
			t.Error("the same key in two lives")
		}
		check(t, "counted", len(w.stripe.counted["a"]), 1)
	})
}

// TestStorm: a thousand 429s and a thousand 409s bury nothing and spend nothing.
func TestStorm(t *testing.T) {
	after := limited
	after.RetryAfter = 7 * time.Second
	for name, c := range map[string]struct {
		reply     reply
		throttled int
	}{"429": {limited, 1000}, "429 with Retry-After": {after, 1000}, "409": {contended, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for range 1000 {
					w.stripe.script["a"] = append(w.stripe.script["a"], c.reply)
				}
				w.stripe.script["a"] = append(w.stripe.script["a"], failed, failed) // nothing was spent: two are left
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				need(t, "dead letters", len(w.letters.all()), 0)
				check(t, "counted", len(w.stripe.counted["a"]), 1)
				check(t, "told to the bucket", len(w.permits.throttled), c.throttled)
				if c.throttled > 0 {
					check(t, "Retry-After", w.permits.throttled[0], c.reply.RetryAfter)
				}
				made := w.stripe.made("a")
				check(t, "requests", len(made), 1003)
				check(t, "permits", w.permits.taken, 1003)
				for i := 1; i < 1000; i++ {
					if made[i].at.Sub(made[i-1].at) < c.reply.RetryAfter {
						t.Fatalf("request %d came %v after the one before", i, made[i].at.Sub(made[i-1].at))
					}
				}
			})
		})
	}
}

// TestALaterRefusalDoesNotResolveAnEarlierUnknown: the letter must say that Stripe
// may have counted it.
func TestALaterRefusalDoesNotResolveAnEarlierUnknown(t *testing.T) {
	for name, script := range map[string][]reply{
		"after a 500":      {counted(failed), refusedForGood},
		"after silence":    {counted(silent), limited, refusedForGood},
		"of a former life": {refusedForGood},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				if len(script) == 1 { // dies right after the request
					w.crash = crash{at: 2, performed: true}
					first := w.start()
					<-first.served
					first.drain()
				}
				w.stripe.script["a"] = script
				once(t, w, m)
				letters := w.letters.all()
				need(t, "dead letters", len(letters), 1)
				check(t, "reason", letters[0].Reason, deadletter.Rejected)
				check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
				check(t, "request", letters[0].RequestID, "req_400")
			})
		})
	}
}

func TestTheLetterOfARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["a"] = []reply{limited, refusedForGood}
		m := w.outbox.publish(subject("cus_1"), body("a", 7), map[string]string{"Nats-Rollup": "all", "X-Producer": "p"})
		once(t, w, m)
		got := w.letters.all()[0]
		want := deadletter.Letter{
			Reason: deadletter.Rejected, Outcome: deadletter.Refused, Detail: "no", Code: "parameter_invalid", Status: 400,
			RequestID: "req_400", Attempts: 1, FirstAttempt: got.FirstAttempt, LastAttempt: got.LastAttempt, DeadAt: got.DeadAt,
			Subject: m.subject, Sequence: 1, StoredAt: m.at, Identifier: "a", Timestamp: m.at.Unix(),
		}
		check(t, "letter", got.Letter, want)
		check(t, "id", got.id, "dlq-e1-1-rejected")
		if !got.FirstAttempt.Before(got.LastAttempt) || got.DeadAt.Before(got.LastAttempt) {
			t.Errorf("first %v, last %v, dead %v", got.FirstAttempt, got.LastAttempt, got.DeadAt)
		}
		for name := range got.head {
			if !strings.HasPrefix(name, "Meterworker-") {
				t.Errorf("header %q was carried over", name)
			}
		}
	})
}

// TestAttemptCutShort: cut ends the request under way; its outcome is recorded as
// unknown and the message handed back.
func TestAttemptCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow := reply{Answer: okAnswer, counts: true, working: func(ctx context.Context) { _ = passOr(ctx, time.Hour) }}
		w.stripe.script["a"] = []reply{slow}
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		elapse(time.Minute)
		l.end()
		elapse(time.Minute)
		check(t, "handed back before the cut", len(m.naks), 0)
		l.cutNow()
		l.drain()
		check(t, "effects", strings.Join(w.effects(), ", "), "intent, send, record unknown, nak")
		once(t, w, m)
		check(t, "counted", len(w.stripe.counted["a"]), 1)
		need(t, "dead letters", len(w.letters.all()), 0)
	})
}
