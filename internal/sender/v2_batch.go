package sender

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// courier takes permits, then events from the line, and sees to their answers.
func (v *V2) courier(n int) {
	permit, err := v.permits.TakeUpTo(v.life, n)
	if err != nil {
		v.line.take(0) // the sender is closed: its events leave by themselves
		return
	}
	batch := v.line.take(permit.Count())
	if len(batch) == 0 {
		permit.Done()
		return
	}
	v.carry(batch, permit)
}

// carry sees to the answer of each member. A refused batch is parted, down to the event
// at fault; each part is a request of its own, with permits of its own. permit may be nil.
func (v *V2) carry(batch []*member, permit Permit) {
	renewed := false
	for groups := [][]*member{batch}; len(groups) > 0; {
		group := groups[0]
		groups = groups[1:]
		b := &batchRequest{v: v, members: group, permit: permit, renewed: renewed}
		permit = nil
		switch b.make() {
		case nextPart:
			groups = append(halves(b.sent), groups...)
		case nextSession:
			renewed = true
			groups = append([][]*member{b.sent}, groups...)
		case nextNothing:
		}
		if len(b.left) > 0 {
			groups = append([][]*member{b.left}, groups...)
		}
	}
}

func halves(members []*member) [][]*member {
	half := (len(members) + 1) / 2
	return [][]*member{members[:half], members[half:]}
}

// next is what is to be done about the members that were sent.
type next uint8

const (
	nextNothing next = iota // they are answered
	nextPart                // the batch was refused: part it
	nextSession             // the session was: another one, then again
)

// batchRequest is one request and its events. Whatever becomes of it, each member is
// answered, or in sent or left when make returns.
type batchRequest struct {
	v       *V2
	members []*member
	permit  Permit
	session *session
	renewed bool // it is the second one for these events

	out  *http.Request
	body lateBody
	size int       // of the body, announced before it is known who is sent
	sent []*member // part of the request, and not answered
	crew []*member // part of the request
	left []*member // not part of it, and to be sent by another one
}

// make makes the request. Everything before the connection may take any time; who stops
// meanwhile is answered.
func (b *batchRequest) make() next {
	ctx := b.members[0].cut
	if answer, failed := b.open(ctx); failed {
		b.done()
		return b.unsent(ctx, answer)
	}
	if err := b.allowed(ctx); err != nil {
		return b.prune(ctx)
	}
	if n := b.permit.Count(); n < len(b.members) {
		b.members, b.left = b.members[:n], b.members[n:]
	}
	return b.exchange(ctx)
}

// open has a session that is good for the present key.
func (b *batchRequest) open(ctx context.Context) (answer delivery.Answer, failed bool) {
	patience, cancel := b.patience(ctx)
	defer cancel()
	b.session, answer = b.v.sessions.get(patience)
	return answer, b.session == nil
}

// allowed has permits, unless a member stops first.
func (b *batchRequest) allowed(ctx context.Context) (err error) {
	if b.permit != nil {
		return nil
	}
	ctx, cancel := b.patience(ctx)
	defer cancel()
	b.permit, err = b.v.permits.TakeUpTo(ctx, len(b.members))
	return err // only its presence matters
}

// patience ends with ctx, the sender, and when one member stops: the others go on without
// it.
func (b *batchRequest) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stops := []func() bool{context.AfterFunc(b.v.life, cancel)}
	for _, m := range b.members {
		stops = append(stops, context.AfterFunc(m.attempt.Stop, cancel))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// prune turns away who has stopped, or everybody at the end; the others try again.
func (b *batchRequest) prune(ctx context.Context) next {
	over := ctx.Err() != nil || b.v.life.Err() != nil
	for _, m := range b.members {
		if over || m.attempt.Stop.Err() != nil {
			m.turnAway(ctx)
		} else {
			b.left = append(b.left, m)
		}
	}
	b.members = nil
	return nextNothing
}

func (b *batchRequest) done() {
	if b.permit != nil {
		b.permit.Done()
	}
}

// exchange sends what is ready once there is a connection, and draws the conclusion.
func (b *batchRequest) exchange(ctx context.Context) next {
	defer b.done()
	began := time.Now()
	stream := b.v.stream
	x := newExchange(ctx, stream, delivery.Attempt{Ready: b.ready, Written: b.written})
	defer x.cancel(nil)
	defer context.AfterFunc(b.v.life, func() { x.cancel(errClosed) })()
	x.seen.live = stream.live()
	b.size = compose(b.members)
	url := strings.TrimSuffix(stream.base, "/") + streamPath
	out, err := http.NewRequestWithContext(x.traced(x.ctx), http.MethodPost, url, &b.body)
	if err == nil {
		out.ContentLength, out.GetBody = int64(b.size), nil
		out.Header.Set("Authorization", "Bearer "+b.session.token)
		out.Header.Set("Content-Type", "application/json")
		out.Header.Set("Stripe-Version", stream.version)
		b.out = out
		err = x.carry(out)
	}
	if b.sent == nil { // no connection, or nobody was ready
		return b.unsent(ctx, classify(x.outcome(err)))
	}
	return b.conclude(x.outcome(err), time.Since(began))
}

var errNobody = errors.New("no event of the batch is to be sent")

// ready is the last look before the first byte: fresh permits, then each event's own. Who
// is not ready leaves the batch; who has no permit is sent by another one. What was announced
// of the body and is not needed is filled with white space. When the process stood still
// before the last was asked, permits and the first one's word are old: once more.
func (b *batchRequest) ready(ctx context.Context) error {
	for quick := false; !quick; b.members = b.sent {
		if err := b.spend(ctx); err != nil {
			b.sent = nil
			return err
		}
		asked := time.Now()
		b.sent = ask(ctx, b.members)
		quick = within(asked, time.Now(), askedWithin)
	}
	b.members, b.crew = nil, b.sent
	if len(b.sent) == 0 {
		return errNobody
	}
	b.out.Header.Set("Idempotency-Key", idempotencyKey(b.sent))
	b.body.is(b.encode())
	return nil
}

// askedWithin is how long asking all events of a batch may take: a hundred take less than a
// millisecond.
const askedWithin = time.Second

// within reports whether so little time has passed, by either clock.
func within(from, to time.Time, most time.Duration) bool {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0))) <= most
}

// spend leaves as many members as there are fresh permits.
func (b *batchRequest) spend(ctx context.Context) error {
	if len(b.members) == 0 {
		return errNobody
	}
	patience, cancel := b.patience(ctx)
	defer cancel()
	if err := b.permit.Spend(patience); err != nil {
		return err
	}
	n := min(b.permit.Count(), len(b.members))
	b.members, b.left = b.members[:n], append(slices.Clone(b.members[n:]), b.left...)
	return nil
}

// ask returns who is ready; the others are answered.
func ask(ctx context.Context, members []*member) (ready []*member) {
	for _, m := range members {
		if err := m.ready(ctx); err != nil {
			m.answered <- delivery.Answer{Class: delivery.NotSent, Detail: printable(err.Error(), maxDetail)}
			continue
		}
		ready = append(ready, m)
	}
	return ready
}

// compose writes the events, and returns the size of the body that holds them all.
func compose(members []*member) (size int) {
	events := make([]byte, 0, 256*len(members))
	ends := make([]int, len(members))
	for i, m := range members {
		events = appendStreamEvent(events, m.attempt.Event)
		ends[i] = len(events)
	}
	from := 0
	for i, m := range members {
		m.fragment, from = events[from:ends[i]], ends[i]
	}
	return len(events) + len(opening2) + len(closing2) + len(members) - 1
}

func (b *batchRequest) encode() []byte {
	body := make([]byte, 0, b.size)
	body = append(body, opening2...)
	for i, m := range b.sent {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, m.fragment...)
	}
	body = append(body, closing2...)
	for len(body) < b.size {
		body = append(body, ' ')
	}
	return body
}

// idempotencyKey names the batch by its attempts: the same ones again have the same key,
// and a key never has other content.
func idempotencyKey(members []*member) string {
	hash := sha256.New()
	for _, m := range members {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(m.attempt.IdempotencyKey), m.attempt.IdempotencyKey) // it never fails
	}
	return "mw-batch-" + hex.EncodeToString(hash.Sum(nil))
}

func (b *batchRequest) written() {
	b.permit.Done()
	for _, m := range b.crew {
		if m.attempt.Written != nil {
			m.attempt.Written()
		}
	}
}

// unsent is for a request that did not begin: everybody who has not left is answered, or
// tries again where only one's patience has ended.
func (b *batchRequest) unsent(ctx context.Context, answer delivery.Answer) next {
	if len(b.members) == 0 {
		return nextNothing
	}
	stopped := slices.ContainsFunc(b.members, func(m *member) bool { return m.attempt.Stop.Err() != nil })
	if stopped || ctx.Err() != nil || b.v.life.Err() != nil {
		return b.prune(ctx)
	}
	b.sent, b.members = b.members, nil
	b.answerEach(answer)
	return nextNothing
}

// conclude reads the answer to a request that was begun. Only a batch of one tells what
// Stripe thinks of an event.
func (b *batchRequest) conclude(o observation, took time.Duration) next {
	alone := len(b.sent) == 1
	if alone {
		o.identifier = b.sent[0].attempt.Event.Identifier()
	}
	v := judgeStream(o, alone)
	b.v.made(v.answer.Class, took)
	switch {
	case v.session:
		if b.v.sessions.drop(b.session); !b.renewed {
			return nextSession
		}
	case v.event && !alone:
		return nextPart
	}
	b.answerEach(v.answer)
	return nextNothing
}

// answerEach gives every member the same answer; it counts once.
func (b *batchRequest) answerEach(a delivery.Answer) {
	for _, m := range b.sent {
		m.answered <- a
		a.Shared = true
	}
	b.sent = nil
}

// lateBody is a request's body that is known when the connection is there.
type lateBody struct{ content bytes.Reader }

func (b *lateBody) is(content []byte)          { b.content.Reset(content) }
func (b *lateBody) Read(p []byte) (int, error) { return b.content.Read(p) } // io.EOF says what it is
func (b *lateBody) Close() error               { return nil }

var _ io.ReadCloser = (*lateBody)(nil)
