package delivery

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// sends is the trace of n requests in a row.
func sends(n int) string { return strings.Repeat("send, ", n) }

// TestOrderOfEffects holds the order of what reaches the outside: intent before
// send, record before ack, unknown and dying before publish before dead before ack.
func TestOrderOfEffects(t *testing.T) {
	for name, c := range map[string]struct {
		script []reply
		body   []byte
		want   string
	}{
		"delivered":    {nil, body("a", 1), "intent, send, record delivered, ack"},
		"refused":      {[]reply{refusedForGood}, body("a", 1), "intent, send, record dying, publish, record dead, ack"},
		"unparsable":   {nil, []byte("{"), "record dying, publish, record dead, ack"},
		"always 500":   {[]reply{failed, failed, failed}, body("a", 1), "intent, " + sends(3) + "record unknown dying, publish, record dead, ack"},
		"500, refused": {[]reply{failed, refusedForGood}, body("a", 1), "intent, " + sends(2) + "record unknown dying, publish, record dead, ack"},
		"throttled":    {[]reply{limited, limited}, body("a", 1), "intent, " + sends(3) + "record delivered, ack"},
		"not sent":     {[]reply{unsent}, body("a", 1), "intent, send, record delivered, ack"},
		"silence":      {[]reply{counted(silent)}, body("a", 1), "intent, " + sends(2) + "record delivered, ack"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.script["a"] = c.script
				once(t, w, w.outbox.publish(subject("cus_1"), c.body, nil))
				check(t, "effects", strings.Join(w.effects(), ", "), c.want)
			})
		})
	}
}

// TestFaultOfOneStep lets each step fail, performed or not, and says what must not
// have happened before the worker gave up, and that the next life mends it.
func TestFaultOfOneStep(t *testing.T) {
	for name, c := range map[string]struct {
		step   string
		f      fault
		script []reply
		until  string // the effects of the first life
		dead   int
	}{
		"intent refused":              {"intent", fault{lost: true}, nil, "intent, drop", 0},
		"intent stored, lost":         {"intent", fault{performed: true, lost: true}, nil, "intent, drop", 0},
		"delivered refused":           {"record delivered", fault{lost: true}, nil, "intent, send, record delivered, drop", 0},
		"delivered stored, lost":      {"record delivered", fault{performed: true, lost: true}, nil, "intent, send, record delivered, drop", 0},
		"dying refused":               {"record dying", fault{lost: true}, []reply{refusedForGood, refusedForGood}, "intent, send, record dying, drop", 1},
		"dying stored, lost":          {"record dying", fault{performed: true, lost: true}, []reply{refusedForGood}, "intent, send, record dying, drop", 1},
		"unknown and dying refused":   {"record unknown dying", fault{lost: true}, []reply{failed, refusedForGood, refusedForGood}, "intent, " + sends(2) + "record unknown dying, drop", 1},
		"publication failed, lost":    {"publish", fault{lost: true}, []reply{refusedForGood}, "intent, send, record dying, publish, nak", 1},
		"publication stored, lost":    {"publish", fault{performed: true, lost: true}, []reply{refusedForGood}, "intent, send, record dying, publish, nak", 1},
		"dead refused":                {"record dead", fault{lost: true}, []reply{refusedForGood}, "intent, send, record dying, publish, record dead, drop", 1},
		"dead stored, lost":           {"record dead", fault{performed: true, lost: true}, []reply{refusedForGood}, "intent, send, record dying, publish, record dead, drop", 1},
		"not sent unrecorded on stop": {"record not-sent", fault{lost: true}, []reply{unauthorized}, "intent, send, record not-sent, drop", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stripe.script["a"] = c.script
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				w.fail(c.step, c.f)
				l := w.start()
				<-l.served
				l.drain()
				check(t, "effects", strings.Join(w.effects(), ", "), c.until)
				check(t, "acked", m.acked, false)
				once(t, w, m)
				check(t, "counted", len(w.stripe.counted["a"]), 1-c.dead)
				need(t, "dead letters", len(w.letters.all()), c.dead)
			})
		})
	}
}

func TestLostAckCostsARedeliveryOnly(t *testing.T) {
	for _, performed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
			w.fail("ack", fault{performed: performed})
			l := w.start()
			w.outbox.settled(time.Hour)
			w.outbox.again(m)
			if !w.outbox.settled(time.Hour) {
				t.Error("not acked again")
			}
			l.drain()
			check(t, "requests", len(w.stripe.made("a")), 1)
			need(t, "dead letters", len(w.letters.all()), 0)
		})
	}
}

func TestDeadLetterStreamFails(t *testing.T) {
	for name, setUp := range map[string]func(*letters){
		"for a moment":                           func(s *letters) { s.refuse = 3 },
		"for minutes":                            func(s *letters) { s.refuse = 60 },
		"stored, but it is said to have failed":  func(s *letters) { s.mislead = 2 },
		"stored at once, then down for minutes":  func(s *letters) { s.mislead, s.refuse, s.blind = 1, 0, 60 },
		"stored, misleading beyond the id's age": func(s *letters) { s.mislead, s.blind = 50, 50 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				setUp(w.letters)
				w.stripe.script["a"] = []reply{refusedForGood}
				once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
				need(t, "dead letters", len(w.letters.all()), 1)
				check(t, "requests", len(w.stripe.made("")), 1)
				effects := w.effects()
				check(t, "the last two", strings.Join(effects[len(effects)-2:], ", "), "record dead, ack")
			})
		})
	}
}

// TestNothingIsPublishedOnAMereGuess: with the first copy stored and the stream out
// of sight for longer than a message id lives, nothing may be published before a
// look has succeeded.
func TestNothingIsPublishedOnAMereGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.letters.mislead, w.letters.blind = 10, 40
		w.stripe.script["a"] = []reply{refusedForGood}
		began := time.Now()
		once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
		if time.Since(began) < 3*time.Minute {
			t.Errorf("the stream was to be blind for minutes, it was for %v", time.Since(began))
		}
		need(t, "dead letters", len(w.letters.all()), 1)
		if w.letters.published > 11 {
			t.Errorf("published %d times within %v", w.letters.published, announceAgain)
		}
	})
}

func TestBuryingWhileThePartitionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.letters.refuse, w.letters.blind = 1000000, 1000000
		w.stripe.script["a"] = []reply{refusedForGood}
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		elapse(5 * time.Minute)
		w.mu.Lock()
		publishing := slices.Contains(w.trace, "publish")
		w.mu.Unlock()
		check(t, "publishing", publishing, true)
		l.lose()
		<-l.served
		l.drain()
		check(t, "acked", m.acked, false)
		w.letters.refuse, w.letters.blind = 0, 0
		once(t, w, m)
		need(t, "dead letters", len(w.letters.all()), 1)
		check(t, "reason", w.letters.all()[0].Reason, deadletter.Rejected)
		check(t, "code", w.letters.all()[0].Code, "parameter_invalid")
		check(t, "requests", len(w.stripe.made("a")), 1)
	})
}
