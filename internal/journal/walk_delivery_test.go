package journal_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// delivery is one message in one worker's hands: the steps of package delivery, with
// room for a crash, a take-over or a pause between any two of them.
type delivery struct {
	k     *worker
	m     *message
	next  func(*delivery)
	wait  chan error // of the call to the journal under way; nil: none
	then  func(*delivery)
	t0    journal.Moment // set by an Intend under way
	known journal.Known

	intent  journal.Moment // of the open intent; zero: none
	unknown journal.Moment // oldest attempt that may have been counted; zero: none
	letter  bool           // it began with another life's letter
}

// advance makes the next step, unless the journal is still busy with the last one.
func (d *delivery) advance() {
	if d.wait == nil {
		d.next(d)
		return
	}
	select {
	case err := <-d.wait:
		d.wait = nil
		d.answered(err)
	default:
		pass(time.Second)
	}
}

func (d *delivery) answered(err error) {
	switch {
	case errors.Is(err, journal.ErrUnresolved):
		d.drop()
	case err != nil:
		if errors.Is(err, journal.ErrLost) {
			d.k.w.note(map[bool]string{true: "intent", false: "record"}[d.then == nil] + " refused by the fence")
		}
		d.drop()
	case d.then == nil:
		d.intent, d.next = d.t0, (*delivery).send
	default:
		d.next = d.then
	}
}

// drop leaves the message to whoever gets it next.
func (d *delivery) drop() {
	d.k.inHand = slices.DeleteFunc(d.k.inHand, func(o *delivery) bool { return o == d })
}

func (d *delivery) consult() {
	d.known = d.k.owned.Lookup(journal.Question{
		Sequence: d.m.Sequence, Key: d.m.Key, Body: d.m.body, Fingerprint: d.m.Fingerprint, EventTime: time.Now(),
	})
	switch d.known.Verdict {
	case journal.WasDelivered:
		d.ack(true)
	case journal.DeliveredBefore:
		d.k.w.note("delivered before")
		d.ack(true)
	case journal.WasBuried:
		d.ack(false)
	case journal.IsDying:
		d.letter = true
		d.bury()
	case journal.OtherContent:
		d.k.w.note("delivered with other content")
		d.bury()
	case journal.Forgotten:
		d.k.w.t.Errorf("seed %d: message %d is forgotten", d.k.w.seed, d.m.Sequence)
		d.drop()
	case journal.Fresh:
		d.weigh()
	}
}

func (d *delivery) weigh() {
	now := time.Now()
	switch {
	case d.known.Unknown && d.known.Oldest.Age(now) >= safeWindow:
		d.k.w.note("ambiguous before sending")
		d.bury()
	case !d.known.OtherAlive.IsZero() && d.known.OtherAlive.Age(now) < safeWindow:
		d.drop()
	default:
		d.next = (*delivery).intend
	}
}

// intend and record ask the journal; the answer is taken by a later step.
func (d *delivery) intend() {
	wait := make(chan error, 1)
	d.wait, d.then = wait, nil
	go func() {
		t0, err := d.k.owned.Intend(context.Background(), d.m.Entry)
		d.t0 = t0
		wait <- err
	}()
}

func (d *delivery) record(then func(*delivery), entries ...journal.Entry) {
	wait := make(chan error, 1)
	d.wait, d.then = wait, then
	go func() { wait <- d.k.owned.Record(context.Background(), entries...) }()
}

// send looks at the ages last of all, then makes one request. It does not look whether
// the partition is still ours: a frozen process would not know.
func (d *delivery) send() {
	now := time.Now()
	switch {
	case d.known.Unknown && d.known.Oldest.Age(now) >= safeWindow, !d.unknown.IsZero() && d.unknown.Age(now) >= safeWindow:
		d.k.w.note("ambiguous at the last look")
		d.bury()
		return
	case d.intent.Age(now) >= safeWindow:
		d.k.w.note("stale intent renewed")
		d.intent = journal.Moment{}
		d.record((*delivery).intend, as(d.m.Entry, journal.NotSent))
		return
	}
	if d.k.w.workers[len(d.k.w.workers)-1] != d.k {
		d.k.w.note("sent by a former owner")
	}
	earlier := d.unknown
	d.unknown = d.oldest()
	switch d.k.w.stripe.post(d.k.w, d.m.Entry) {
	case accepted:
		d.deliver()
	case duplicate:
		d.unknown = earlier
		d.judge(!earlier.IsZero() || d.known.SameContent)
	case refused:
		if d.unknown = earlier; !earlier.IsZero() {
			d.k.w.note("refused after a doubt")
		}
		d.bury()
	case throttled:
		if d.unknown = earlier; d.k.w.rng.IntN(2) == 0 {
			d.release()
		}
	case silence:
		if d.k.w.rng.IntN(2) == 0 {
			d.release()
		}
	}
}

// judge decides on Stripe's word that it has such an event already.
func (d *delivery) judge(ours bool) {
	if ours && !d.known.OtherContent {
		d.k.w.note("duplicate answer is the delivery")
		d.deliver()
		return
	}
	d.k.w.note("conflict")
	d.bury()
}

func (d *delivery) oldest() journal.Moment {
	if d.unknown.IsZero() {
		return d.intent
	}
	return d.unknown
}

func (d *delivery) deliver() {
	d.record(func(d *delivery) { d.ack(true) }, as(d.m.Entry, journal.Delivered))
}

// doubts is the record of an attempt that may have been counted, if there is one.
func (d *delivery) doubts() []journal.Entry {
	if d.unknown.IsZero() {
		return nil
	}
	return []journal.Entry{doubt(d.m.Entry, d.k.owned.Stamp(d.unknown))}
}

// release closes the intent and hands the message back.
func (d *delivery) release() {
	entries := d.doubts()
	if entries == nil {
		d.k.w.note("released unsent")
		entries = []journal.Entry{as(d.m.Entry, journal.NotSent)}
	} else {
		d.k.w.note("released in doubt")
	}
	d.record((*delivery).drop, entries...)
}

// bury announces the dead letter, stores it (a step of its own), and records that.
func (d *delivery) bury() {
	dying := journal.Entry{Sequence: d.m.Sequence, Key: d.m.body, State: journal.Dying, Letter: []byte("letter")}
	d.record(func(d *delivery) {
		dying.State, dying.Letter = journal.Dead, nil
		d.record(func(d *delivery) { d.ack(false) }, dying)
	}, append(d.doubts(), dying)...)
}

func (d *delivery) ack(delivered bool) {
	if d.letter {
		d.k.w.note("letter finished by another life")
	}
	if d.m.settled && d.m.delivered != delivered {
		d.k.w.t.Errorf("seed %d: message %d was settled twice, as delivered and as dead", d.k.w.seed, d.m.Sequence)
	}
	d.m.settled, d.m.delivered = true, delivered
	d.drop()
}
