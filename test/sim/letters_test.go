package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// letters is the stream USAGE_DLQ. Guarded by w.mu.
type letters struct {
	w      *world
	all    []*letter
	stored map[uint64]bool // messages whose letter was stored at any time
}

type letter struct {
	deadletter.Letter

	number  uint64 // in the stream
	id      string // Nats-Msg-Id
	subject string
	header  map[string]string
	body    []byte
	at      time.Time
	gone    bool // deleted after its replay
}

func newLetters(w *world) *letters { return &letters{w: w, stored: map[uint64]bool{}} }

// dlq is the stream as one life reaches it.
type dlq struct{ l *life }

// Publish implements delivery.DeadLetters.
func (q dlq) Publish(_ context.Context, l deadletter.Letter, header map[string]string, body []byte) error {
	return q.call("letter", l.Sequence, false, func(n uint64) error {
		s := q.l.w.letters
		if q.l.w.meets(letterRefused, 3, l.Sequence, n) {
			return errUnreachable
		}
		s.store(l, header, body)
		if q.l.w.meets(letterUnheard, 3, l.Sequence, n) {
			return errUnreachable
		}
		return nil
	})
}

// Stored implements delivery.DeadLetters.
func (q dlq) Stored(ctx context.Context, l deadletter.Letter, _ time.Time) (found bool, err error) {
	err = q.call("looks for the letter", l.Sequence, true, func(uint64) error {
		q.l.w.seen.note("dead letters: looked for")
		found = slices.ContainsFunc(q.l.w.letters.all, func(have *letter) bool { return !have.gone && have.id == l.MessageID(epoch) })
		return ctx.Err()
	})
	return found, err
}

// call is one call to the stream. Nothing is frozen between the last look at a letter's age
// and its publication: see the package comment.
func (q dlq) call(what string, sequence uint64, freezes bool, do func(n uint64) error) error {
	if freezes {
		q.l.awake()
	}
	q.l.pass(what, sequence)
	if q.l.isDead() {
		return errDead
	}
	err := q.reach(sequence, do)
	if !q.l.point(what+", done", sequence) {
		return errDead
	}
	return err
}

// reach does it where the stream can be reached.
func (q dlq) reach(sequence uint64, do func(n uint64) error) error {
	var n uint64
	reached := false
	w := q.l.w
	w.lock(func() { n, reached = q.l.nth(fmt.Sprint("letter ", sequence)), q.l.reaches() })
	r := w.dice.draw("dlq", sequence, n, uint64(q.l.number))
	if !reached {
		pass(between(r, callTimeout/2, callTimeout))
		return errUnreachable
	}
	pass(between(r, 200*time.Microsecond, 5*time.Millisecond))
	w.mu.Lock()
	defer w.mu.Unlock()
	return do(n)
}

// store keeps the letter unless its id is known, and looks at I13. w.mu is held.
func (s *letters) store(l deadletter.Letter, header map[string]string, body []byte) {
	id, now := l.MessageID(epoch), time.Now()
	if slices.ContainsFunc(s.all, func(have *letter) bool { return have.id == id && now.Sub(have.at) < idWindow }) {
		return
	}
	s.w.seen.note("dead letter: " + string(l.Reason))
	s.w.note(0, "dead letter stored: "+string(l.Reason), l.Sequence, string(l.Outcome))
	for _, have := range s.all {
		// What the ledger has forgotten it buries once more rather than send it.
		forgot := now.Sub(have.at) > s.w.memory()-time.Hour // the server's clock may have stepped
		if have.Sequence == l.Sequence && !have.gone && !forgot {
			s.w.violate("I13", "message %d has two dead letters, %s and %s", l.Sequence, have.Reason, l.Reason)
		}
	}
	s.judge(l, body)
	s.stored[l.Sequence] = true
	s.all = append(s.all, &letter{
		Letter: l, number: uint64(len(s.all) + 1), id: id, subject: l.StreamSubject(), header: header, body: bytes.Clone(body), at: now,
	})
}

// judge holds the letter against the message and what became of it. w.mu is held.
func (s *letters) judge(l deadletter.Letter, body []byte) {
	if l.Sequence == 0 || l.Sequence > uint64(len(s.w.outbox.messages)) {
		s.w.violate("I13", "a dead letter for message %d, which is none", l.Sequence)
		return
	}
	m := s.w.outbox.messages[l.Sequence-1]
	if !bytes.Equal(m.body, body) {
		s.w.violate("I13", "the dead letter of message %d has another body", l.Sequence)
	}
	if !l.Reason.Valid() {
		s.w.violate("I13", "message %d died of %q", l.Sequence, l.Reason)
	}
	if l.Outcome != deadletter.Refused {
		return
	}
	for _, r := range s.w.stripe.counted[m.expect.identity()] {
		if r.sequence == l.Sequence {
			s.w.violate("I13", "the dead letter of message %d says %s, and Stripe has counted it", l.Sequence, l.Outcome)
		}
	}
}

// live are the letters that wait. w.mu is held.
func (s *letters) live() []*letter {
	var live []*letter
	for _, l := range s.all {
		if !l.gone {
			live = append(live, l)
		}
	}
	return live
}

// console is JetStream as the replay command sees it: both streams, as far as it
// uses them.
type console struct {
	jetstream.JetStream

	w *world
}

// stream is one of the two.
type stream struct {
	jetstream.Stream

	w    *world
	name string
}

// Stream implements jetstream.JetStream.
func (c console) Stream(_ context.Context, name string) (jetstream.Stream, error) {
	return stream{w: c.w, name: name}, nil
}

// PublishMsg implements jetstream.JetStream.
func (c console) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	header := map[string]string{}
	for name, values := range m.Header {
		header[name] = values[0]
	}
	before := len(c.w.outbox.messages)
	kept := c.w.publish(m.Subject, header, m.Data, "replay of "+header[deadletter.HeaderReplayOf])
	return &jetstream.PubAck{Stream: "USAGE", Sequence: kept.sequence, Duplicate: len(c.w.outbox.messages) == before}, nil
}

// CachedInfo implements jetstream.Stream.
func (s stream) CachedInfo() *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: s.name, Metadata: map[string]string{"epoch": epoch}}}
}

// GetMsg implements jetstream.Stream.
func (s stream) GetMsg(_ context.Context, number uint64, _ ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.name == "USAGE" {
		m := s.w.outbox.messages[number-1]
		return &jetstream.RawStreamMsg{Subject: m.subject, Sequence: number, Header: headers(m.header), Data: m.body, Time: m.at}, nil
	}
	l := s.w.letters.all[number-1]
	if l.gone {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Subject: l.subject, Sequence: number, Header: headers(l.header), Data: l.body, Time: l.at}, nil
}

// DeleteMsg implements jetstream.Stream.
func (s stream) DeleteMsg(_ context.Context, number uint64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	l := s.w.letters.all[number-1]
	if !slices.ContainsFunc(s.w.outbox.messages, func(m *stored) bool {
		return m.expect.replayOf == number
	}) {
		s.w.violate("I14", "dead letter %d is deleted before a replay of it is stored", number)
	}
	if s.w.meets(replayedTwice, 2, number) {
		return errUnreachable
	}
	l.gone = true
	return nil
}

func headers(of map[string]string) nats.Header {
	h := nats.Header{}
	for name, value := range of {
		h[name] = []string{value}
	}
	return h
}
