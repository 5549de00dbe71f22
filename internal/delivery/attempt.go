package delivery

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/usage"
)

// turn waits for a turn among the next senders unless an intent is open, so that
// no more intents are stored than the next permits cover.
func (d *delivery) turn(stop context.Context) error {
	if !d.intent.IsZero() {
		return nil
	}
	select {
	case d.w.ahead <- struct{}{}:
		d.queued = true
		return stop.Err() // only its presence matters
	default:
	}
	select {
	case d.w.ahead <- struct{}{}:
		d.queued = true
	case <-stop.Done():
	}
	return stop.Err() // only its presence matters
}

// intend stores the intent unless one is open.
func (d *delivery) intend() error {
	if !d.intent.IsZero() {
		return nil
	}
	if faultpoint.Seeded(faultpoint.SendBeforeIntent) {
		d.intent = journal.Now(time.Now())
		return nil
	}
	e := d.entry()
	e.Patience = d.w.intentPatience()
	t0, err := d.journal.Intend(settling(), e)
	if err == nil {
		d.intent = t0
	}
	return err // only its presence matters
}

// Entries of the journal wait this long at most for others to share a write with: that
// makes 20 writes a second of either kind for a partition, and is well below the eighth of
// a second that the permit of a patient intent is away.
const mostPatience = 50 * time.Millisecond

// fewAhead is how many turns are too few to tell a queue for permits by.
const fewAhead = 8

// intentPatience is how long an intent may wait. While half of those who may be ahead wait for
// a permit, the next one is an eighth of a second away, and the send is not later for it.
func (w *Worker) intentPatience() time.Duration {
	if most := cap(w.ahead); most < fewAhead || len(w.ahead) < most/2 {
		return 0
	}
	return mostPatience
}

// recordPatience is how long the record of a delivery may wait: half as long as
// the request took, and not at all while others wait in its lane.
func (d *delivery) recordPatience() time.Duration {
	if d.w.crowd == nil || d.w.crowd.Crowded(laneOf(d.message.Subject())) {
		return 0
	}
	return min(time.Since(d.letter.LastAttempt)/2, mostPatience)
}

func (d *delivery) entry() journal.Entry {
	return journal.Entry{Sequence: d.message.Sequence(), Key: d.key, Fingerprint: d.fingerprint}
}

// attempt waits until it may be made and makes one request, or says why not.
func (d *delivery) attempt(stop, cut context.Context) (answer Answer, refused refusal) {
	pass, err := d.w.gate.Enter(stop, Turn{
		Lane: laneOf(d.message.Subject()), Sequence: d.message.Sequence(),
		Doubtful: d.known.Unknown || !d.unknown.IsZero(), Inherited: d.known.Unknown,
	})
	if err != nil {
		return Answer{}, refusedStopped
	}
	var learned Answer // none from a panic, nor from an attempt that was not made
	defer func() { d.halted = d.w.gate.Leave(pass, learned) }()
	d.trace.Attempt()
	permit, err := d.permit(stop)
	if err != nil {
		d.trace.Attempted(Answer{Class: NotSent}, refusedStopped.String())
		return Answer{}, refusedStopped
	}
	defer permit.Done()
	d.trace.Permitted()
	answer, refused = d.send(stop, cut, pass, permit)
	d.trace.Attempted(answer, refused.String())
	d.conclude(answer)
	if refused == notRefused {
		learned = answer
	}
	return answer, refused
}

// permit takes a permit; the turn among the next senders ends with it.
func (d *delivery) permit(stop context.Context) (Permit, error) {
	if faultpoint.Seeded(faultpoint.RetryWithoutPermit) && d.last != 0 {
		d.endTurn()
		return unpermitted{}, nil
	}
	permit, err := d.w.permits.Take(stop)
	d.endTurn()
	return permit, err // only its presence matters
}

// unpermitted is the permit that a seeded bug makes up.
type unpermitted struct{}

func (unpermitted) Spend(context.Context) error { return nil }
func (unpermitted) Done()                       {}

func (d *delivery) endTurn() {
	if d.queued {
		<-d.w.ahead
		d.queued = false
	}
}

// send makes the request, or says why not. From its first line on a panic, or a
// process that ends, leaves an attempt of unknown outcome.
func (d *delivery) send(stop, cut context.Context, pass Pass, permit Permit) (answer Answer, refused refusal) {
	d.earlier = d.unknown
	if d.unknown.IsZero() {
		d.unknown = d.intent
	}
	began := time.Now()
	d.note(began)
	d.letter.Attempts++ // taken back by conclude where Stripe has not executed it
	d.w.metrics.InFlight.Inc()
	defer d.w.metrics.InFlight.Dec()
	ready := func(ctx context.Context) error {
		if refused = d.ready(ctx, stop, pass, permit); refused != notRefused {
			return errNotReady
		}
		return nil
	}
	answer = d.w.sender.Send(cut, Attempt{
		Event: sent(d.event), IdempotencyKey: d.idempotencyKey(), Ready: ready, Written: permit.Done, Stop: stop, Alone: d.spent > 0,
	})
	if !d.w.cfg.Shared {
		metrics.Since(d.w.metrics.StripeSeconds, began)
	}
	return answer, refused
}

// sent is the event as it is sent: as it was stored.
func sent(e usage.Event) usage.Event {
	if !faultpoint.Seeded(faultpoint.Redated) {
		return e
	}
	redated, err := usage.New(usage.Params{
		EventName: e.EventName(), Customer: e.Customer(), Identifier: e.Identifier(), Value: e.Units(), Timestamp: time.Now(),
	})
	if err != nil {
		return e
	}
	return redated
}

var errNotReady = errors.New("not sent: it may no longer be")

// ready is the last look before the first byte: the connection is there. The
// permit is spent; then the gate and the ages are looked at, last of all, because
// everything before may have taken any time.
func (d *delivery) ready(ctx, stop context.Context, pass Pass, permit Permit) refusal {
	if d.spend(ctx, stop, permit) != nil || stop.Err() != nil {
		return refusedStopped
	}
	if refused := d.w.gate.check(pass); refused != notRefused {
		return refused
	}
	if faultpoint.Seeded(faultpoint.NoAgeCheckAfterConnect) {
		return notRefused
	}
	return d.tooOld(time.Now())
}

// spend waits for another permit where this one has expired; that wait may be
// minutes long (Retry-After), so that a drain ends it. A shared request has spent what it
// needs by now.
func (d *delivery) spend(ctx, stop context.Context, permit Permit) error {
	if d.w.cfg.Shared {
		return permit.Spend(ctx) // only its presence matters
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	return permit.Spend(ctx) // only its presence matters
}

// tooOld compares the oldest possible attempt with the safe window. The open
// intent counts like an attempt: if this process was frozen, another owner has
// taken it for one, and may have delivered the event since.
func (d *delivery) tooOld(now time.Time) refusal {
	window := d.w.safeWindow()
	if d.known.Unknown && d.w.skew.age(d.known.Oldest, now) >= window {
		return refusedAmbiguous
	}
	if !d.earlier.IsZero() && d.w.skew.age(d.earlier, now) >= window {
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
// taken back when its answer is definite; the one about earlier ones stays. An
// acceptance keeps the doubt until the delivery is recorded.
func (d *delivery) conclude(a Answer) {
	if !d.w.cfg.Shared {
		d.w.metrics.StripeRequests.WithLabelValues(a.Class.String()).Inc()
	}
	if !a.Class.MayHaveCounted() && a.Class != Accepted {
		d.unknown = d.earlier
	}
	if a.Class == Refused && faultpoint.Seeded(faultpoint.RefusalResolvesUnknown) {
		d.unknown, d.earlier, d.known.Unknown = journal.Moment{}, journal.Moment{}, false
	}
	if faultpoint.Seeded(faultpoint.SendBeforeIntent) {
		_, _ = d.journal.Intend(settling(), d.entry())
	}
	d.cite(a)
	switch a.Class {
	case ServerFault, Unexpected:
		d.fail(a)
	case Accepted, Duplicate, Refused, NoAnswer, ForeignReply:
	case Throttled:
		if faultpoint.Seeded(faultpoint.ThrottleSpendsAttempt) {
			d.spent++
		}
		d.letter.Attempts--
		d.w.permits.Throttled(a.RetryAfter) // for each event of a shared request: permits are counted in events
	case Contended, SetupFault, NotSent:
		d.letter.Attempts--
	}
}

// fail counts an attempt that Stripe has failed on.
func (d *delivery) fail(a Answer) {
	if d.spent++; d.spent > 1 {
		return
	}
	d.failing = time.Now()
	if a.ShouldRetry == RetryNo {
		d.failing = d.letter.LastAttempt // there will be no second one: others' answers meanwhile must do
	}
}

// cite keeps what the answer says. A status whose body was cut is no answer: the
// next request carries the same Idempotency-Key and gets the stored one.
func (d *delivery) cite(a Answer) {
	d.letter.Detail = a.Detail
	if a.Status == 0 {
		return
	}
	d.letter.Status, d.letter.Code, d.letter.RequestID = a.Status, a.Code, a.RequestID
	if a.Class != NoAnswer && !faultpoint.Seeded(faultpoint.FixedIdempotencyKey) {
		d.keyNo++ // of no consequence after a success
	}
}

func (d *delivery) idempotencyKey() string {
	key := make([]byte, 0, 96)
	key = append(append(append(key, "mw-"...), d.w.cfg.Epoch...), '-')
	key = append(append(key, d.journal.Life()...), '-')
	key = append(strconv.AppendUint(key, d.message.Sequence(), 10), '-')
	key = append(strconv.AppendUint(key, d.hand, 10), '.')
	return string(strconv.AppendInt(key, int64(d.keyNo), 10))
}
