package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// outbox is the stream USAGE with a consumer for each partition.
type outbox struct {
	w        *world
	messages []*stored
	ids      map[string]*stored // by Nats-Msg-Id
	planned  int                // messages that the plan publishes first
	received int
}

// stored is a message of the outbox and where its consumer has it.
type stored struct {
	sequence  uint64
	partition int
	subject   string
	header    map[string]string
	body      []byte
	at        time.Time
	expect    expectation

	acked   bool
	ackedAt time.Time
	due     time.Time // handed out again from then on
	holder  *pull     // last one that it was handed out to; nil: nobody has it
	expires time.Time // then the holder's time is over; zero: it sends heartbeats
	offered int
}

const idWindow = 2 * time.Minute // of the stream's duplicate check

func newOutbox(w *world) *outbox { return &outbox{w: w, ids: map[string]*stored{}} }

// publish stores the message unless its id is known. w.mu is held.
func (o *outbox) publish(m stored) *stored {
	now := time.Now()
	id := m.header["Nats-Msg-Id"]
	if known, ok := o.ids[id]; ok && id != "" && now.Sub(known.at) < idWindow {
		return known
	}
	m.sequence, m.at, m.due = uint64(len(o.messages)+1), now, now
	m.partition = partitionOf(m.subject)
	o.messages = append(o.messages, &m)
	if id != "" {
		o.ids[id] = &m
	}
	o.w.note(0, "published on "+m.subject, m.sequence, m.expect.note)
	o.w.wake()
	return &m
}

// silent starts AckWait for all that the life has in hand. w.mu is held.
func (o *outbox) silent(l *life) {
	for _, m := range o.messages {
		if m.holder != nil && m.holder.l == l && m.expires.IsZero() {
			m.expires = o.afterAckWait(m)
		}
	}
}

// heard resumes the life's heartbeats, if it can have any. w.mu is held.
func (o *outbox) heard(l *life) {
	if !l.reaches() || l.thawsAt.After(time.Now()) {
		return
	}
	for _, m := range o.messages {
		if m.holder != nil && m.holder.l == l && m.holder.held[m.sequence] != nil {
			m.expires = time.Time{}
		}
	}
}

// afterAckWait is when the server gives up a holder whose last heartbeat was up to a
// third of AckWait ago.
func (o *outbox) afterAckWait(m *stored) time.Time {
	r := o.w.dice.draw("ackwait", m.sequence, uint64(m.offered))
	return time.Now().Add(between(r, ackWait*2/3, ackWait))
}

// renew creates the consumers again: everything comes again. w.mu is held.
func (o *outbox) renew() {
	for _, m := range o.messages {
		m.acked, m.due, m.holder = false, time.Now(), nil
	}
	o.w.disturbed = true
	o.w.wake()
}

// forget takes back the acks of the last 100 ms before the server was killed. w.mu is
// held.
func (o *outbox) forget() {
	for _, m := range o.messages {
		if m.acked && time.Since(m.ackedAt) < 100*time.Millisecond {
			o.w.seen.note("outbox: ack forgotten")
			m.acked, m.due, m.holder = false, time.Now(), nil
			o.w.disturbed = true
		}
	}
}

// unsettled is how many messages are not acked. w.mu is held.
func (o *outbox) unsettled() int {
	n := 0
	for _, m := range o.messages {
		if !m.acked {
			n++
		}
	}
	return n
}

// pull is a partition of the outbox as its owner sees it.
type pull struct {
	l         *life
	stop      context.Context // of the call of Serve
	lost      <-chan struct{}
	partition int
	held      map[uint64]*inHand // guarded by w.mu
	calls     uint64
}

var errUnreachable = errors.New("the server does not answer")

// longestFetch bounds a fetch. The real one ends after a second; a bubble's days would
// have too many of them, so this one ends when something changes.
const longestFetch = 6 * time.Hour

// Fetch implements delivery.Outbox.
func (p *pull) Fetch(n int, each func(delivery.Message)) error {
	p.calls++
	limit := time.Now().Add(longestFetch)
	for {
		p.l.awake()
		pass(between(p.l.w.dice.draw("fetch", uint64(p.l.number), uint64(p.partition), p.calls), 200*time.Microsecond, 3*time.Millisecond))
		messages, wait, changed, reached := p.take(n)
		if !reached {
			p.idle(callTimeout, nil)
			return errUnreachable
		}
		if len(messages) > 0 {
			for _, m := range messages {
				if !p.l.point("fetched", m.sequence) {
					return errDead
				}
				p.l.w.lock(func() { p.l.w.outbox.received++ })
				each(m)
			}
			return nil
		}
		if !p.idle(min(wait, time.Until(limit)), changed) || !time.Now().Before(limit) {
			return nil
		}
	}
}

// idle waits; it reports whether the fetch goes on.
func (p *pull) idle(d time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
		return p.l.stop.Err() == nil
	case <-p.stop.Done():
		return false
	case <-p.lost:
		return false
	}
	return true
}

// take hands out up to n messages, or says how long there will be none.
func (p *pull) take(n int) (taken []*inHand, wait time.Duration, changed <-chan struct{}, reached bool) {
	w := p.l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.l.reaches() {
		return nil, 0, nil, false
	}
	now := time.Now()
	wait = longestFetch
	for _, m := range w.outbox.messages {
		ready := m.due
		if m.holder != nil {
			ready = m.expires
		}
		switch {
		case m.acked || m.partition != p.partition || m.holder != nil && m.expires.IsZero():
		case ready.After(now):
			wait = min(wait, ready.Sub(now))
		case p.held[m.sequence] != nil: // a copy of what is in hand already
			m.holder, m.expires = p, time.Time{}
		case len(taken) < n:
			taken = append(taken, w.outbox.hand(p, m))
		}
	}
	return taken, wait, w.changed, true
}

// hand gives the message into the puller's hands. w.mu is held.
func (o *outbox) hand(p *pull, m *stored) *inHand {
	if m.offered++; m.offered > 1 {
		o.w.seen.note("outbox: delivered again")
	}
	h := &inHand{stored: m, p: p}
	m.holder, m.expires = p, time.Time{}
	p.held[m.sequence] = h
	if o.w.meets(redelivered, 6, m.sequence, uint64(m.offered)) {
		m.expires = o.afterAckWait(m) // its heartbeats get lost
	}
	return h
}

// inHand is a message in a life's hands, until one of Ack, Nak and Drop is called.
type inHand struct {
	*stored
	p    *pull
	left bool
}

func (h *inHand) Sequence() uint64          { return h.sequence }
func (h *inHand) Subject() string           { return h.subject }
func (h *inHand) Header(name string) string { return h.header[name] }
func (h *inHand) Body() []byte              { return slices.Clone(h.body) }
func (h *inHand) StoredAt() time.Time       { return h.at }

// Ack implements delivery.Message. It counts whoever holds the message by now: the
// server takes a stale ack.
func (h *inHand) Ack() error {
	return h.leave("ack", func() {
		h.p.l.w.books.acked(h.p.l, h.stored)
		if h.p.l.w.meets(ackLost, 4, h.sequence, uint64(h.offered)) {
			h.lapse()
			return
		}
		if h.holder != h.p {
			h.p.l.w.seen.note("outbox: stale ack taken")
		}
		h.acked, h.ackedAt = true, time.Now()
		h.p.l.w.killAfterAck(h.stored)
		h.p.l.w.wake()
	})
}

// Nak implements delivery.Message.
func (h *inHand) Nak(delay time.Duration) error {
	return h.leave("nak", func() {
		h.holder, h.due = nil, time.Now().Add(delay)
		h.p.l.w.wake()
	})
}

// Drop implements delivery.Message.
func (h *inHand) Drop() { _ = h.leave("drop", h.lapse) }

// lapse leaves the message to AckWait.
func (h *inHand) lapse() {
	if h.holder == h.p {
		h.expires = h.p.l.w.outbox.afterAckWait(h.stored)
		h.p.l.w.wake()
	}
}

// leave lets go of the message; the word to the server may get lost.
func (h *inHand) leave(how string, do func()) error {
	w := h.p.l.w
	return h.p.l.effect(how, h.sequence, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if h.left {
			w.violate("I3", "message %d left its holder twice, now by %s", h.sequence, how)
		}
		h.left = true
		delete(h.p.held, h.sequence)
		h.p.l.of(h.sequence).settle()
		if !h.p.l.reaches() {
			if how == "ack" {
				w.books.acked(h.p.l, h.stored)
			}
			h.lapse()
			return errUnreachable
		}
		do()
		return nil
	})
}
