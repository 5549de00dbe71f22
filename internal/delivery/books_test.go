package delivery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"
)

// sample reads one series, summed over the labels that are not named.
func (w *world) sample(name string, labels ...string) int {
	families, err := w.metrics.Registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "meterworker_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if has(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

func (w *world) settledAs(d Disposition) int {
	return w.sample("settled_total", "disposition", string(d))
}

func (w *world) units(disposition string) int {
	return w.sample("units_total", "disposition", disposition)
}

// anyReply is a random behaviour of Stripe.
func anyReply(t *rapid.T) reply {
	r := rapid.SampledFrom([]reply{
		{},
		{},
		{},
		limited, contended, failed, silent, strange, unsent, refusedForGood,
		counted(failed), counted(silent), counted(strange),
		{panics: "before"},
		{panics: "after"},
	}).Draw(t, "reply")
	if rapid.Bool().Draw(t, "slow") {
		r.working = func(ctx context.Context) { _ = passOr(ctx, 3*time.Second) }
	}
	return r
}

// TestBooks drives random traffic through several lives, some killed, and closes
// the books: nothing lost, nothing billed twice, and the counters add up.
func TestBooks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		customers := rapid.IntRange(1, 4).Draw(rt, "customers")
		n := rapid.IntRange(1, 25).Draw(rt, "events")
		crashes := rapid.SliceOfN(rapid.IntRange(1, 60), 0, 3).Draw(rt, "crashes")
		performed := rapid.Bool().Draw(rt, "performed")
		refuse, mislead := rapid.IntRange(0, 3).Draw(rt, "refuse"), rapid.IntRange(0, 3).Draw(rt, "mislead")
		published, scripts := map[string]bool{}, map[string][]reply{}
		type traffic struct {
			customer, id string
			value        int
		}
		events := make([]traffic, n)
		for i := range events {
			c := rapid.IntRange(1, customers).Draw(rt, "customer")
			id := fmt.Sprintf("c%d-%d", c, rapid.IntRange(1, 8).Draw(rt, "id"))
			events[i] = traffic{fmt.Sprintf("cus_%d", c), id, rapid.IntRange(1, 2).Draw(rt, "value")}
			published[id] = true
			if rapid.Bool().Draw(rt, "scripted") {
				scripts[id] = append(scripts[id], anyReply(rt))
			}
		}
		rapid.SyncTest(rt, func(rt *rapid.T) {
			w := newWorld(rt)
			w.stripe.script = scripts
			w.letters.refuse, w.letters.mislead = refuse, mislead
			began := time.Now()
			for _, e := range events {
				w.outbox.publish(subject(e.customer), datedBody(e.id, e.customer, e.value, began), nil)
			}
			for _, at := range crashes {
				w.crash = crash{at: len(w.effects()) + at, performed: performed}
				l := w.start()
				w.outbox.settled(10 * time.Minute)
				l.drain()
			}
			w.crash = crash{}
			l := w.start()
			if !w.outbox.settled(time.Hour) {
				rt.Fatalf("not settled: %q", w.effects())
			}
			l.drain()
			w.balance(rt, published, len(crashes) == 0)
		})
	})
}

func (w *world) balance(t *rapid.T, published map[string]bool, undisturbed bool) {
	dead := map[string]int{}
	for _, l := range w.letters.all() {
		dead[l.Identifier]++
	}
	for id := range published {
		if counted := len(w.stripe.counted[id]); counted > 1 || counted == 0 && dead[id] == 0 {
			t.Fatalf("%s: counted %d times, %d dead letters; trace %q", id, counted, dead[id], w.effects())
		}
	}
	bySequence := map[uint64]int{}
	for _, l := range w.letters.all() {
		if bySequence[l.Sequence]++; bySequence[l.Sequence] > 1 {
			t.Fatalf("two dead letters for message %d; trace %q", l.Sequence, w.effects())
		}
	}
	if w.stripe.overlap > 1 {
		t.Fatalf("%d requests at once for one customer", w.stripe.overlap)
	}
	out := w.settledAs(Delivered) + w.settledAs(Duplicated) + w.settledAs(Buried) + w.settledAs(Released)
	if received := w.sample("received_total"); received != out || received != w.outbox.received {
		t.Fatalf("received %d (handed out %d), settled %d", received, w.outbox.received, out)
	}
	if w.sample("in_flight") != 0 {
		t.Fatal("in_flight is not 0 at rest")
	}
	if undisturbed {
		w.balanceUnits(t)
	}
}

// balanceUnits compares the units: published = delivered + duplicate + dead.
func (w *world) balanceUnits(t *rapid.T) {
	sum := 0
	for _, m := range w.outbox.messages {
		sum += int(m.body[strings.Index(string(m.body), `"value":`)+len(`"value":`)] - '0')
	}
	if got := w.units("delivered") + w.units("duplicate") + w.units("dead"); got != sum {
		t.Fatalf("published %d units, settled %d", sum, got)
	}
	if dead := w.sample("dead_letters_total"); dead != len(w.letters.all()) {
		t.Fatalf("%d dead letters counted, %d stored", dead, len(w.letters.all()))
	}
}
