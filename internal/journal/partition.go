package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Timing of a partition's upkeep.
const (
	purgeEvery  = 5 * time.Second    // while intents are resolved; little and often: a large purge stalls writers
	tidyAfter   = time.Minute        // between two looks at the ledger's size, and at all when nothing happens
	remarkAfter = 7 * 24 * time.Hour // far below the age limit of the stream (36 d), which takes markers too
)

// Partition is the owner's hold on one partition: its ledger, and the one writer
// through which intents and records pass.
type Partition struct {
	Ledger *Ledger

	number int
	store  Store
	cfg    Config
	clock  serverClock
	limit  atomic.Int64

	mu      sync.Mutex
	intents pile
	records pile
	closing bool
	err     error // why the partition ended; set before ended is closed

	wake  chan struct{} // capacity 1: there is something to write
	ended chan struct{} // closed when nothing can be written any more
	gone  chan struct{} // closed when the writer has returned
	stop  context.CancelFunc

	w writer
}

// pile is what waits to be written as one message, and until when it may.
type pile struct {
	items []pending
	by    time.Time
}

// add reports whether the pile must be written earlier than before.
func (p *pile) add(items []pending, now time.Time) (sooner bool) {
	for _, item := range items {
		by := now.Add(item.patience())
		if len(p.items) == 0 || by.Before(p.by) {
			p.by, sooner = by, true
		}
		p.items = append(p.items, item)
	}
	return sooner
}

// pending is what one caller waits for.
type pending struct {
	entries []Entry
	result  chan outcome
}

func newPending(entries []Entry) pending {
	return pending{entries: entries, result: make(chan outcome, 1)}
}

func (i pending) size() int {
	bytes := 0
	for _, e := range i.entries {
		bytes += e.size()
	}
	return bytes
}

// patience is that of the least patient entry.
func (i pending) patience() time.Duration {
	least := i.entries[0].Patience
	for _, e := range i.entries[1:] {
		least = min(least, e.Patience)
	}
	return least
}

type outcome struct {
	t0  Moment
	err error
}

// ErrClosed says that the partition was given up by this worker itself.
var ErrClosed = errors.New("partition is closed")

func newPartition(c *claim) *Partition {
	ctx, stop := context.WithCancel(context.Background())
	p := &Partition{
		Ledger: c.ledger, number: c.partition, store: c.store, cfg: c.cfg, clock: c.clock,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), gone: make(chan struct{}), stop: stop,
	}
	p.limit.Store(c.cfg.Limit)
	p.w = writer{
		p: p, marker: c.marker, marked: c.clock.before, tidied: c.clock.before,
		prefix: c.id, open: map[uint64]intention{},
	}
	p.w.inherit(c.open)
	go p.w.run(ctx)
	return p
}

// adopt records what a former owner left open as attempts of unknown outcome.
func (p *Partition) adopt(ctx context.Context, open map[uint64]openIntent) error {
	items := make([]pending, 0, len(open))
	for _, sequence := range slices.Sorted(maps.Keys(open)) {
		e := open[sequence].entry
		e.State, e.T0 = Unknown, open[sequence].stamp
		items = append(items, newPending([]Entry{e}))
	}
	if err := p.queue(&p.records, items...); err != nil {
		return err
	}
	for _, item := range items {
		if _, err := item.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Life is unique to this claim of the partition.
func (p *Partition) Life() string { return p.w.prefix }

// Number is the partition's number.
func (p *Partition) Number() int { return p.number }

// Lookup asks the ledger.
func (p *Partition) Lookup(q Question) Known { return p.Ledger.Lookup(q, time.Now()) }

// ErrUnresolved says that an intent of the same sequence was open: somebody began
// to send and left no record. It is recorded now as an attempt of unknown outcome;
// the ledger is to be asked anew.
var ErrUnresolved = errors.New("an earlier intent of this sequence was left without a record")

// Intend stores the intent to send e and returns its t0. Only after it returned
// without an error may anything be sent, and a record must follow. ErrUnresolved
// concerns this sequence only; any other error but that of ctx means that the
// partition has ended.
func (p *Partition) Intend(ctx context.Context, e Entry) (Moment, error) {
	e.State = Open
	out, err := p.enqueue(ctx, &p.intents, []Entry{e})
	return out.t0, err
}

// Record stores what became of a sequence and takes it into the ledger; the entries
// of one call share a message. When ctx ends first, the record may still be stored
// later. A state that is not one of a record, or more than 256 KiB, is refused.
func (p *Partition) Record(ctx context.Context, entries ...Entry) error {
	for _, e := range entries {
		if err := e.record(); err != nil {
			return err
		}
	}
	_, err := p.enqueue(ctx, &p.records, entries)
	return err
}

// Stamp is m as a server time that is not later than the true one, for
// [Entry.T0].
func (p *Partition) Stamp(m Moment) time.Time { return p.clock.stamp(m) }

// Lost is closed when the partition ended: taken by another worker, out of
// memory, or closed. Err says which.
func (p *Partition) Lost() <-chan struct{} { return p.ended }

// Err is the reason for which the partition ended, nil while it has not.
func (p *Partition) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// SetLimit sets the ledger's share of memory, in bytes.
func (p *Partition) SetLimit(bytes int64) { p.limit.Store(bytes) }

// Open is the number of intents without a record.
func (p *Partition) Open() int { return int(p.w.openCount.Load()) }

// Close writes what is queued, until ctx ends, and gives the partition up.
func (p *Partition) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.signal()
	defer p.stop()
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		p.stop()
		<-p.gone
		return fmt.Errorf("closing partition %d: %w", p.number, ctx.Err())
	}
}

func (p *Partition) enqueue(ctx context.Context, queue *pile, entries []Entry) (outcome, error) {
	item := newPending(entries)
	if size := item.size(); size > maxPacked {
		return outcome{}, fmt.Errorf("%d bytes do not fit into one message of the journal", size)
	}
	if err := p.queue(queue, item); err != nil {
		return outcome{}, err
	}
	return item.wait(ctx)
}

func (p *Partition) queue(queue *pile, items ...pending) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if p.closing {
		return ErrClosed
	}
	if queue.add(items, time.Now()) {
		p.signal()
	}
	return nil
}

func (i pending) wait(ctx context.Context) (outcome, error) {
	if ctx.Done() == nil {
		out := <-i.result
		return out, out.err
	}
	select {
	case out := <-i.result:
		return out, out.err
	case <-ctx.Done():
		return outcome{}, fmt.Errorf("waiting for the journal: %w", ctx.Err())
	}
}

func (p *Partition) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// grab takes as many queued items as fit into one message, once the pile is due.
func (p *Partition) grab(queue *pile) []pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closing && time.Until(queue.by) > 0 {
		return nil
	}
	n, bytes := 0, 0
	for n < len(queue.items) {
		bytes += queue.items[n].size()
		if n > 0 && bytes > maxPacked {
			break
		}
		n++
	}
	taken := queue.items[:n:n]
	queue.items = append([]pending(nil), queue.items[n:]...) // they are due, too
	return taken
}

// idle tells whether something is queued, how long the first of it may wait, and
// whether the partition is closing.
func (p *Partition) idle() (wait time.Duration, queued, closing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range []*pile{&p.intents, &p.records} {
		if len(q.items) == 0 {
			continue
		}
		until := max(time.Until(q.by), 0)
		if !queued || until < wait {
			wait = until
		}
		queued = true
	}
	if p.closing {
		wait = 0
	}
	return wait, queued, p.closing
}

// end closes the partition for err and answers everybody who waits.
func (p *Partition) end(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
		close(p.ended)
	}
	waiting := slices.Concat(p.intents.items, p.records.items)
	p.intents, p.records = pile{}, pile{}
	p.mu.Unlock()
	for _, item := range waiting {
		item.result <- outcome{err: err}
	}
}
