package sim

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

// attemptTimeout is the sender's for connecting, and again for the answer.
const attemptTimeout = 10 * time.Second

// tap is the sender as the worker sees it: it notes each attempt, and looks at what
// must hold when the first byte is written.
type tap struct {
	l     *life
	inner delivery.Sender
}

// sequenceOf is the message's sequence in an Idempotency-Key, 0 if there is none.
func sequenceOf(idempotency string) uint64 {
	fields := strings.Split(idempotency, "-")
	if len(fields) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(fields[len(fields)-2], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func contentOf(e usage.Event) content {
	return content{name: e.EventName(), customer: e.Customer(), identifier: e.Identifier(), value: e.Value(), timestamp: e.Timestamp()}
}

// Send implements delivery.Sender.
func (t tap) Send(ctx context.Context, a delivery.Attempt) delivery.Answer {
	sequence := sequenceOf(a.IdempotencyKey)
	t.l.point("connects", sequence)
	if t.panics("before sending", sequence) {
		panic("poison, before sending")
	}
	try := &try{life: t.l, sequence: sequence, idempotency: a.IdempotencyKey, content: contentOf(a.Event)}
	ready := a.Ready
	a.Ready = func(ctx context.Context) error {
		if !t.l.point("connected", sequence) {
			return errDead
		}
		try = t.l.w.books.another(try)
		if err := ready(context.WithValue(ctx, spending{}, &try.permitted)); err != nil {
			return err
		}
		return t.l.w.books.firstByte(try)
	}
	answer := t.inner.Send(ctx, a)
	alive := t.l.point("answered", sequence)
	panics := t.panics("after sending", sequence)
	t.l.w.lock(func() { t.l.w.books.answered(try, answer, alive && !panics) })
	if panics {
		panic("poison, after sending")
	}
	return answer
}

// panics reports whether the worker's own code fails on the message here.
func (t tap) panics(when string, sequence uint64) (panics bool) {
	t.l.w.lock(func() { panics = t.l.w.meets(poison, 8, sequence, hashOf(when)) })
	return panics
}

// newSender makes the real sender over connections in memory for every third seed, and
// one without HTTP for the others.
func (l *life) newSender() delivery.Sender {
	if l.w.dice%3 == 0 {
		return tap{l, l.overHTTP()}
	}
	return tap{l, direct{l}}
}

// direct makes requests without HTTP.
type direct struct{ l *life }

var errDenied = errors.New("connection refused")

// connect lets the time for a connection pass.
func (l *life) connect(what string) error {
	var took time.Duration
	denied := false
	l.w.lock(func() {
		nth := l.nth(what)
		took = between(l.w.dice.draw("connect", hashOf(what), nth, uint64(l.number)), 100*time.Microsecond, 40*time.Millisecond)
		denied = l.noStripe.After(time.Now()) || l.w.meets(connectionDenied, 3, hashOf(what), nth, uint64(l.number))
	})
	pass(took)
	if denied {
		return errDenied
	}
	return nil
}

// Send implements delivery.Sender.
func (d direct) Send(ctx context.Context, a delivery.Attempt) delivery.Answer {
	c := contentOf(a.Event)
	var bearer string
	d.l.w.lock(func() { bearer = d.l.key })
	if err := d.l.connect(c.identity()); err != nil {
		return delivery.Answer{Class: delivery.NotSent, Detail: err.Error()}
	}
	if ctx.Err() != nil || a.Ready(ctx) != nil {
		return delivery.Answer{Class: delivery.NotSent}
	}
	answers := make(chan reply, 1)
	d.l.w.beside.Go(func() { answers <- d.l.w.stripe.serve(request{c, a.IdempotencyKey, bearer, d.l}) })
	a.Written()
	timer := time.NewTimer(attemptTimeout)
	defer timer.Stop()
	select {
	case r := <-answers:
		return r.answer()
	case <-timer.C:
	case <-ctx.Done():
	}
	return delivery.Answer{Class: delivery.NoAnswer}
}

// answer is what the real sender makes of the reply.
func (r reply) answer() delivery.Answer {
	a := delivery.Answer{Class: r.class, Status: r.status, Code: r.code, RequestID: "req_" + strconv.Itoa(r.number), RetryAfter: r.after, Replayed: r.replayed}
	switch {
	case r.end == cutSilent:
		return delivery.Answer{Class: delivery.NoAnswer}
	case r.end == cutBody:
		a.Class = delivery.NoAnswer
	case r.retry == "true":
		a.ShouldRetry = delivery.RetryYes
	case r.retry == "false":
		a.ShouldRetry = delivery.RetryNo
	}
	return a
}
