package delivery

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
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
	e := d.entry()
	e.State = journal.Delivered
	if err := d.journal.Record(settling(), e); err != nil {
		return d.drop(err)
	}
	d.settled = true
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

func (d *delivery) buryUnparsed(stop context.Context, r *usage.Refusal) Disposition {
	d.lookup(d.message.StoredAt())
	switch d.known.Verdict {
	case journal.WasBuried:
		return d.ack(Buried)
	case journal.IsDying:
		return d.buryAgain(stop)
	default:
		d.letter.Detail = r.Detail
		d.known = journal.Known{}
		return d.bury(stop, deadletter.Reason(r.Reason))
	}
}

// bury announces the letter in the journal, stores it, records that, then acks. A
// crash in between is in the list of package journal.
func (d *delivery) bury(stop context.Context, reason deadletter.Reason) Disposition {
	d.letter.Reason = reason
	d.letter.Outcome = d.outcome(reason)
	d.letter.DeadAt = time.Now()
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
	return d.publish(stop, header, dying)
}

// letterEntry is keyed by the body, so that it is found again however the message
// is judged when it is delivered anew (a timestamp ages).
func (d *delivery) letterEntry(state journal.State) journal.Entry {
	return journal.Entry{Sequence: d.message.Sequence(), Key: d.body, Fingerprint: d.fingerprint, State: state}
}

// outcome answers whether Stripe may have counted this content.
func (d *delivery) outcome(reason deadletter.Reason) deadletter.Outcome {
	if reason == deadletter.Ambiguous || d.known.SameContent || !d.unknown.IsZero() {
		return deadletter.Unknown
	}
	return deadletter.Refused
}

// doubts is the record of this life's attempt of unknown outcome, if there is one.
func (d *delivery) doubts() []journal.Entry {
	if d.unknown.IsZero() {
		return nil
	}
	e := d.entry()
	e.State, e.T0 = journal.Unknown, d.journal.Stamp(d.unknown)
	return []journal.Entry{e}
}

// buryAgain finishes what a former owner announced, with its very letter.
func (d *delivery) buryAgain(stop context.Context) Disposition {
	letter, header, err := readLetter(d.known.Letter)
	if err != nil {
		return d.drop(err)
	}
	d.letter = letter
	dying := d.letterEntry(journal.Dying)
	dying.Letter = d.known.Letter
	if err := d.journal.Record(settling(), dying); err != nil { // we still own it
		return d.drop(err)
	}
	if stored, err := d.w.letters.Stored(stop, letter, letter.DeadAt); err != nil {
		return d.release(time.Second)
	} else if stored {
		return d.buried()
	}
	return d.publish(stop, header, dying)
}

// publish stores the letter, however often it takes.
func (d *delivery) publish(stop context.Context, header map[string]string, dying journal.Entry) Disposition {
	announced := time.Now()
	pause := backoff{100 * time.Millisecond, 5 * time.Second}
	for try := 1; ; try++ {
		err := d.w.letters.Publish(settling(), d.letter, header, d.message.Body())
		if err == nil {
			return d.buried()
		}
		d.w.log.Warn("dead letter not stored yet", zap.Uint64("sequence", d.message.Sequence()), zap.Error(err))
		wait := min(pause.base<<min(try, 10), pause.most)
		if d.wait(stop, wait) != nil {
			return d.release(time.Second) // announced in the journal: whoever gets it next goes on here
		}
		if time.Since(announced) < announceAgain {
			continue
		}
		announced = time.Now()
		if err := d.journal.Record(settling(), dying); err != nil {
			return d.drop(err)
		}
		if stored, err := d.w.letters.Stored(stop, d.letter, d.letter.DeadAt); err == nil && stored {
			return d.buried()
		}
	}
}

// buried records that the letter is stored, then acks.
func (d *delivery) buried() Disposition {
	if err := d.journal.Record(settling(), d.letterEntry(journal.Dead)); err != nil {
		return d.drop(err)
	}
	d.settled = true
	d.w.metrics.DeadLetters.WithLabelValues(string(d.letter.Reason)).Inc()
	d.w.metrics.Units(d.event.EventName(), string(Buried), d.event.Units())
	return d.ack(Buried, zap.String("reason", string(d.letter.Reason)), zap.String("detail", d.letter.Detail),
		zap.Int("status", d.letter.Status), zap.String("code", d.letter.Code), zap.String("request_id", d.letter.RequestID))
}

// release records what may have been sent, then hands the message back.
func (d *delivery) release(after time.Duration) Disposition {
	if !d.intent.IsZero() {
		if err := d.abandonIntent(); err != nil {
			return d.drop(err)
		}
	}
	d.count(Released, d.message.Nak(after))
	return Released
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
		return err //nolint:wrapcheck // says itself what it is
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
	d.closeIntent()
	d.message.Drop()
	d.count(Released, nil, zap.NamedError("cause", err))
	return Released
}

// ack is the one place that acks.
func (d *delivery) ack(disposition Disposition, fields ...zap.Field) Disposition {
	d.closeIntent()
	d.count(disposition, d.message.Ack(), fields...)
	return disposition
}

func (d *delivery) count(disposition Disposition, err error, fields ...zap.Field) {
	d.settled = true
	d.w.metrics.Settled.WithLabelValues(string(disposition)).Inc()
	if err != nil {
		fields = append(fields, zap.NamedError("settle_error", err)) // the journal has it: a redelivery will be recognised
	}
	d.log(disposition, fields...)
}
