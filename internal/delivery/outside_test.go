package delivery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

const ackWait = 30 * time.Second

// outbox is one partition with its consumer.
type outbox struct {
	w         *world
	changed   chan struct{} // capacity 1
	published chan struct{} // capacity 1

	mu       sync.Mutex
	messages []*stored
	holding  int
	most     int // in hand at once
	received int
}

// stored is a message of the outbox.
type stored struct {
	sequence uint64
	subject  string
	body     []byte
	header   map[string]string
	at       time.Time

	due    time.Time // available again from then on
	holder *life
	acked  bool
	naks   []time.Duration
	drops  int
}

// publish stores a message and returns it.
func (o *outbox) publish(subject string, body []byte, header map[string]string) *stored {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := &stored{sequence: uint64(len(o.messages) + 1), subject: subject, body: body, header: header, at: time.Now(), due: time.Now()}
	o.messages = append(o.messages, m)
	o.wake()
	return m
}

// again delivers an acked message once more: acks are forgettable.
func (o *outbox) again(m *stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.acked, m.due = false, time.Now()
	o.wake()
}

func (o *outbox) wake() {
	select {
	case o.published <- struct{}{}:
	default:
	}
}

// orphan gives what a dead life held to the next one, after AckWait.
func (o *outbox) orphan(l *life) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.messages {
		if m.holder == l {
			o.free(m, time.Now().Add(ackWait))
		}
	}
}

func (o *outbox) free(m *stored, due time.Time) {
	m.holder, m.due = nil, due
	o.holding--
	o.wake()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// take hands out up to n messages, or says how long there will be none.
func (o *outbox) take(l *life, n int) (taken []*stored, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait = time.Minute
	for _, m := range o.messages {
		switch {
		case m.acked || m.holder != nil || l.isDead():
		case m.due.After(time.Now()):
			wait = min(wait, time.Until(m.due))
		case len(taken) < n:
			m.holder = l
			taken = append(taken, m)
		}
	}
	o.received += len(taken)
	o.holding += len(taken)
	o.most = max(o.most, o.holding)
	return taken, wait
}

// held is how many messages are in hand.
func (o *outbox) held() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.holding
}

// settled waits until everything is acked; it reports false after limit.
func (o *outbox) settled(limit time.Duration) bool {
	deadline := time.After(limit)
	for {
		o.mu.Lock()
		open := slices.ContainsFunc(o.messages, func(m *stored) bool { return !m.acked })
		o.mu.Unlock()
		if !open {
			return true
		}
		select {
		case <-o.changed:
		case <-deadline:
			return false
		}
	}
}

// pull is the outbox as one life sees it.
type pull struct{ l *life }

// Fetch waits longer than the real one, which ends after a second: a day in a
// bubble would have too many of them.
func (p pull) Fetch(n int, each func(Message)) error {
	o := p.l.w.outbox
	taken, wait := o.take(p.l, n)
	if len(taken) == 0 {
		select {
		case <-time.After(wait):
		case <-o.published:
		case <-p.l.stop.Done():
		case <-p.l.journal.Lost():
		}
		taken, _ = o.take(p.l, n)
	}
	if p.l.isDead() {
		return errFault
	}
	for _, m := range taken {
		each(&inHand{stored: m, l: p.l})
	}
	return nil
}

// inHand is a message in a life's hands, until one of Ack, Nak and Drop is called.
type inHand struct {
	*stored
	l    *life
	left bool
}

func (m *inHand) Sequence() uint64          { return m.sequence }
func (m *inHand) Subject() string           { return m.subject }
func (m *inHand) Header(name string) string { return m.header[name] }
func (m *inHand) Body() []byte              { return m.body }
func (m *inHand) StoredAt() time.Time       { return m.at }

func (m *inHand) Ack() error {
	return m.leave("ack", time.Time{}, func() { m.acked = true })
}

func (m *inHand) Nak(delay time.Duration) error {
	return m.leave("nak", time.Now().Add(delay), func() { m.naks = append(m.naks, delay) })
}

func (m *inHand) Drop() {
	_ = m.leave("drop", time.Now().Add(ackWait), func() { m.drops++ })
}

func (m *inHand) leave(how string, due time.Time, note func()) error {
	if m.left {
		m.l.w.t.Errorf("message %d left twice, now by %s", m.sequence, how)
	}
	m.left = true
	performed := false
	err := m.l.do(how, func() {
		performed = true
		m.l.w.outbox.mu.Lock()
		defer m.l.w.outbox.mu.Unlock()
		note()
		m.l.w.outbox.free(m.stored, due)
	})
	if !performed && !m.l.isDead() { // the word was lost: AckWait brings it back
		m.l.w.outbox.orphanOne(m.stored)
	}
	return err
}

func (o *outbox) orphanOne(m *stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.holder != nil {
		o.free(m, time.Now().Add(ackWait))
	}
}

// store is the journal's stream in memory.
type store struct {
	mu       sync.Mutex
	messages []journal.Stored
	next     uint64
	marker   uint64
	ids      map[string]uint64
	appended func() // runs after a write was stored, before its answer
}

func newStore() *store { return &store{ids: map[string]uint64{}} }

func (s *store) Mark(_ context.Context, _ int, id string, data []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marker = s.put(journal.OwnerKind, id, data)
	return s.marker, nil
}

func (s *store) put(kind journal.Kind, id string, data []byte) uint64 {
	s.next++
	s.ids[id] = s.next
	s.messages = append(s.messages, journal.Stored{Kind: kind, Sequence: s.next, Time: time.Now(), Data: data})
	return s.next
}

func (s *store) Append(ctx context.Context, _ int, kind journal.Kind, marker uint64, id string, data []byte) (journal.Appended, error) {
	if s.appended != nil {
		defer s.appended()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.ids[id]; ok {
		return journal.Appended{Sequence: have, Duplicate: true}, nil
	}
	if s.marker != marker {
		return journal.Appended{}, fmt.Errorf("marker %d: %w", s.marker, journal.ErrLost)
	}
	if ctx.Err() != nil {
		return journal.Appended{}, ctx.Err()
	}
	sequence := s.put(kind, id, data)
	if kind == journal.OwnerKind {
		s.marker = sequence
	}
	return journal.Appended{Sequence: sequence}, nil
}

func (s *store) Read(_ context.Context, _ int, marker uint64, each func(journal.Stored) error) error {
	s.mu.Lock()
	all := slices.Clone(s.messages)
	s.mu.Unlock()
	for _, m := range all {
		if m.Sequence > marker {
			break
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) PurgeIntents(_ context.Context, _ int, below uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.DeleteFunc(s.messages, func(m journal.Stored) bool {
		return m.Kind == journal.IntentKind && m.Sequence < below
	})
	return nil
}

// once publishes one event, serves until it is settled, and drains.
func once(t *testing.T, w *world, m *stored) {
	t.Helper()
	l := w.start()
	if !w.outbox.settled(48 * time.Hour) {
		t.Errorf("message %d was never settled; trace %q", m.sequence, w.effects())
	}
	l.drain()
}
