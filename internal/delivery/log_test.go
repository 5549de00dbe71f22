package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/meterworker/meterworker/internal/journal"
)

// TestOneLineASettlement: one canonical line for each message, with what people
// look for and no payload.
func TestOneLineASettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stripe.script["b"] = []reply{refusedForGood}
		w.stripe.script["c"] = []reply{silent}
		const secret = "dimension-of-a-payload"
		for _, id := range []string{"a", "b", "c", "a"} {
			w.outbox.publish(subject("cus_1"), []byte(strings.Replace(string(body(id, 7)), `"value"`, `"note":"`+secret+`","value"`, 1)), nil)
		}
		w.outbox.publish(subject("cus_1"), []byte(secret), nil)
		once(t, w, w.outbox.messages[0])
		lines := w.logs.FilterMessage("settled").All()
		var got []string
		for _, line := range lines {
			f := line.ContextMap()
			got = append(got, fmt.Sprintf("%s %v %v %v", line.Level, f["sequence"], f["disposition"], f["identifier"]))
			if line.Level == zapcore.DebugLevel && f["disposition"] != "delivered" {
				t.Errorf("%v is at debug level", f)
			}
		}
		slices.Sort(got)
		want := []string{"debug 1 delivered a", "info 2 dead b", "info 3 delivered c", "info 4 duplicate a", "info 5 dead "}
		check(t, "lines", strings.Join(got, "; "), strings.Join(want, "; "))
		for _, line := range w.logs.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, secret) {
				t.Errorf("a payload in the log: %s", text)
			}
		}
	})
}

// TestLongIdentifiersAreWarnedOf: sent, with a warning once a minute at most.
func TestLongIdentifiersAreWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const warning = "an identifier has more than 100 characters: it is sent, but Stripe may come to refuse it; shorten it in the producer"
		for _, length := range []int{100, 101, 102, 255} {
			w.outbox.publish(subject("cus_1"), body(strings.Repeat("x", length), 7), nil)
		}
		once(t, w, w.outbox.messages[3])
		check(t, "warnings in one minute", w.logs.FilterMessage(warning).Len(), 1)
		check(t, "delivered", len(w.stripe.counted), 4)
	})
}

// TestUnreadableLetter: what a newer version announced stays in the outbox, loudly,
// and is never sent.
func TestUnreadableLetter(t *testing.T) {
	for name, block := range map[string]string{
		"broken": "{", "an unknown reason": `{"Meterworker-Reason":"new_reason"}`, "a bad number": `{"Meterworker-Reason":"rejected","Meterworker-Status":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.start()
				key, _ := hashBody(body("a", 7))
				err := l.journal.Record(context.Background(), journal.Entry{Sequence: 1, Key: key, State: journal.Dying, Letter: []byte(block)})
				if err != nil {
					t.Fatal(err)
				}
				m := w.outbox.publish(subject("cus_1"), body("a", 7), nil)
				elapse(10 * time.Second)
				l.drain()
				check(t, "effects", strings.Join(w.effects(), ", "), "drop")
				check(t, "acked", m.acked, false)
				check(t, "errors", w.logs.FilterLevelExact(zapcore.ErrorLevel).Len(), 1)
			})
		})
	}
}
