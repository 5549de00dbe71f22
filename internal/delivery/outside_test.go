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
	w       *world
	changed chan struct{} // capacity 1

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
	return m
}

// again delivers an acked message once more: acks are forgettable.
func (o *outbox) again(m *stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.acked, m.due = false, time.Now()
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
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

func (o *outbox) take(l *life, n int) []*stored {
	o.mu.Lock()
	defer o.mu.Unlock()
	var taken []*stored
	for _, m := range o.messages {
		if len(taken) < n && !m.acked && m.holder == nil && !m.due.After(time.Now()) {
			m.holder = l
			taken = append(taken, m)
		}
	}
	o.received += len(taken)
	o.holding += len(taken)
	o.most = max(o.most, o.holding)
	return taken
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

func (p pull) Fetch(n int, each func(Message)) error {
	o := p.l.w.outbox
	for range 20 { // a second in all, like the real one
		if p.l.isDead() {
			return errFault
		}
		taken := o.take(p.l, n)
		for _, m := range taken {
			each(&inHand{stored: m, l: p.l})
		}
		if len(taken) > 0 {
			return nil
		}
		pass(50 * time.Millisecond)
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

// reply is one answer of the scripted Stripe.
type reply struct {
	Answer
	counts  bool                  // the event is counted, whatever the answer
	dial    func(context.Context) // runs before Ready
	working func(context.Context) // runs between the request and its answer
	panics  string                // where the sender panics: "before" or "after" the request
}

// request is one that was made.
type request struct {
	identifier, key, value string
	timestamp              int64
	at                     time.Time
}

// stripe counts events, and forgets identifiers after a day.
type stripe struct {
	w *world

	mu       sync.Mutex
	script   map[string][]reply // by identifier; after its end, or without: an honest 200
	rule     func(Attempt) *reply
	requests []request
	counted  map[string][]time.Time
	busy     map[string]int
	overlap  int // most requests at once for one customer
	called   int
}

func (s *stripe) of(l *life) Sender { return line{s, l} }

// line is Stripe as one life reaches it.
type line struct {
	s *stripe
	l *life
}

func (c line) Send(ctx context.Context, a Attempt) Answer {
	r := c.s.next(a)
	if r.dial != nil {
		r.dial(ctx)
	}
	if r.panics == "before" {
		panic("sender")
	}
	if r.Class == NotSent || ctx.Err() != nil || a.Ready(ctx) != nil {
		return Answer{Class: NotSent, Detail: "not sent"}
	}
	sent := false
	fault := c.l.do("send", func() { sent = true; r = c.s.receive(a, r) })
	if sent {
		defer c.s.finish(a)
	}
	if fault != nil {
		return Answer{Class: NoAnswer}
	}
	a.Written()
	if r.panics == "after" {
		panic("sender")
	}
	if r.working != nil {
		r.working(ctx)
	}
	if ctx.Err() != nil {
		return Answer{Class: NoAnswer, Detail: "cut"}
	}
	return r.Answer
}

func (s *stripe) next(a Attempt) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.called++
	if s.rule != nil {
		if r := s.rule(a); r != nil {
			return *r
		}
	}
	id := a.Event.Identifier()
	if script := s.script[id]; len(script) > 0 {
		s.script[id] = script[1:]
		return script[0]
	}
	return reply{}
}

// receive is the moment at which Stripe has the request.
func (s *stripe) receive(a Attempt, r reply) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := a.Event.Identifier()
	s.requests = append(s.requests, request{id, a.IdempotencyKey, a.Event.Value(), a.Event.Timestamp(), time.Now()})
	if s.busy == nil {
		s.busy = map[string]int{}
	}
	s.busy[a.Event.Customer()]++
	s.overlap = max(s.overlap, s.busy[a.Event.Customer()])
	known := slices.ContainsFunc(s.counted[id], func(at time.Time) bool { return time.Since(at) < 24*time.Hour })
	honest := r.Class == 0
	switch {
	case honest && known:
		r.Answer = duplicateAnswer
	case honest:
		r.Answer, r.counts = okAnswer, true
	}
	if r.counts && !known {
		s.counted[id] = append(s.counted[id], time.Now())
	}
	return r
}

func (s *stripe) finish(a Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[a.Event.Customer()]--
}

// change changes what a rule depends on.
func (s *stripe) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// made returns the requests for an identifier; "" for all.
func (s *stripe) made(identifier string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r request) bool { return identifier != "" && r.identifier != identifier })
}

var (
	okAnswer        = Answer{Class: Accepted, Status: 200, RequestID: "req_ok"}
	duplicateAnswer = Answer{Class: Duplicate, Status: 400, Detail: "An event already exists with identifier", RequestID: "req_dup", ShouldRetry: RetryNo}
	failed          = reply{Answer: Answer{Class: ServerFault, Status: 500, RequestID: "req_500", Detail: "oops"}}
	silent          = reply{Answer: Answer{Class: NoAnswer, Detail: "reset"}}
	limited         = reply{Answer: Answer{Class: Throttled, Status: 429}}
	contended       = reply{Answer: Answer{Class: Contended, Status: 409}}
	unauthorized    = reply{Answer: Answer{Class: SetupFault, Status: 401, Code: "invalid_api_key", Detail: "Invalid API Key"}}
	refusedForGood  = reply{Answer: Answer{Class: Refused, Status: 400, Code: "parameter_invalid", Detail: "no", RequestID: "req_400"}}
	foreign         = reply{Answer: Answer{Class: ForeignReply, Status: 200, Detail: "other mode"}}
	strange         = reply{Answer: Answer{Class: Unexpected, Status: 200, Detail: "HTML"}}
	unsent          = reply{Answer: Answer{Class: NotSent}}
	counted         = func(r reply) reply { r.counts = true; return r }
)

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
func once(t *testing.T, w *world, m *stored) *life {
	t.Helper()
	l := w.start()
	if !w.outbox.settled(48 * time.Hour) {
		t.Errorf("message %d was never settled; trace %q", m.sequence, w.effects())
	}
	l.drain()
	return l
}
