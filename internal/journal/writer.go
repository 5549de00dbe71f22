package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// writer is the partition's only writer: one write in flight, records first
// (they free places), then intents.
type writer struct {
	p         *Partition
	marker    uint64
	marked    time.Time
	prefix    string
	count     uint64
	messages  []*intentMessage          // stored intents, oldest first
	open      map[uint64]*intentMessage // by outbox sequence
	openCount atomic.Int64
}

// intentMessage is one stored message of intents and how many of its entries
// have no record yet.
type intentMessage struct {
	sequence uint64
	open     int
}

// inherit takes over a former owner's open intents, so that they are purged once
// adopt has recorded them, and everything before the marker with them.
func (w *writer) inherit(open map[uint64]openIntent) {
	m := &intentMessage{sequence: w.marker, open: len(open)}
	w.messages = append(w.messages, m)
	for sequence := range open {
		w.open[sequence] = m
	}
}

func (w *writer) run(ctx context.Context) {
	defer close(w.p.gone)
	purge, expire := time.NewTicker(purgeEvery), time.NewTicker(expireEvery)
	defer purge.Stop()
	defer expire.Stop()
	for {
		err := w.writeAll(ctx)
		if queued, closing := w.p.idle(); err == nil && closing && !queued {
			err = ErrClosed
		}
		if err != nil {
			w.p.end(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-w.p.wake:
		case <-purge.C:
			w.purge(ctx)
		case <-expire.C:
			err = w.upkeep(ctx)
		}
		if ctx.Err() != nil {
			err = ErrClosed
		}
		if err != nil {
			w.p.end(err)
			return
		}
	}
}

// writeAll writes until nothing is queued.
func (w *writer) writeAll(ctx context.Context) error {
	for {
		queued, _ := w.p.idle()
		if !queued {
			return nil
		}
		if err := w.writeRecords(ctx, w.p.grab(&w.p.records)); err != nil {
			return err
		}
		if err := w.writeIntents(ctx, w.p.grab(&w.p.intents)); err != nil {
			return err
		}
	}
}

func (w *writer) writeRecords(ctx context.Context, items []pending) error {
	if len(items) == 0 {
		return nil
	}
	entries := flatten(items)
	_, err := w.append(ctx, DoneKind, entries)
	if err == nil {
		w.applyRecords(entries, w.p.clock.stamp(Now(time.Now())))
	}
	answer(items, outcome{err: err})
	return err
}

func (w *writer) applyRecords(entries []Entry, stamp time.Time) {
	for _, e := range entries {
		w.p.Ledger.apply(e, stamp)
		if m, ok := w.open[e.Sequence]; ok && resolves(e.State) {
			m.open--
			delete(w.open, e.Sequence)
		}
	}
	w.openCount.Store(int64(len(w.open)))
}

// writeIntents returns to the callers only after a write that was not answered
// "duplicate": see the package comment.
func (w *writer) writeIntents(ctx context.Context, items []pending) error {
	if len(items) == 0 {
		return nil
	}
	entries := flatten(items)
	t0 := Now(time.Now())
	var appended Appended
	var err error
	for {
		appended, err = w.append(ctx, IntentKind, entries)
		if err != nil || !appended.Duplicate {
			break
		}
	}
	if err == nil {
		w.applyIntents(entries, appended.Sequence)
	}
	answer(items, outcome{t0: t0, err: err})
	return err
}

func (w *writer) applyIntents(entries []Entry, sequence uint64) {
	m := &intentMessage{sequence: sequence}
	w.messages = append(w.messages, m)
	for _, e := range entries {
		if old, ok := w.open[e.Sequence]; ok {
			old.open--
		}
		w.open[e.Sequence] = m
		m.open++
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

// purge deletes the intents whose records are all stored. It is not fenced and
// need not be: a former owner's idea of "resolved" rests on records that were
// stored under its fence, and concerns only messages older than any later marker.
func (w *writer) purge(ctx context.Context) {
	resolved := 0
	for resolved < len(w.messages) && w.messages[resolved].open == 0 {
		resolved++
	}
	if resolved == 0 {
		return
	}
	below := w.messages[resolved-1].sequence + 1
	if err := w.p.store.PurgeIntents(ctx, w.p.number, below); err == nil {
		w.messages = append([]*intentMessage(nil), w.messages[resolved:]...)
	}
}

func (w *writer) upkeep(ctx context.Context) error {
	if w.p.clock.drift(time.Now()) > maxDrift {
		return ErrClocks
	}
	now := w.p.clock.stamp(Now(time.Now()))
	w.p.Ledger.Expire(now, w.p.cfg.Window)
	if _, err := w.p.Ledger.Shrink(w.p.limit.Load(), now); err != nil {
		return err
	}
	if time.Since(w.marked) > remarkAfter {
		return w.remark(ctx)
	}
	return nil
}

// remark renews the marker under the fence, so that it does not age out.
func (w *writer) remark(ctx context.Context) error {
	data, err := json.Marshal(marker{Version: formatVersion, Worker: w.p.cfg.Worker, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("encode owner marker: %w", err)
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
	return errors.Is(err, ErrLost) || errors.Is(err, ErrFormat) || errors.Is(err, ErrMemory) ||
		errors.Is(err, context.Canceled)
}
