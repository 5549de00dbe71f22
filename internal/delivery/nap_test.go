package delivery

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// naps has a row for each way through the steps, with the number of its effects when
// nobody sleeps.
var naps = map[string]struct {
	script  []reply
	body    []byte
	effects int
}{
	"delivered":         {nil, body("a", 7), 4},
	"after silence":     {[]reply{counted(silent)}, body("a", 7), 5},
	"after a 429":       {[]reply{limited}, body("a", 7), 5},
	"refused":           {[]reply{refusedForGood, refusedForGood}, body("a", 7), 6},
	"500 and refused":   {[]reply{failed, refusedForGood, refusedForGood}, body("a", 7), 7},
	"three 500, buried": {[]reply{counted(failed), failed, failed}, body("a", 7), 8},
	"no event":          {nil, []byte("?"), 4},
}

// TestSleepingAtEveryEffect freezes the worker for 30 h before and after every effect
// that the outside sees, in the middle of storing a letter and of acking included.
// Nothing is counted twice by a Stripe that forgets after 24 h, nothing gets lost, and
// a letter does not deny what may have been counted. Between the last look and the
// first byte is the sender's: see TestFrozenBeforeTheFirstByte there.
func TestSleepingAtEveryEffect(t *testing.T) {
	for name, c := range naps {
		for at := 1; at <= c.effects; at++ {
			for _, performed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, effect %d, done %v", name, at, performed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.stripe.script["a"] = c.script
						w.nap = crash{at: at, performed: performed}
						once(t, w, w.outbox.publish(subject("cus_1"), c.body, nil))
						if len(w.effects()) < at {
							t.Fatalf("nobody slept: %q", w.effects())
						}
						if w.effects()[at-1] == "send" && !performed {
							return
						}
						w.auditNap(t)
					})
				})
			}
		}
	}
}

func (w *world) auditNap(t *testing.T) {
	t.Helper()
	letters, billed := w.letters.all(), len(w.stripe.counted["a"])
	if billed > 1 || len(letters) > 1 || billed+len(letters) == 0 {
		t.Errorf("billed %d times, %d letters; trace %q", billed, len(letters), w.effects())
	}
	for _, l := range letters {
		if billed > 0 && l.Outcome != deadletter.Unknown {
			t.Errorf("billed, but the letter says %s", l.Outcome)
		}
	}
}

// TestSleepingInARelease: a drain hands back what waits, and is frozen at it; whoever gets
// the message then knows what was sent, and when.
func TestSleepingInARelease(t *testing.T) {
	for name, first := range map[string]reply{"unknown": counted(silent), "not sent": limited} {
		for at := 3; at <= 4; at++ { // the record, the nak
			for _, performed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, effect %d, done %v", name, at, performed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						first.RetryAfter = time.Minute
						w.stripe.script["a"] = []reply{first}
						w.nap = crash{at: at, performed: performed}
						m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
						l := w.start()
						elapse(10 * time.Second)
						l.drain()
						once(t, w, m)
						w.auditNap(t)
						requests := 2
						if first.counts {
							requests = 1 // it is too late to ask again
						}
						check(t, "requests", len(w.stripe.made("a")), requests)
					})
				})
			}
		}
	}
}

// TestSleepingInAReplay: the replay of a letter of unknown outcome, frozen at each of its
// effects, never bills twice without a person's word.
func TestSleepingInAReplay(t *testing.T) {
	for at := 1; at <= 4; at++ {
		for _, performed := range []bool{false, true} {
			t.Run(fmt.Sprintf("effect %d, done %v", at, performed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					l := buriedUnknown(t, w)
					before := len(w.effects())
					w.nap = crash{at: before + at, performed: performed}
					once(t, w, w.replayOf(l, false))
					if len(w.effects()) < before+at {
						t.Fatalf("nobody slept: %q", w.effects()[before:])
					}
					if w.effects()[before+at-1] == "send" && !performed {
						return // see above
					}
					check(t, "counted", len(w.stripe.counted["a"]), 1)
				})
			})
		}
	}
}
