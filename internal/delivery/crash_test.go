package delivery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// crashCases are the lives whose every effect is cut, before and after it.
var crashCases = map[string]struct {
	script []reply
	body   []byte
	effect int // effects of the undisturbed life, at least
}{
	"delivered":                          {nil, body("a", 7), 4},
	"500 that counted, then a duplicate": {[]reply{counted(failed)}, body("a", 7), 5},
	"silence that counted":               {[]reply{counted(silent)}, body("a", 7), 5},
	"always 500, counted":                {[]reply{counted(failed), failed, failed, failed, failed, failed}, body("a", 7), 8},
	"always 500, not counted":            {[]reply{failed, failed, failed}, body("a", 7), 8},
	"500, then refused":                  {[]reply{failed, refusedForGood, refusedForGood}, body("a", 7), 7},
	"refused":                            {[]reply{refusedForGood, refusedForGood}, body("a", 7), 6},
	"throttled":                          {[]reply{limited, limited}, body("a", 7), 6},
	"unparsable":                         {nil, []byte(`{"event_name":"api_calls"`), 4},
}

// TestEveryCrashPoint kills the worker at every effect, performed and not, and lets
// the next life finish. Whatever happened: acked in the end, counted once at
// most, one dead letter at most, and what is both is said to be unknown.
func TestEveryCrashPoint(t *testing.T) {
	for name, c := range crashCases {
		for at := 1; at <= c.effect; at++ {
			for _, performed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/performed=%v", name, at, performed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { crashOnce(t, c.script, c.body, crash{at, performed}) })
				})
			}
		}
	}
}

func crashOnce(t *testing.T, script []reply, body []byte, c crash) {
	t.Helper()
	w := newWorld(t)
	w.stripe.script["a"] = script
	w.crash = c
	m := w.outbox.publish(subject("cus_1"), body, nil)
	first := w.start()
	<-first.served
	first.drain()
	if len(w.effects()) != c.at || !first.isDead() {
		t.Fatalf("died after %q", w.effects())
	}
	// A lost answer of the last ack may bring a settled message again.
	w.outbox.again(m)
	once(t, w, m)
	w.judge(t, m)
}

// judge is the oracle over one event's end.
func (w *world) judge(t *testing.T, m *stored) {
	t.Helper()
	counted, letters := len(w.stripe.counted["a"]), w.letters.all()
	if !m.acked || counted > 1 || len(letters) > 1 || counted+len(letters) == 0 {
		t.Fatalf("acked %v, counted %d, dead letters %d; trace %q", m.acked, counted, len(letters), w.effects())
	}
	if len(letters) == 0 {
		return
	}
	if counted > 0 && letters[0].Outcome != deadletter.Unknown {
		t.Errorf("counted and dead, yet %q; trace %q", letters[0].Outcome, w.effects())
	}
	check(t, "the body is the original's", letters[0].body, string(m.body))
	check(t, "sequence", letters[0].Sequence, m.sequence)
	for _, r := range w.stripe.made("") {
		if r.identifier != "a" || r.value != "7" || r.timestamp != m.at.Unix() {
			t.Errorf("request %+v is of another event", r)
		}
	}
}

// TestCrashBeyondTheSafeWindow: what may have been sent and was found 30 h later is
// not sent again but goes to a person.
func TestCrashBeyondTheSafeWindow(t *testing.T) {
	for at, want := range map[int]int{1: 1, 2: 1} { // after the intent, after the request
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.crash = crash{at: at, performed: true}
			m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
			first := w.start()
			<-first.served
			first.drain()
			requests, before := len(w.stripe.made("")), len(w.effects())
			elapse(30 * time.Hour)
			once(t, w, m)
			check(t, "requests since", len(w.stripe.made("")), requests)
			check(t, "effects since", strings.Join(w.effects()[before:], ", "), "record dying, publish, record dead, ack")
			letters := w.letters.all()
			need(t, "dead letters", len(letters), want)
			check(t, "reason", letters[0].Reason, deadletter.Ambiguous)
			check(t, "outcome", letters[0].Outcome, deadletter.Unknown)
			check(t, "detail", letters[0].Detail, pastWindow)
			check(t, "attempts of the earlier life", letters[0].Attempts, 1)
			if age := time.Since(letters[0].FirstAttempt); age < 30*time.Hour || letters[0].FirstAttempt.IsZero() {
				t.Errorf("the first attempt of the case file was %s ago", age)
			}
		})
	}
}
