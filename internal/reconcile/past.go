package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// Early is how long before its timestamp an event may have been stored: the worker takes 5 min
// ahead, and clocks differ.
const Early = 15 * time.Minute

// Message is one message of the outbox, as it lies there.
type Message struct {
	Subject   string // as published
	Header    func(name string) string
	Body      []byte
	Sequence  uint64
	Partition int
	StoredAt  time.Time
}

// Outbox is where messages are read.
type Outbox interface {
	// Messages visits the messages that were stored from a time on, oldest first; "" is any
	// event name, any customer.
	Messages(ctx context.Context, from time.Time, eventName, customer string, each func(Message) error) error
	// Floors are, by partition, the sequences up to which every message is settled.
	Floors(ctx context.Context) ([]uint64, error)
}

// History is where the journal is read.
type History interface {
	Read(ctx context.Context, partition int, from, until time.Time, each func(journal.Line) bool) error
}

// Past reads our side.
type Past struct {
	Outbox    Outbox
	History   History
	Epoch     string
	Period    Period
	EventName string // "" is any
	Customer  string // "" is any
	Settle    time.Duration

	// Declared says of messages what people did, whatever the journal says; see [Declared].
	Declared Declared
}

// Declared are messages that were delivered, and of which a person has said since what they
// count for; by sequence.
type Declared struct {
	Uncounted map[uint64]bool // rejected later, and replayed, edited or discarded
	Counted   map[uint64]bool // died of an unknown outcome, and were found counted
}

// reading is what one look at our side has found.
type reading struct {
	cells    map[Cell]*Ours
	trimmed  int64 // delivered, and not in the outbox any more
	messages int64
}

// wanted says what a reading collects of a cell beside its sums. nil: all cells, sums only.
type wanted map[Cell]*want

// read looks at our side; the floors first, so that what was settled by then is in the journal
// that is read after them, and the messages last.
func (p *Past) read(ctx context.Context, only wanted) (*reading, error) {
	from := p.Period.Since.Add(-Early)
	floors, err := p.Outbox.Floors(ctx)
	if err != nil {
		return nil, err
	}
	known, err := p.fates(ctx, from)
	if err != nil {
		return nil, err
	}
	r := &reader{past: p, floors: floors, fates: known, only: only, reading: &reading{cells: map[Cell]*Ours{}}}
	if err := p.Outbox.Messages(ctx, from, p.EventName, p.Customer, r.take); err != nil {
		return nil, err
	}
	if p.EventName == "" && p.Customer == "" {
		r.countTrimmed()
	}
	return r.reading, nil
}

func (p *Past) fates(ctx context.Context, from time.Time) (fates, error) {
	known := fates{}
	now := time.Now()
	err := p.History.Read(ctx, journal.AnyPartition, from, now.Add(time.Hour), func(l journal.Line) bool {
		known.learn(l.Sequence, l.State, now.Sub(l.At) < p.Settle)
		return ctx.Err() == nil
	})
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, fmt.Errorf("read what was recorded: %w", err)
	}
	return known, nil
}

// reader takes messages into a reading.
type reader struct {
	past   *Past
	floors []uint64
	fates  fates
	only   wanted

	first, last uint64 // sequences read
	seen        int64  // delivered ones among them

	*reading
}

func (r *reader) take(m Message) error {
	f := r.fates.of(m.Sequence)
	if r.messages++; r.first == 0 {
		r.first = m.Sequence
	}
	r.last = m.Sequence
	if f.state() == delivered {
		r.seen++
	}
	if r.past.Declared.Counted[m.Sequence] {
		f = delivered
	}
	if f.state() == dead && f&doubted == 0 || r.past.Declared.Uncounted[m.Sequence] {
		return nil
	}
	settled := m.Partition < len(r.floors) && m.Sequence <= r.floors[m.Partition]
	if f.state() != delivered && f.state() != dead && settled {
		return nil // a duplicate of what was delivered: it leaves no record of its own
	}
	event, ok := Event(m, r.past.Epoch)
	if !ok || !r.past.Period.holds(event.Timestamp()) {
		return nil
	}
	c := cellOf(event.EventName(), event.Customer(), event.Timestamp())
	w := r.only[c]
	if r.only != nil && w == nil {
		return nil
	}
	r.cell(c, w).take(m, event, f, w)
	return nil
}

func (r *reader) cell(c Cell, w *want) *Ours {
	o := r.cells[c]
	if o == nil {
		o = &Ours{}
		if w != nil {
			o.minutes = new([minutesPerHour]sum)
		}
		r.cells[c] = o
	}
	return o
}

// Event is what the message says, as it was billed. The time window was judged when it was sent.
func Event(m Message, epoch string) (usage.Event, bool) {
	read := usage.Message{Subject: m.Subject, Header: m.Header, Body: m.Body, Sequence: m.Sequence, Epoch: epoch, StoredAt: m.StoredAt}
	event, err := usage.Parse(read, m.StoredAt)
	refusal, refused := errors.AsType[*usage.Refusal](err)
	if refused && refusal.Timestamp != 0 { // too old or too new when it was stored, and not when it was sent
		event, err = usage.Parse(read, time.Unix(refusal.Timestamp, 0))
	}
	return event, err == nil
}

func (o *Ours) take(m Message, event usage.Event, f fate, w *want) {
	switch f.state() {
	case delivered:
		o.recent = o.recent || f&fresh != 0
		o.overflow = !o.delivered.add(event.Units()) || o.overflow
		if minute := mod(event.Timestamp(), hour) / 60; o.minutes != nil {
			o.minutes[minute].add(event.Units())
			w.offer(int(minute), m, event)
		}
	case open, doubtful:
		o.waiting++
		if len(o.maybe) == mostMaybe {
			o.maybeMore = true
			break
		}
		o.maybe = append(o.maybe, candidateOf(InFlight, m, event))
	case silent:
		o.waiting++
	case dead: // with a letter still there it is known already: see [suspect.dealtWith]
		if len(o.byHand) <= mostMaybe {
			o.byHand = append(o.byHand, candidateOf(ByHand, m, event))
		}
	case stateBits, doubted, fresh: // which are no states
	}
}

// countTrimmed compares the journal's deliveries between the first and the last message that
// were read with the deliveries that were read.
func (r *reader) countTrimmed() {
	recorded := int64(0)
	for number, page := range r.fates {
		for i, f := range page {
			if sequence := number*pageSize + uint64(i); f.state() == delivered && sequence >= r.first && sequence <= r.last {
				recorded++
			}
		}
	}
	if r.messages > 0 {
		r.trimmed = recorded - r.seen
	}
}
