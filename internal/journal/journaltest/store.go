// Package journaltest is the journal's store in memory, for tests and simulations
// in a testing/synctest bubble. It behaves like the stream USAGE_JOURNAL as far as
// the journal depends on it, and misbehaves on demand.
//
// What it keeps to, as JetStream does:
//
//   - A write names the last message that it expects on the owner subject and is
//     refused with [journal.ErrLost] when that is another one.
//   - A message id is remembered for [DuplicateWindow]; within it a repeat is
//     answered "duplicate". As in a cluster this check comes before the fence, unless
//     [Store.SetSingle] makes it a single server, where the fence comes first.
//   - Sequences rise over all partitions; stamps are the server's clock, which is the
//     bubble's and a skew ([Store.SetSkew]).
//   - Messages of every kind leave after [MaxAge], markers too.
//
// What it can do wrong is a [Fault], drawn for each call by the [Client] that makes
// it: one client is one process. Nothing here starts a goroutine.
package journaltest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/journal"
)

// Bounds of the stream; see outbox.Streams.
const (
	DuplicateWindow = 2 * time.Minute
	MaxAge          = 36 * 24 * time.Hour
)

// Store is one journal, shared by its clients. Its methods may be called from any
// goroutine.
type Store struct {
	mu         sync.Mutex
	last       uint64
	skew       time.Duration
	single     bool
	partitions map[int]*partition
	ids        map[string]known
	crowded    int       // number of ids at which the old ones are dropped
	late       []arrival // copies of writes that are still under way, by due time
}

type partition struct {
	messages []journal.Stored
	owner    uint64 // sequence of the last marker, 0 without one
}

// known is a message id that the server remembers.
type known struct {
	sequence uint64
	at       time.Time
}

// write is what a client asks to be stored. An unfenced one takes ownership.
type write struct {
	partition int
	kind      journal.Kind
	fenced    bool
	marker    uint64
	id        string
	data      []byte
}

// arrival is a write that reaches the server at a later time.
type arrival struct {
	due   time.Time
	write write
}

// New returns an empty store.
func New() *Store {
	return &Store{partitions: map[int]*partition{}, ids: map[string]known{}}
}

// SetSkew puts the server's clock ahead of the bubble's.
func (s *Store) SetSkew(skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = skew
}

// SetSingle makes the store a single server: it looks at the fence before the id.
func (s *Store) SetSingle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.single = true
}

// Stored is what is stored of a partition now, in order.
func (s *Store) Stored(number int) []journal.Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(time.Now())
	return slices.Clone(s.partition(number).messages)
}

// Inject stores a message as somebody else may have, without id and fence.
func (s *Store) Inject(number int, kind journal.Kind, data []byte) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.advance(now)
	return s.store(write{partition: number, kind: kind, data: data}, now)
}

// Drop removes one message, as a bit error or a person may.
func (s *Store) Drop(number int, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partition(number).remove(func(m journal.Stored) bool { return m.Sequence == sequence })
}

func (s *Store) partition(number int) *partition {
	p, ok := s.partitions[number]
	if !ok {
		p = &partition{}
		s.partitions[number] = p
	}
	return p
}

// advance lets everything happen that was due by now.
func (s *Store) advance(now time.Time) {
	for len(s.late) > 0 && !s.late[0].due.After(now) {
		a := s.late[0]
		s.late = slices.Delete(s.late, 0, 1)
		_, _ = s.apply(a.write, a.due) // nobody waits for the answer
	}
	s.expire(now)
}

func (s *Store) expire(now time.Time) {
	oldest := now.Add(s.skew - MaxAge)
	for _, p := range s.partitions {
		if len(p.messages) > 0 && p.messages[0].Time.Before(oldest) {
			p.remove(func(m journal.Stored) bool { return m.Time.Before(oldest) })
		}
	}
}

// remove deletes the messages that are gone and finds the last marker anew.
func (p *partition) remove(gone func(journal.Stored) bool) {
	p.messages = slices.DeleteFunc(p.messages, gone)
	p.owner = 0
	for _, m := range p.messages {
		if m.Kind == journal.OwnerKind {
			p.owner = m.Sequence
		}
	}
}

// delay has the write arrive at due.
func (s *Store) delay(w write, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.late, due, func(a arrival, due time.Time) int {
		if a.due.After(due) {
			return 1
		}
		return -1
	})
	s.late = slices.Insert(s.late, i, arrival{due, w})
}

// arrive handles a write that reaches the server now.
func (s *Store) arrive(w write) (journal.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.advance(now)
	return s.apply(w, now)
}

func (s *Store) apply(w write, now time.Time) (journal.Appended, error) {
	k, ok := s.ids[w.id]
	repeat, stale := ok && now.Sub(k.at) < DuplicateWindow, s.stale(w)
	if repeat && (!stale || !s.single) {
		return journal.Appended{Sequence: k.sequence, Duplicate: true}, nil
	}
	if stale {
		return journal.Appended{}, fmt.Errorf("%w: marker %d is not the last one", journal.ErrLost, w.marker)
	}
	sequence := s.store(w, now)
	s.ids[w.id] = known{sequence, now}
	s.forget(now)
	return journal.Appended{Sequence: sequence}, nil
}

// stale reports whether the fence refuses the write.
func (s *Store) stale(w write) bool {
	fenced := w.fenced && !faultpoint.Seeded(faultpoint.Unfenced)
	return fenced && s.partition(w.partition).owner != w.marker
}

// forget drops the ids that are past the window, when there may be as many of them
// as others.
func (s *Store) forget(now time.Time) {
	if len(s.ids) < s.crowded {
		return
	}
	maps.DeleteFunc(s.ids, func(_ string, k known) bool { return now.Sub(k.at) >= DuplicateWindow })
	s.crowded = max(1000, 2*len(s.ids))
}

func (s *Store) store(w write, now time.Time) uint64 {
	s.last++
	p := s.partition(w.partition)
	p.messages = append(p.messages, journal.Stored{Kind: w.kind, Sequence: s.last, Time: now.Add(s.skew), Data: w.data})
	if w.kind == journal.OwnerKind {
		p.owner = s.last
	}
	return s.last
}

// read returns the partition's messages up to the marker.
func (s *Store) read(number int, marker uint64) ([]journal.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(time.Now())
	messages := s.partition(number).messages
	i := slices.IndexFunc(messages, func(m journal.Stored) bool { return m.Sequence == marker })
	if i < 0 {
		return nil, fmt.Errorf("%w: our marker %d is gone", journal.ErrLost, marker)
	}
	return slices.Clone(messages[:i+1]), nil
}

func (s *Store) purge(number int, below uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(time.Now())
	s.partition(number).remove(func(m journal.Stored) bool {
		return m.Kind == journal.IntentKind && m.Sequence < below
	})
}

// ErrFault is the answer to a call that went wrong; whether it was done is unknown
// to the caller.
var ErrFault = errors.New("journaltest: no answer")
