package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// Disposition is how a message left this worker's hands. The list is closed and
// is the label of settled_total.
type Disposition string

// The dispositions.
const (
	Delivered  Disposition = "delivered"
	Duplicated Disposition = "duplicate"
	Buried     Disposition = "dead"
	Released   Disposition = "released" // handed back, or left to the partition's new owner
)

// delivery is one message's life in this worker's hands.
type delivery struct {
	w       *Worker
	journal Journal
	places  *places
	message Message
	trace   Trace

	event       usage.Event // valid after parse
	key         uint64
	fingerprint uint32
	body        uint64 // hash of the body
	known       journal.Known

	intent  journal.Moment // of the open intent; zero: none
	queued  bool           // holds a turn among the next senders
	unknown journal.Moment // oldest attempt of this life that may have been counted; zero: none
	earlier journal.Moment // the same, without the attempt under way or just made

	letter  deadletter.Letter // what the dead letter would say so far
	spent   int               // attempts that Stripe failed on
	failing time.Time         // when it began to: the first such answer, or the only such request
	streak  int               // answers in a row of the last class
	last    Class
	hand    uint64 // part of the Idempotency-Key: a message that was handed back and comes again must not meet the answers of last time
	keyNo   int    // the same: counts HTTP error answers
	halted  bool   // the last attempt has halted the worker
	left    bool   // out of our hands: nothing more may be done
	working bool   // the identifier is in work, by this delivery
}

// run takes the message through the steps and settles it. stop ends waiting, cut
// ends a request that is under way.
func (d *delivery) run(stop, cut context.Context) Disposition {
	if refusal := d.parse(); refusal != nil {
		return d.buryUnparsed(stop, refusal)
	}
	if !d.w.inWork.enter(d.key) {
		return d.release(turnAgain/2 + time.Duration(d.w.cfg.Random()*float64(turnAgain)))
	}
	d.working = true // until contained is done with it, a burial after a panic included
	if end := d.consult(stop); end != nil {
		return end()
	}
	for {
		if d.turn(stop) != nil {
			return d.release(time.Second)
		}
		if err := d.intend(); err != nil {
			return d.drop(err) // only an end of the partition ends Intend; the intent may be stored
		}
		answer, refused := d.attempt(stop, cut)
		next := d.decide(answer, refused)
		switch next.do {
		case deliver:
			return d.delivered(answer)
		case bury:
			return d.bury(stop, next.reason)
		case release:
			return d.release(time.Second)
		case halt:
			if d.halted {
				return d.release(time.Second)
			} // else it was about an earlier key
		case renew:
			if err := d.abandonIntent(); err != nil {
				return d.drop(err)
			}
		case again:
		}
		if d.wait(stop, next.after) != nil {
			return d.release(time.Second)
		}
	}
}

func (d *delivery) parse() *usage.Refusal {
	m := d.message
	d.body, d.fingerprint = hashBody(m.Body())
	d.key = d.body
	d.letter = deadletter.Letter{
		Subject: m.Subject(), Sequence: m.Sequence(), StoredAt: m.StoredAt(),
		Replays: d.replays(),
	}
	read := usage.Message{
		Subject: m.Subject(), Header: m.Header, Body: m.Body(),
		Sequence: m.Sequence(), Epoch: d.w.cfg.Epoch, StoredAt: m.StoredAt(),
	}
	event, err := usage.Parse(read, time.Now())
	if refusal, ok := errors.AsType[*usage.Refusal](err); ok {
		d.letter.Identifier, d.letter.Timestamp = refusal.Identifier, refusal.Timestamp
		if event, err = usage.Parse(read, time.Unix(refusal.Timestamp, 0)); err == nil {
			d.recognise(event) // refused for today's date only: it may have been sent in time, in an earlier life
		}
		return refusal
	}
	d.recognise(event)
	d.w.warnLong(event, time.Now())
	return nil
}

// recognise takes over what the ledger knows the event by.
func (d *delivery) recognise(event usage.Event) {
	d.event, d.key, d.fingerprint = event, event.Key(), event.Fingerprint()
	d.letter.Identifier, d.letter.Timestamp = event.Identifier(), event.Timestamp()
}

// recognised reports whether the message is an event, if only of another day.
func (d *delivery) recognised() bool { return d.event.EventName() != "" }

// decide gathers what the decision depends on.
func (d *delivery) decide(answer Answer, refused refusal) decision {
	if refused == refusedAmbiguous {
		d.letter.Detail = pastWindow
	}
	if d.last == answer.Class {
		d.streak++
	} else {
		d.last, d.streak = answer.Class, 1
	}
	s := situation{
		answer: answer, refusal: refused,
		spent: d.spent, streak: d.streak,
		earlierSame:   d.known.SameContent || !d.earlier.IsZero(),
		otherContent:  d.known.OtherContent,
		acceptForeign: d.w.cfg.AcceptForeign,
		random:        d.w.cfg.Random(),
	}
	if decide(s).mayBeWithheld(answer) { // what would be buried, the gate may want to wait
		d.letter.Episode, s.withheld = d.w.gate.Withhold(answer, d.failing)
	}
	return decide(s)
}

// wait gives the place back for as long as it takes.
func (d *delivery) wait(stop context.Context, pause time.Duration) error {
	if pause <= 0 {
		return stop.Err() // only its presence matters
	}
	if d.places.park() {
		defer d.places.unpark()
	}
	idle(stop, pause)
	return stop.Err() // only its presence matters
}

// idle lets the time pass, or less when stop ends.
func idle(stop context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop.Done():
	}
}

// log writes the canonical line of one settlement: at debug level for a
// first-try success, since the counters carry the volume.
func (d *delivery) log(disposition Disposition, fields ...zap.Field) {
	level := zap.InfoLevel
	if disposition == Delivered && d.letter.Attempts <= 1 || disposition == Released {
		level = zap.DebugLevel
	}
	if entry := d.w.log.Check(level, "settled"); entry != nil {
		entry.Write(append([]zap.Field{
			zap.String("disposition", string(disposition)),
			zap.Uint64("sequence", d.message.Sequence()),
			zap.String("identifier", d.letter.Identifier),
			zap.String("event_name", d.event.EventName()),
			zap.Int("attempts", d.letter.Attempts),
			zap.Duration("age", time.Since(d.message.StoredAt())),
		}, fields...)...)
	}
}
