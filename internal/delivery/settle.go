package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// announceAgain is how long a letter may take from its announcement in the
// journal to the dead-letter stream before ownership is proven anew and the
// letter looked for: well below JetStream's window for message ids (2 min).
const announceAgain = 30 * time.Second

// settling is the context of everything that records and settles: no shutdown
// cancels it, the journal's own end does.
func settling() context.Context { return context.Background() }

// delivered records the delivery, then acks.
func (d *delivery) delivered(a Answer) Disposition {
	d.trace.Settling()
	e := d.entry()
	e.State, e.Patience = journal.Delivered, d.recordPatience()
	if faultpoint.Seeded(faultpoint.AckBeforeRecord) {
		defer func() { _ = d.journal.Record(settling(), e) }()
	} else if err := d.journal.Record(settling(), e); err != nil {
		return d.drop(err)
	}
	d.w.metrics.DeliverySeconds.Observe(time.Since(d.message.StoredAt()).Seconds())
	d.w.metrics.Units(d.event.EventName(), string(Delivered), d.event.Units())
	return d.ack(Delivered, zap.String("class", a.Class.String()), zap.String("request_id", a.RequestID))
}

// duplicate needs no record: the delivery that it duplicates has one, and a
// redelivery finds it again.
func (d *delivery) duplicate() Disposition {
	d.w.metrics.Units(d.event.EventName(), string(Duplicated), d.event.Units())
	return d.ack(Duplicated, zap.Uint64("delivered_as", d.known.By))
}

// buryUnparsed buries a message that is no event, or too old for one by now. The
// latter may have been sent in time: what was delivered then is not dead, and
// what may have been counted is not "refused".
func (d *delivery) buryUnparsed(stop context.Context, r *usage.Refusal) Disposition {
	if end := d.recorded(stop); end != nil {
		return end()
	}
	return d.toBury(stop, deadletter.Reason(r.Reason), r.Detail)()
}

// bury announces the letter in the journal, stores it, records that, then acks. A
// crash in between is in the list of package journal.
func (d *delivery) bury(stop context.Context, reason deadletter.Reason) Disposition {
	d.trace.Settling()
	announced := journal.Now(time.Now())
	d.letter.Reason = reason
	d.letter.Outcome = d.outcome(reason)
	d.letter.DeadAt = time.Now()
	d.letter.Traceparent = usage.Traceparent(d.message.Header)
	header := d.letter.Header()
	block, err := deadletter.Pack(header)
	if err != nil {
		return d.drop(err)
	}
	dying := d.letterEntry(journal.Dying)
	dying.Letter = block
	entries := append(d.doubts(), dying)
	if err := d.journal.Record(settling(), entries...); err != nil {
		return d.drop(err)
	}
	d.closeIntent()
	return d.publish(stop, header, dying, announced)
}

// letterEntry is keyed by the body, so that it is found again however the message
// is judged when it is delivered anew (a timestamp ages).
func (d *delivery) letterEntry(state journal.State) journal.Entry {
	return journal.Entry{Sequence: d.message.Sequence(), Key: d.body, Fingerprint: d.fingerprint, State: state}
}

// outcome answers whether Stripe may have counted this content.
func (d *delivery) outcome(reason deadletter.Reason) deadletter.Outcome {
	forgotten := d.known.Verdict == journal.Forgotten && d.recognised()
	if reason == deadletter.Ambiguous || forgotten || d.known.SameContent || !d.unknown.IsZero() {
		return deadletter.Unknown
	}
	return deadletter.Refused
}

// doubts is the record of this life's attempt of unknown outcome, if there is one.
func (d *delivery) doubts() []journal.Entry {
	if d.unknown.IsZero() || faultpoint.Seeded(faultpoint.UnknownHandedBackUnsent) {
		return nil
	}
	e := d.entry()
	e.State, e.T0 = journal.Unknown, d.journal.Stamp(d.unknown)
	return []journal.Entry{e}
}

// buryAgain finishes what a former owner announced, with its very letter.
func (d *delivery) buryAgain(stop context.Context) Disposition {
	d.trace.Settling()
	letter, header, err := readLetter(d.known.Letter)
	if err != nil {
		d.w.log.Error("the announced dead letter cannot be read; the message stays in the outbox", zap.Uint64("sequence", d.message.Sequence()), zap.Error(err))
		return d.drop(err)
	}
	d.letter = letter
	dying := d.letterEntry(journal.Dying)
	dying.Letter = d.known.Letter
	return d.publish(stop, header, dying, journal.Moment{})
}

// publish stores the letter, however often it takes. A copy whose outcome is
// unknown is repeated under the same message id only while JetStream surely
// remembers that id; later it is looked for first, and nothing is published until
// that look has succeeded. absent is when the letter was surely not stored yet; zero:
// nobody knows.
func (d *delivery) publish(stop context.Context, header map[string]string, dying journal.Entry, absent journal.Moment) Disposition {
	if faultpoint.Seeded(faultpoint.AckBeforeLetter) {
		defer func() { _ = d.w.letters.Publish(settling(), d.letter, header, d.message.Body()) }()
		return d.buried()
	}
	pauses := backoff{100 * time.Millisecond, 5 * time.Second}
	for try := 1; ; try++ {
		var stored bool
		var err error
		if absent.Age(time.Now()) >= announceAgain {
			absent = journal.Now(time.Now())                              // as of the beginning of the look
			if lost := d.journal.Record(settling(), dying); lost != nil { // do we still own it?
				return d.drop(lost)
			}
			if stored, err = d.look(stop, absent); err != nil {
				absent = journal.Moment{}
			}
		}
		if !stored && err == nil {
			err = d.w.letters.Publish(settling(), d.letter, header, d.message.Body())
		}
		if err == nil {
			return d.buried()
		}
		d.w.log.Warn("dead letter not stored yet", zap.Uint64("sequence", d.message.Sequence()), zap.Int("tries", try), zap.Error(err))
		if d.wait(stop, min(pauses.base<<min(try, 10), pauses.most)) != nil {
			return d.release(time.Second) // announced in the journal: whoever gets it next goes on here
		}
	}
}

var errLookOld = errors.New("the look for the letter took too long: somebody else may have stored it since")

// look tells whether the letter is stored. That it was not says nothing when the look
// took so long that the letter may have been stored since.
func (d *delivery) look(stop context.Context, began journal.Moment) (stored bool, err error) {
	stored, err = d.w.letters.Stored(stop, d.letter, d.letter.DeadAt)
	if err == nil && !stored && began.Age(time.Now()) >= announceAgain {
		err = errLookOld
	}
	return stored, err // says itself what it is
}

// buried records that the letter is stored, then acks.
func (d *delivery) buried() Disposition {
	if err := d.journal.Record(settling(), d.letterEntry(journal.Dead)); err != nil {
		return d.drop(err)
	}
	d.w.metrics.DeadLetters.WithLabelValues(string(d.letter.Reason)).Inc()
	if d.recognised() {
		d.w.metrics.Units(d.event.EventName(), string(Buried), d.event.Units())
	}
	return d.ack(Buried, zap.String("reason", string(d.letter.Reason)), zap.String("detail", d.letter.Detail),
		zap.Int("status", d.letter.Status), zap.String("code", d.letter.Code), zap.String("request_id", d.letter.RequestID))
}

// release records what may have been sent, then hands the message back.
func (d *delivery) release(after time.Duration) Disposition {
	d.trace.Settling()
	if !d.intent.IsZero() {
		if err := d.abandonIntent(); err != nil {
			return d.drop(err)
		}
	}
	return d.leave(Released, func() error { return d.message.Nak(after) })
}

// abandonIntent closes the open intent: as not sent, or, when an attempt under it
// may have been counted, as unknown.
func (d *delivery) abandonIntent() error {
	entries := d.doubts()
	if entries == nil {
		e := d.entry()
		e.State = journal.NotSent
		entries = []journal.Entry{e}
	}
	if err := d.journal.Record(settling(), entries...); err != nil {
		return err // says itself what it is
	}
	d.closeIntent()
	return nil
}

func (d *delivery) closeIntent() {
	d.intent = journal.Moment{}
	d.endTurn()
}

// drop leaves the message to whoever owns the partition next.
func (d *delivery) drop(err error) Disposition {
	return d.leave(Released, func() error { d.message.Drop(); return nil }, zap.NamedError("cause", err))
}

// ack is the one place that acks.
func (d *delivery) ack(disposition Disposition, fields ...zap.Field) Disposition {
	return d.leave(disposition, d.message.Ack, fields...)
}

// leave is the one way out of this worker's hands.
func (d *delivery) leave(disposition Disposition, out func() error, fields ...zap.Field) Disposition {
	d.closeIntent()
	d.left = true
	d.w.metrics.Settled.WithLabelValues(string(disposition)).Inc()
	err := out()
	if err != nil {
		fields = append(fields, zap.NamedError("settle_error", err)) // the journal has it: a redelivery will be recognised
	}
	d.log(disposition, fields...)
	d.trace.Settled(disposition, d.letter.Reason, err)
	return disposition
}
