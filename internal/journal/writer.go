package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// writer is the partition's only writer: one write in flight, records first
// (they free places), then intents.
type writer struct {
	p         *Partition
	marker    uint64
	marked    time.Time // local time of the last marker
	tidied    time.Time // local time of the last look at the ledger
	kept      uint64    // count at the last upkeep
	prefix    string
	count     uint64
	messages  []*intentMessage     // stored intents, oldest first
	open      map[uint64]intention // by outbox sequence
	openCount atomic.Int64
}

// intentMessage is one stored message of intents and how many of its entries
// have no record yet.
type intentMessage struct {
	sequence uint64
	open     int
}

// intention is an open intent of this life, or an inherited one.
type intention struct {
	message *intentMessage
	entry   Entry
	t0      Moment
}

// inherit takes over a former owner's open intents, so that they are purged once
// adopt has recorded them, and everything before the marker with them.
func (w *writer) inherit(open map[uint64]openIntent) {
	m := &intentMessage{sequence: w.marker, open: len(open)}
	w.messages = append(w.messages, m)
	for sequence, o := range open {
		w.open[sequence] = intention{message: m, entry: o.entry}
	}
}

// run writes until the partition ends. The upkeep has its turn between two
// writes, however busy they are.
func (w *writer) run(ctx context.Context) {
	defer close(w.p.gone)
	pulse, patience := time.NewTimer(purgeEvery), time.NewTimer(purgeEvery)
	defer pulse.Stop()
	defer patience.Stop()
	var err error
	for err == nil {
		if err = w.writeQueued(ctx); err == nil {
			err = w.rest(ctx, pulse, patience)
		}
	}
	w.p.end(err)
}

// rest waits for something to do, unless there is, or until what is queued has no
// patience left.
func (w *writer) rest(ctx context.Context, pulse, patience *time.Timer) error {
	wait, queued, closing := w.p.idle()
	patience.Stop()
	switch {
	case queued && wait > 0:
		patience.Reset(wait)
	case queued:
		select {
		case <-pulse.C:
			return w.upkeep(ctx, pulse)
		default:
			return nil
		}
	case closing:
		return ErrClosed
	}
	select {
	case <-ctx.Done():
		return ErrClosed
	case <-w.p.wake:
		return nil
	case <-patience.C:
		return nil
	case <-pulse.C:
		return w.upkeep(ctx, pulse)
	}
}

// writeQueued writes one message of each kind, of what is queued and due.
func (w *writer) writeQueued(ctx context.Context) error {
	if err := w.writeRecords(ctx, w.p.grab(&w.p.records)); err != nil {
		return err
	}
	return w.writeIntents(ctx, w.p.grab(&w.p.intents))
}

func (w *writer) writeRecords(ctx context.Context, items []pending) error {
	if len(items) == 0 {
		return nil
	}
	entries := flatten(items)
	_, err := w.append(ctx, DoneKind, entries)
	if err == nil {
		now := time.Now()
		w.applyRecords(entries, w.p.clock.stamp(Now(now)), now)
	}
	answer(items, outcome{err: err})
	return err
}

func (w *writer) applyRecords(entries []Entry, stamp, wall time.Time) {
	w.p.Ledger.compare(stamp, wall)
	for _, e := range entries {
		w.p.Ledger.apply(e, stamp)
		if intent, ok := w.open[e.Sequence]; ok {
			intent.message.open--
			delete(w.open, e.Sequence)
		}
	}
	w.openCount.Store(int64(len(w.open)))
}

// writeIntents returns to the callers only after a write that was not answered
// "duplicate": see the package comment.
func (w *writer) writeIntents(ctx context.Context, items []pending) error {
	items, err := w.resolve(ctx, items)
	if err != nil || len(items) == 0 {
		return err
	}
	entries := flatten(items)
	t0 := Now(time.Now())
	var appended Appended
	for {
		appended, err = w.append(ctx, IntentKind, entries)
		if err != nil || !appended.Duplicate {
			break
		}
	}
	if err == nil {
		w.applyIntents(entries, t0, appended.Sequence)
	}
	answer(items, outcome{t0: t0, err: err})
	return err
}

// resolve turns away the intents of sequences that have an open one, after
// recording that one as unknown: else the next record would close both, and the
// purge would take the older t0. It returns the intents that may be written.
func (w *writer) resolve(ctx context.Context, items []pending) (free []pending, err error) {
	var refused []pending
	var left []Entry
	taken := map[uint64]bool{}
	for _, item := range items {
		e := item.entries[0]
		old, open := w.open[e.Sequence]
		if open {
			old.entry.State, old.entry.T0 = Unknown, w.p.clock.stamp(old.t0)
			left = append(left, old.entry)
		}
		if open || taken[e.Sequence] {
			refused = append(refused, item)
			continue
		}
		taken[e.Sequence] = true
		free = append(free, item)
	}
	if len(left) > 0 {
		err = w.writeRecords(ctx, []pending{newPending(left)})
	}
	if err != nil {
		answer(items, outcome{err: err})
		return nil, err
	}
	answer(refused, outcome{err: ErrUnresolved})
	return free, nil
}

func (w *writer) applyIntents(entries []Entry, t0 Moment, sequence uint64) {
	m := &intentMessage{sequence: sequence, open: len(entries)}
	w.messages = append(w.messages, m)
	for _, e := range entries {
		w.open[e.Sequence] = intention{message: m, entry: e, t0: t0}
	}
	w.openCount.Store(int64(len(w.open)))
}

// append packs the entries and writes them.
func (w *writer) append(ctx context.Context, kind Kind, entries []Entry) (Appended, error) {
	w.count++
	return w.write(ctx, kind, pack(message{ordinal: w.count, wall: time.Now(), entries: entries}))
}

// write writes data under the fence until the server has answered for certain:
// the same bytes under the same id, so a repeat changes nothing.
func (w *writer) write(ctx context.Context, kind Kind, data []byte) (appended Appended, err error) {
	id := fmt.Sprintf("%s-%d", w.prefix, w.count)
	err = again(ctx, func() error {
		appended, err = w.p.store.Append(ctx, w.p.number, kind, w.marker, id, data)
		return err
	})
	return appended, err
}

// resolved is how many of the oldest messages of intents have a record for each entry.
func (w *writer) resolved() int {
	n := 0
	for n < len(w.messages) && w.messages[n].open == 0 {
		n++
	}
	return n
}

// purge deletes the intents whose records are all stored. It is not fenced and
// need not be: a former owner's idea of "resolved" rests on records that were
// stored under its fence, and concerns only messages older than any later marker.
// What fails is done by the next one.
func (w *writer) purge(ctx context.Context) {
	resolved := w.resolved()
	if resolved == 0 {
		return
	}
	below := w.messages[resolved-1].sequence + 1
	if err := w.p.store.PurgeIntents(ctx, w.p.number, below); err == nil {
		w.messages = slices.Delete(w.messages, 0, resolved)
	}
}

// upkeep looks at the clocks, purges, tidies the ledger and renews the marker, each when it
// is due, and sets the pulse for the next time.
func (w *writer) upkeep(ctx context.Context, pulse *time.Timer) error {
	now := time.Now()
	if w.p.clock.drift(now) > maxDrift {
		return ErrClocks
	}
	w.purge(ctx)
	if elapsed(w.tidied, now) >= tidyAfter {
		w.tidied = now
		server := w.p.clock.stamp(Now(now))
		w.p.Ledger.Expire(server, w.p.cfg.Window)
		if _, err := w.p.Ledger.Shrink(w.p.limit.Load(), server); err != nil {
			return err
		}
	}
	if elapsed(w.marked, now) > remarkAfter {
		if err := w.remark(ctx); err != nil {
			return err
		}
	}
	pulse.Reset(w.interval())
	return nil
}

// interval is the time to the next upkeep: a partition that wrote nothing since the
// last one, and has nothing to purge, needs little.
func (w *writer) interval() time.Duration {
	busy := w.count != w.kept || w.resolved() > 0
	w.kept = w.count
	if busy {
		return purgeEvery
	}
	return tidyAfter
}

// remark renews the marker under the fence, so that it does not age out.
func (w *writer) remark(ctx context.Context) error {
	data, err := newMarker(w.p.cfg.Worker, time.Now())
	if err != nil {
		return err
	}
	w.count++
	appended, err := w.write(ctx, OwnerKind, data)
	if err == nil {
		w.marker, w.marked = appended.Sequence, time.Now()
	}
	return err
}

func flatten(items []pending) []Entry {
	entries := make([]Entry, 0, len(items))
	for _, item := range items {
		entries = append(entries, item.entries...)
	}
	return entries
}

func answer(items []pending, out outcome) {
	for _, item := range items {
		item.result <- out
	}
}

func final(err error) bool {
	return errors.Is(err, ErrLost) || errors.Is(err, ErrBroken) || errors.Is(err, ErrFormat) || errors.Is(err, ErrMemory) ||
		errors.Is(err, context.Canceled)
}
