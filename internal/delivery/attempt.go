package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/metrics"
)

// intend stores the intent unless one is open. It first takes its turn among the
// next senders, so that no more intents are open than the next permits cover.
func (d *delivery) intend(stop context.Context) error {
	if !d.intent.IsZero() {
		return nil
	}
	select {
	case d.w.ahead <- struct{}{}:
		d.queued = true
	case <-stop.Done():
		return stop.Err() //nolint:wrapcheck // only its presence matters
	}
	t0, err := d.journal.Intend(settling(), d.entry())
	if err == nil {
		d.intent = t0
	}
	return err //nolint:wrapcheck // only its presence matters
}

func (d *delivery) entry() journal.Entry {
	return journal.Entry{Sequence: d.message.Sequence(), Key: d.key, Fingerprint: d.fingerprint}
}

// attempt waits for its turn and makes one request, or says why not.
func (d *delivery) attempt(stop, cut context.Context) (Answer, refusal) {
	pass, err := d.w.gate.Enter(stop)
	if err != nil {
		return Answer{}, refusedStopped
	}
	d.pass = pass
	permit, err := d.permit(stop)
	if err != nil {
		d.w.gate.Leave(pass, Answer{Class: NotSent})
		return Answer{Class: NotSent}, refusedStopped
	}
	defer permit.Done()
	r := &readiness{d: d, stop: stop, permit: permit}
	answer := d.send(cut, r)
	d.w.gate.Leave(pass, answer)
	d.conclude(answer)
	return answer, r.refused
}

// permit takes a permit; the turn among the next senders ends with it.
func (d *delivery) permit(stop context.Context) (Permit, error) {
	permit, err := d.w.permits.Take(stop)
	d.endTurn()
	return permit, err //nolint:wrapcheck // only its presence matters
}

func (d *delivery) endTurn() {
	if d.queued {
		<-d.w.ahead
		d.queued = false
	}
}

// send makes the request. From its first line on a panic, or a process that
// ends, leaves an attempt of unknown outcome.
func (d *delivery) send(cut context.Context, r *readiness) Answer {
	d.earlier = d.unknown
	if d.unknown.IsZero() {
		d.unknown = d.intent
	}
	began := time.Now()
	d.note(began)
	d.w.metrics.InFlight.Inc()
	defer d.w.metrics.InFlight.Dec()
	answer := d.w.sender.Send(cut, Attempt{Event: d.event, IdempotencyKey: d.idempotencyKey(), Ready: r.ready, Written: r.permit.Done})
	metrics.Since(d.w.metrics.StripeSeconds, began)
	return answer
}

// readiness is the last look before the first byte.
type readiness struct {
	d       *delivery
	stop    context.Context
	permit  Permit
	refused refusal
}

var errNotReady = errors.New("not sent: it may no longer be")

// ready is called when the connection is there. The permit is spent; then the
// ages are looked at, last of all, because everything before may have taken any
// time.
func (r *readiness) ready(ctx context.Context) error {
	if r.permit.Spend(ctx) != nil || r.stop.Err() != nil {
		r.refused = refusedStopped
		return errNotReady
	}
	r.refused = r.d.tooOld(time.Now())
	if r.refused != notRefused {
		return errNotReady
	}
	return nil
}

// tooOld compares the oldest possible attempt with the safe window. The open
// intent counts like an attempt: if this process was frozen, another owner has
// taken it for one, and may have delivered the event since.
func (d *delivery) tooOld(now time.Time) refusal {
	window := d.w.cfg.SafeWindow
	if d.known.Unknown && d.known.Oldest.Age(now) >= window {
		return refusedAmbiguous
	}
	if !d.earlier.IsZero() && d.earlier.Age(now) >= window {
		return refusedAmbiguous
	}
	if d.intent.Age(now) >= window {
		return refusedStale
	}
	return notRefused
}

// note keeps the times of the attempts for the case file.
func (d *delivery) note(now time.Time) {
	if d.letter.FirstAttempt.IsZero() {
		d.letter.FirstAttempt = now
	}
	d.letter.LastAttempt = now
}

// conclude takes the answer into the case file. The doubt about this attempt is
// taken back when its answer is definite; the one about earlier ones stays.
func (d *delivery) conclude(a Answer) {
	d.w.metrics.StripeRequests.WithLabelValues(a.Class.String()).Inc()
	if !a.Class.MayHaveCounted() {
		d.unknown = d.earlier
	}
	if a.Status != 0 {
		d.letter.Status, d.letter.Code, d.letter.RequestID = a.Status, a.Code, a.RequestID
		d.keyNo++ // of no consequence after a success
	}
	d.letter.Detail = a.Detail
	switch a.Class {
	case ServerFault, Unexpected:
		d.spent++
		d.letter.Attempts++
	case Accepted, Duplicate, Refused, NoAnswer, ForeignReply:
		d.letter.Attempts++
	case Throttled:
		d.w.permits.Throttled(a.RetryAfter)
	case Contended, SetupFault, NotSent:
	}
}

func (d *delivery) idempotencyKey() string {
	return fmt.Sprintf("mw-%s-%s-%d-%d", d.w.cfg.Epoch, d.journal.Life(), d.message.Sequence(), d.keyNo)
}
