package sim

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
)

// What liveness may take once the faults are over (I15): 60 s, and what the design asks
// for beside it.
const (
	promised   = 60 * time.Second
	slowest    = time.Minute      // an answer that was under way, for which its customer waits
	reopening  = 90 * time.Second // an open breaker's longest pause, and its ramp
	backingOff = 30 * time.Second // the longest back-off that began before
	leastRate  = perSecond / mostLives / 2
)

// patience is how long everything may take to settle.
func patience(backlog int) time.Duration {
	return promised + ackWait + slowest + reopening + backingOff + time.Duration(backlog)*time.Second/leastRate
}

// run plays one schedule to its end.
func (w *world) run() {
	w.draft()
	w.play()
	w.calmDown()
	w.settle()
	w.end()
	w.beside.Wait()
	w.lock(w.close)
}

// calmDown ends all faults.
func (w *world) calmDown() {
	w.lock(func() {
		w.calm = true
		w.note(0, "calm", 0, "")
		w.schedule, w.fleet.closed = nil, false
		w.down, w.stripe.downTill = time.Time{}, time.Time{}
		for _, l := range w.lives {
			l.noStore, l.noStripe = time.Time{}, time.Time{}
			if l.thawsAt.After(time.Now()) {
				l.thaw()
			}
			w.outbox.heard(l)
		}
		w.wake()
	})
	w.mendAll()
	w.holdAll(false)
}

// settle waits until every message is settled.
func (w *world) settle() {
	var backlog int
	w.lock(func() { backlog = w.outbox.unsettled() })
	limit := time.Now().Add(patience(backlog))
	for time.Now().Before(limit) {
		look := w.fleet.keep()
		w.lock(func() { backlog = w.outbox.unsettled() })
		if backlog == 0 {
			return
		}
		w.resumeHalted()
		w.idle(min(look, time.Second))
	}
	w.lock(func() {
		for _, m := range w.outbox.messages {
			if !m.acked {
				w.violate("I15", "message %d (%s) has not settled %v after the last fault", m.sequence, m.expect.note, patience(backlog))
			}
		}
	})
}

// resumeHalted has the halted processes go on: their set-up is right by now.
func (w *world) resumeHalted() {
	var halted []*life
	w.lock(func() {
		for _, l := range w.fleet.live() {
			if l.state == delivery.StateHalted {
				l.key = w.stripe.key
				l.mended()
				halted = append(halted, l)
			}
		}
	})
	for _, l := range halted {
		l.gate.Resume()
	}
}

// end drains everybody for good.
func (w *world) end() {
	w.lock(func() { w.fleet.closed = true })
	w.drainAll()
}

// drainAll drains everybody, also those that have ended: then it only waits.
func (w *world) drainAll() {
	for i := 0; ; i++ {
		var l *life
		w.lock(func() {
			if i < len(w.lives) {
				l = w.lives[i]
			}
		})
		if l == nil {
			return
		}
		l.drain()
	}
}

// close closes the books. w.mu is held.
func (w *world) close() {
	for p := range partitions {
		w.books.read(p)
	}
	for _, m := range w.outbox.messages {
		if m.acked {
			w.account(m)
		}
	}
	w.published()
	w.counters()
	for _, s := range []delivery.Disposition{delivery.Delivered, delivery.Duplicated, delivery.Buried, delivery.Released} {
		w.seen["disposition: "+string(s)] += int(value(w.metrics.Settled.WithLabelValues(string(s))))
	}
	w.recovered()
}

// account finds the message in the books (I1): delivered and counted, or dead. What was
// replayed is looked for where its replay is.
func (w *world) account(m *stored) {
	if w.letters.stored[m.sequence] {
		return
	}
	r := w.books.reader(m.partition)
	state, known := r.terminal[m.sequence]
	switch {
	case known && state == journal.Dead:
		w.violate("I1", "lost: message %d (%s) is recorded as dead, and has no letter", m.sequence, m.expect.note)
	case !m.expect.event:
		w.violate("I1", "lost: message %d (%s) is no event, and has no letter", m.sequence, m.expect.note)
	case !known && !r.delivered[m.expect.key]:
		w.violate("I1", "lost: message %d (%s) is acked, and nowhere", m.sequence, m.expect.note)
	case !w.holdsCount(m.expect.content):
		w.violate("I1", "lost: message %d (%s) is recorded as delivered, and Stripe has not counted its %s units", m.sequence, m.expect.note, m.expect.value)
	}
}

// holdsCount reports whether Stripe has counted this much under this identity.
func (w *world) holdsCount(c content) bool {
	for _, r := range w.stripe.counted[c.identity()] {
		if r.value == c.value {
			return true
		}
	}
	return false
}

// published looks for what Stripe has counted and nobody published, and for conflicts
// of which both were billed (I20).
func (w *world) published() {
	known := map[content]bool{}
	for _, m := range w.outbox.messages {
		known[m.expect.content] = true
	}
	for identity, receipts := range w.stripe.counted {
		for _, r := range receipts {
			if !known[r.content] {
				w.violate("I2", "unexpected: Stripe has counted %+v", r.content)
			}
			if r.value != receipts[0].value && w.books.forgiven[identity] == 0 {
				w.violate("I20", "%s was counted with %s and with %s", identity, receipts[0].value, r.value)
			}
		}
	}
}

// counters holds the worker's own against what was handed to it (I21).
func (w *world) counters() {
	received := int(value(w.metrics.Received))
	settled := 0
	for _, s := range metricsDispositions {
		settled += int(value(w.metrics.Settled.WithLabelValues(s)))
	}
	if received != w.outbox.received || received != settled {
		w.violate("I21", "handed out %d, received %d, settled %d", w.outbox.received, received, settled)
	}
	if n := value(w.metrics.InFlight); n != 0 {
		w.violate("I21", "%v requests in flight at rest", n)
	}
	for _, l := range w.lives {
		if l.dead {
			return // it may have settled without an ack
		}
	}
	w.units()
}

var metricsDispositions = []string{"delivered", "duplicate", "dead", "released"}

// units compares the units where every message was settled once.
func (w *world) units() {
	if w.disturbed {
		return
	}
	want, got := int64(0), int64(0)
	for _, m := range w.outbox.messages {
		if m.offered > 1 {
			return // it may have been recorded by one hand and acked by another
		}
		want += m.expect.units
	}
	for name := range map[string]bool{"api_calls": true, "storage": true} {
		for _, s := range metricsDispositions[:3] {
			got += int64(w.unitsOf(name, s))
		}
	}
	if got != want {
		w.violate("I21", "%d units published, %d settled", want, got)
	}
}

// unitsOf reads the counter of units.
func (w *world) unitsOf(name, disposition string) float64 {
	families, err := w.metrics.Registry.Gather()
	if err != nil {
		w.violate("I21", "the metrics cannot be read: %v", err)
		return 0
	}
	for _, f := range families {
		if f.GetName() != "meterworker_units_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if labels := m.GetLabel(); labels[0].GetValue() == disposition && labels[1].GetValue() == name {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// recovered counts the attempts that were counted and never answered.
func (w *world) recovered() {
	for _, tries := range w.books.tries {
		for _, t := range tries {
			if t.unheard && len(w.stripe.counted[t.identity()]) > 0 {
				w.seen.note("books: recovered")
			}
		}
	}
}

func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if m.Write(&out) != nil {
		return -1
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}
