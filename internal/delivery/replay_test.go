package delivery

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// replayOf is a dead letter as `dlq replay` publishes it again.
func (w *world) replayOf(l letter, accept bool) *stored {
	header := map[string]string{
		deadletter.HeaderIdentifier: l.Identifier, deadletter.HeaderTimestamp: strconv.FormatInt(l.Timestamp, 10),
		deadletter.HeaderReplays: strconv.Itoa(l.Replays + 1), deadletter.HeaderReplayOf: l.id,
	}
	if accept {
		header[deadletter.HeaderAcceptDoubleBilling] = "true"
	}
	return w.outbox.publish(usage.ReplaySubject("api_calls", "cus_1"), []byte(l.body), header)
}

// buriedUnknown leaves a dead letter of unknown outcome.
func buriedUnknown(t *testing.T, w *world) letter {
	t.Helper()
	w.stripe.script["a"] = []reply{counted(failed), failed, failed}
	once(t, w, w.outbox.publish(subject("cus_1"), body("a", 7), nil))
	return w.letters.all()[0]
}

func TestReplayInsideTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := buriedUnknown(t, w)
		elapse(time.Hour)
		once(t, w, w.replayOf(l, false)) // Stripe says duplicate, which is the delivery
		once(t, w, w.replayOf(l, false)) // and once more
		check(t, "counted", len(w.stripe.counted["a"]), 1)
		need(t, "dead letters", len(w.letters.all()), 1)
		check(t, "requests", len(w.stripe.made("a")), 4)
		for _, r := range w.stripe.made("a") {
			check(t, "timestamp", r.timestamp, l.Timestamp)
		}
		check(t, "delivered", w.settledAs(Delivered), 1)
		check(t, "duplicates", w.settledAs(Duplicated), 1)
	})
}

// TestReplayPastTheWindow: it takes a person's word, which forgives the attempts
// before this replay and no later ones.
func TestReplayPastTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := buriedUnknown(t, w)
		elapse(nap)
		once(t, w, w.replayOf(l, false))
		letters := w.letters.all()
		check(t, "reason", letters[1].Reason, deadletter.Ambiguous)
		check(t, "replays", letters[1].Replays, 1)
		check(t, "requests", len(w.stripe.made("a")), 3)

		w.stripe.script["a"] = []reply{silent, silent, silent, refusedForGood}
		once(t, w, w.replayOf(letters[1], true))
		letters = w.letters.all()
		check(t, "reason", letters[2].Reason, deadletter.Rejected)
		check(t, "outcome", letters[2].Outcome, deadletter.Unknown)
		check(t, "replays", letters[2].Replays, 2)

		once(t, w, w.replayOf(letters[2], true))
		check(t, "counted, with a person's word", len(w.stripe.counted["a"]), 2)
		once(t, w, w.replayOf(letters[2], true))
		check(t, "a delivery is never forgiven", len(w.stripe.counted["a"]), 2)
		need(t, "dead letters", len(w.letters.all()), 3)
	})
}

// TestAReplayDoesNotForgiveItself: its own unknown attempts, redelivered past the
// window, are ambiguous.
func TestAReplayDoesNotForgiveItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := buriedUnknown(t, w)
		elapse(nap)
		m := w.replayOf(l, true)
		first := silent
		first.RetryAfter = time.Minute
		w.stripe.script["a"] = []reply{first}
		worker := w.start()
		elapse(10 * time.Second)
		worker.drain()
		elapse(nap)
		once(t, w, m)
		check(t, "requests", len(w.stripe.made("a")), 4)
		check(t, "reason", w.letters.all()[1].Reason, deadletter.Ambiguous)
	})
}

// TestHeadersOfProducersAreIgnored: only replays may name identifier, timestamp,
// lineage, and the word of a person.
func TestHeadersOfProducersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := buriedUnknown(t, w)
		elapse(nap)
		m := w.outbox.publish(subject("cus_1"), []byte(l.body), map[string]string{
			deadletter.HeaderAcceptDoubleBilling: "true", deadletter.HeaderReplays: "9",
			deadletter.HeaderIdentifier: "b", deadletter.HeaderTimestamp: "1",
		})
		once(t, w, m)
		letters := w.letters.all()
		check(t, "requests", len(w.stripe.made("")), 3)
		need(t, "dead letters", len(letters), 2)
		check(t, "reason", letters[1].Reason, deadletter.Ambiguous)
		check(t, "replays", letters[1].Replays, 0)
		check(t, "identifier", letters[1].Identifier, "a")
		check(t, "timestamp", letters[1].Timestamp, m.at.Unix())
	})
}

func TestReplaysHeader(t *testing.T) {
	for header, want := range map[string]int{"": 1, "0": 1, "-3": 1, "x": 1, "2": 2, "99999999999999999999": 1} {
		m := &inHand{stored: &stored{subject: usage.ReplaySubject("m", "c"), header: map[string]string{deadletter.HeaderReplays: header}}}
		d := &delivery{message: m}
		check(t, "replays of "+header, d.replays(), want)
	}
	for accept, want := range map[string]bool{"true": true, "": false, "yes": false, "TRUE": false} {
		m := &inHand{stored: &stored{subject: usage.ReplaySubject("m", "c"), at: time.Unix(5, 0), header: map[string]string{deadletter.HeaderAcceptDoubleBilling: accept}}}
		d := &delivery{message: m}
		check(t, "forgives with "+accept, d.forgives().Equal(time.Unix(5, 0)), want)
	}
}

// TestReplayOfABuriedOneWhileItDies: a person is quicker than the record of the
// death; the letter is found once more and nothing is sent twice.
func TestReplayOfABuriedOneWhileItDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["a"] = []reply{refusedForGood}
		w.fail("record dead", fault{lost: true})
		m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
		l := w.start()
		<-l.served
		l.drain()
		replay := w.replayOf(w.letters.all()[0], false)
		once(t, w, replay)
		check(t, "original is settled", m.acked, true)
		need(t, "dead letters", len(w.letters.all()), 1)
		check(t, "counted", len(w.stripe.counted["a"]), 1)
		if effects := strings.Join(w.effects(), ", "); strings.Count(effects, "publish") != 1 {
			t.Errorf("published again although it was there: %s", effects)
		}
	})
}
