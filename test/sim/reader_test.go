package sim

import (
	"encoding/binary"

	"github.com/meterworker/meterworker/internal/journal"
)

// reader reads one partition's journal as it is stored: a reading of the format (see
// docs/decisions/0003-journal-entries.md) that is not the worker's own.
type reader struct {
	partition int
	last      uint64            // sequence of the journal read last
	ordinal   uint64            // last one since the last marker
	intended  map[uint64]bool   // an intent was stored at some time
	keys      map[uint64]uint64 // key of the last intent, by outbox sequence
	terminal  map[uint64]journal.State
	delivered map[uint64]bool // by key
}

func (b *books) reader(partition int) *reader {
	r, ok := b.readers[partition]
	if !ok {
		r = &reader{
			partition: partition, intended: map[uint64]bool{}, keys: map[uint64]uint64{},
			terminal: map[uint64]journal.State{}, delivered: map[uint64]bool{},
		}
		b.readers[partition] = r
	}
	return r
}

// read takes in what was stored since the last time. w.mu is held.
func (b *books) read(partition int) {
	r := b.reader(partition)
	for _, m := range b.w.journal.Stored(partition) {
		if m.Sequence <= r.last {
			continue
		}
		r.last = m.Sequence
		if m.Kind == journal.OwnerKind {
			r.ordinal = 0
		} else if !r.message(m.Data) {
			b.w.violate("I3", "message %d of the journal cannot be read", m.Sequence)
		}
	}
}

// message reads one packed message.
func (r *reader) message(data []byte) bool {
	s := scan{data: data, ok: len(data) > 0 && data[0] == 1}
	s.skip(1)
	ordinal := s.uvarint()
	s.varint() // the writer's clock
	count := s.uvarint()
	late := ordinal <= r.ordinal // a copy of what was read already
	r.ordinal = max(r.ordinal, ordinal)
	var sequence uint64
	for range count {
		state := journal.State(s.skip(1)[0])
		sequence += uint64(s.varint())
		key := binary.LittleEndian.Uint64(s.skip(8))
		s.skip(4)
		switch state {
		case journal.Unknown:
			s.varint()
		case journal.Dying:
			s.skip(int(s.uvarint()))
		case journal.Open, journal.NotSent, journal.Delivered, journal.Dead:
		}
		if s.ok && !late {
			r.entry(state, sequence, key)
		}
	}
	return s.ok && len(s.data) == 0
}

func (r *reader) entry(state journal.State, sequence, key uint64) {
	switch state {
	case journal.Open:
		r.intended[sequence], r.keys[sequence] = true, key
	case journal.Delivered:
		r.terminal[sequence], r.delivered[key] = state, true
	case journal.Dead:
		r.terminal[sequence] = state
	case journal.NotSent, journal.Unknown, journal.Dying:
	}
}

// scan reads from the front of data; past its end it reads zeros, and is not ok.
type scan struct {
	data []byte
	ok   bool
}

func (s *scan) skip(n int) []byte {
	if n < 0 || n > len(s.data) {
		s.ok, s.data = false, nil
		return make([]byte, 8)
	}
	out := s.data[:n]
	s.data = s.data[n:]
	return out
}

func (s *scan) uvarint() uint64 {
	v, n := binary.Uvarint(s.data)
	s.skip(max(n, 1))
	return v
}

func (s *scan) varint() int64 {
	v, n := binary.Varint(s.data)
	s.skip(max(n, 1))
	return v
}
