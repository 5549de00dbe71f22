package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/replay"
)

// action is one thing that happens to the world at a time of its own.
type action struct {
	at   time.Duration // since the beginning
	what string
	do   func()
}

// schedule is what will happen, in order of time. Guarded by w.mu.
type schedule []action

// at plans an action.
func (w *world) at(at time.Duration, what string, do func()) {
	w.lock(func() { w.plan(at, what, do) })
}

// plan is at with w.mu held.
func (w *world) plan(at time.Duration, what string, do func()) {
	i, _ := slices.BinarySearchFunc(w.schedule, at, func(a action, at time.Duration) int {
		if a.at <= at {
			return -1
		}
		return 1
	})
	w.schedule = slices.Insert(w.schedule, i, action{at, what, do})
	w.fleet.signal()
}

// next takes the first action off the schedule if its time has come, else it says how
// long that takes; ok is false when nothing is planned.
func (w *world) next() (a action, wait time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.schedule) == 0 {
		return action{}, 0, false
	}
	if wait = w.schedule[0].at - time.Since(w.began); wait > 0 {
		return action{}, wait, true
	}
	a = w.schedule[0]
	w.schedule = w.schedule[1:]
	w.note(0, a.what, 0, "")
	return a, 0, true
}

// play carries the schedule out, and has every partition served meanwhile.
func (w *world) play() {
	for {
		look := w.fleet.keep()
		a, wait, planned := w.next()
		switch {
		case !planned:
			return
		case a.do != nil:
			a.do()
		default:
			w.idle(min(wait, look))
		}
	}
}

// idle lets time pass until somebody is upset.
func (w *world) idle(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.fleet.upset:
	}
}

// spans are how long the faults of a schedule may last.
var spans = []time.Duration{20 * time.Second, time.Minute, 10 * time.Minute, 10 * time.Minute, time.Hour, 5 * time.Hour, 26 * time.Hour, 50 * time.Hour}

// draft plans the whole schedule.
func (w *world) draft() {
	r := w.dice.draw("schedule")
	span := one(r, spans...)
	w.traffic(span)
	w.serverFaults(r, span)
	w.networkFaults(r, span)
	w.fleetFaults(r, span)
	w.stripeFaults(r, span)
	w.operator(r, span)
	w.stop(r, span)
	w.at(span, "the faults end", func() {})
}

// sometimes plans an action a few times, where the schedule knows the kind.
func (w *world) sometimes(r *rand.Rand, k kind, span time.Duration, most int, do func(r *rand.Rand)) {
	if !w.met[k] {
		return
	}
	for range 1 + r.IntN(most) {
		at := between(r, 0, min(span, 20*time.Second))
		if r.IntN(2) == 0 {
			at = between(r, 0, span)
		}
		own := rand.New(rand.NewPCG(r.Uint64(), 0))
		w.at(at, string(k), func() {
			if k != takenOver {
				w.lock(func() { w.seen.note(string(k)) })
			}
			do(own)
		})
	}
}

func (w *world) serverFaults(r *rand.Rand, span time.Duration) {
	w.sometimes(r, serverKilled, span, 3, w.killServer)
	w.sometimes(r, consumerRenewed, span, 2, func(*rand.Rand) { w.lock(w.outbox.renew) })
	w.sometimes(r, clockStepped, span, 3, func(r *rand.Rand) {
		w.journal.SetSkew(between(r, -30*time.Minute, 30*time.Minute))
	})
}

// killServer takes the server away for some seconds, and its last acks with it.
func (w *world) killServer(r *rand.Rand) {
	w.lock(func() {
		w.outbox.forget()
		w.down = time.Now().Add(between(r, time.Second, 20*time.Second))
		for _, l := range w.lives {
			w.outbox.silent(l)
		}
	})
	w.restore(w.down)
}

// killAfterAck plans, once in a schedule and one ack in eight, that the server dies
// before it has stored the ack. w.mu is held.
func (w *world) killAfterAck(m *stored) {
	r := w.dice.draw("kills after an ack", m.sequence, uint64(m.offered))
	if w.calm || w.killed || !w.met[serverKilled] || r.IntN(8) > 0 {
		return
	}
	w.killed = true
	w.plan(time.Since(w.began)+between(r, time.Millisecond, 90*time.Millisecond), string(serverKilled), func() { w.killServer(r) })
}

// restore resumes the heartbeats once the server is back.
func (w *world) restore(at time.Time) {
	w.at(at.Sub(w.began), "server reached", func() {
		w.lock(func() {
			for _, l := range w.lives {
				w.outbox.heard(l)
			}
			w.wake()
		})
	})
}

func (w *world) networkFaults(r *rand.Rand, span time.Duration) {
	w.sometimes(r, storeCut, span, 3, func(r *rand.Rand) {
		if l := w.anybody(r); l != nil {
			until := time.Now().Add(one(r, between(r, time.Second, time.Minute), between(r, time.Minute, 3*time.Hour)))
			w.lock(func() { l.noStore = until; w.outbox.silent(l) })
			w.restore(until)
			if p := r.IntN(partitions); r.IntN(2) == 0 {
				w.at(time.Since(w.began)+between(r, 10*time.Second, 40*time.Second), "takes over", func() { w.fleet.takeOver(p) })
			}
		}
	})
	w.sometimes(r, stripeCut, span, 3, func(r *rand.Rand) {
		if l := w.anybody(r); l != nil {
			w.lock(func() { l.noStripe = time.Now().Add(between(r, time.Second, 5*time.Minute)) })
		}
	})
}

// anybody is one of the live processes, nil if there is none.
func (w *world) anybody(r *rand.Rand) *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := w.fleet.live()
	if len(live) == 0 {
		return nil
	}
	return live[r.IntN(len(live))]
}

func (w *world) fleetFaults(r *rand.Rand, span time.Duration) {
	w.sometimes(r, takenOver, span, 4, func(r *rand.Rand) { w.fleet.takeOver(r.IntN(partitions)) })
	w.sometimes(r, drained, span, 3, func(r *rand.Rand) {
		if l := w.anybody(r); l != nil {
			w.beside.Go(l.drain)
		}
	})
}

// stop plans a time without any worker, and what producers repeat after it.
func (w *world) stop(r *rand.Rand, span time.Duration) {
	if !w.met[stopped] {
		return
	}
	from := between(r, 5*time.Second, span)
	until := from + between(r, 20*time.Hour, 60*time.Hour)
	if r.IntN(3) == 0 {
		until = from + between(r, 60*time.Hour, 34*24*time.Hour)
	}
	w.at(from, string(stopped), func() {
		w.lock(func() { w.fleet.closed = true; w.seen.note(string(stopped)) })
		w.drainAll()
	})
	w.at(until, "the workers are back", func() { w.lock(func() { w.fleet.closed = false }) })
	if w.met[publishedLater] {
		for range 3 {
			again := w.drafts[r.IntN(len(w.drafts))]
			w.at(until+between(r, 0, 10*time.Second), "publishes again", func() { w.send(again) })
		}
	}
	w.at(until+min(span, time.Minute), "the faults end", func() {})
}

func (w *world) stripeFaults(r *rand.Rand, span time.Duration) {
	down := func(least, most time.Duration) func(*rand.Rand) {
		return func(r *rand.Rand) {
			w.lock(func() {
				w.stripe.downAs, w.stripe.downTill = one(r, outages...), time.Now().Add(between(r, least, most))
				w.stripe.outages++
				w.seen.note(w.stripe.downAs.name)
			})
		}
	}
	w.sometimes(r, outage, span, 2, down(5*time.Second, 10*time.Minute))
	w.sometimes(r, outageLong, span, 1, down(10*time.Minute, longestOutage))
}

// longestOutage is past Stripe's memory.
const longestOutage = 26 * time.Hour

// operator plans what people do.
func (w *world) operator(r *rand.Rand, span time.Duration) {
	w.sometimes(r, keyRotated, span, 2, func(*rand.Rand) {
		w.lock(w.stripe.rotate)
		w.mendAll()
	})
	w.sometimes(r, keyRevoked, span, 1, func(r *rand.Rand) {
		w.lock(func() { w.stripe.rotate(); w.stripe.revoke() })
		w.at(time.Since(w.began)+between(r, time.Second, 2*time.Minute), "the new key is mounted", w.mendAll)
	})
	w.sometimes(r, paused, span, 2, func(r *rand.Rand) {
		w.holdAll(true)
		w.at(time.Since(w.began)+between(r, time.Second, 10*time.Minute), "resumed", func() { w.holdAll(false) })
	})
	w.sometimes(r, replayed, span, 4, func(r *rand.Rand) { w.replay(r, false) })
	w.sometimes(r, replayedTwice, span, 4, func(r *rand.Rand) { w.replay(r, false) })
	w.sometimes(r, replayedInDoubt, span, 3, func(r *rand.Rand) { w.replay(r, true) })
}

// mendAll gives every process the present key, and has the halted ones go on.
func (w *world) mendAll() {
	var live []*life
	w.lock(func() {
		for _, l := range w.fleet.live() {
			l.key = w.stripe.key
			l.mended()
			live = append(live, l)
		}
	})
	for _, l := range live {
		l.gate.Resume()
	}
}

// holdAll pauses the fleet, or has it go on.
func (w *world) holdAll(hold bool) {
	var live []*life
	w.lock(func() {
		w.held = hold
		live = w.fleet.live()
	})
	for _, l := range live {
		l.obey(hold)
	}
}

// obey does what the operator has ordered.
func (l *life) obey(hold bool) {
	if hold {
		l.gate.Hold("operator", delivery.StatePaused, "")
	} else {
		l.gate.Lift("operator")
	}
}

// replay publishes one of the dead letters again, as the command does.
func (w *world) replay(r *rand.Rand, accept bool) {
	var chosen *letter
	w.lock(func() {
		if live := w.letters.live(); len(live) > 0 && len(w.outbox.messages) < 3*w.outbox.planned+20 {
			chosen = live[r.IntN(len(live))]
		}
	})
	if chosen == nil {
		return
	}
	letters, err := replay.Open(context.Background(), console{w: w})
	if err != nil {
		w.lock(func() { w.violate("I14", "the dead letters cannot be opened: %v", err) })
		return
	}
	result := letters.Replay(context.Background(), chosen.number, replay.Permission{AcceptDoubleBilling: accept, Hopeless: true}, time.Now())
	w.lock(func() {
		w.seen.note("replay: " + string(result.Outcome))
		w.note(0, "replay: "+string(result.Outcome), chosen.Sequence, result.Detail)
	})
}

// mendLater plans that somebody mends the set-up. w.mu is held.
func (l *life) mendLater(state string) {
	if state != delivery.StateHalted {
		return
	}
	r := l.w.dice.draw("mends", uint64(l.number), uint64(l.asked))
	l.w.plan(time.Since(l.w.began)+between(r, time.Second, 3*time.Minute), "the set-up is mended", func() {
		l.w.lock(func() { l.key = l.w.stripe.key; l.mended() })
		l.gate.Resume()
	})
}
