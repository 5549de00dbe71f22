package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// State is what an entry says about a sequence. The list is closed.
type State uint8

// The states of an entry; the numbers are the stored format.
const (
	Open      State = 1 // intent: may be sent from now on
	NotSent   State = 2 // no attempt of this life can have been counted
	Delivered State = 3 // Stripe has the event
	Unknown   State = 4 // an attempt may have been counted; T0 is its lower bound
	Dying     State = 5 // the dead letter is about to be published; Letter is its header block
	Dead      State = 6 // the dead letter is stored
)

var stateNames = map[State]string{
	Open: "open", NotSent: "not-sent", Delivered: "delivered",
	Unknown: "unknown", Dying: "dying", Dead: "dead",
}

func (s State) String() string {
	if name, ok := stateNames[s]; ok {
		return name
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Entry is one line of the journal.
type Entry struct {
	Sequence    uint64 // of the message in the outbox
	Key         uint64 // hash of (event name, customer, identifier); of the body in Dying and Dead
	Fingerprint uint32 // hash of the content as published
	State       State
	T0          time.Time // Unknown only: server time, millisecond precision
	Letter      []byte    // Dying only: the letter's headers, opaque here

	// Patience is how long the entry may wait for others to share a message with; it is
	// not stored. A patient entry goes with an impatient one of its kind.
	Patience time.Duration
}

// formatVersion is the first byte of every packed message. A reader that meets
// another version does not take the partition.
const formatVersion = 1

// maxPacked bounds the entries of one message, in bytes, well below the server's
// limit (1 MiB).
const maxPacked = 256 << 10

// minEntry is the least an entry takes in a message, in bytes.
const minEntry = 1 + 1 + 8 + 4

// ErrFormat says that an entry cannot be read by this version.
var ErrFormat = errors.New("journal entry of an unknown format")

// message is what one message of the journal says.
type message struct {
	// ordinal counts the writes of one life, from 1. A delayed copy of an earlier
	// write that outlived the duplicate window has an ordinal that was seen
	// already, and is passed over.
	ordinal uint64

	// wall is the writer's own clock, at millisecond precision. The earlier one of
	// it and the server's stamp counts as t0, so a server whose clock ran ahead
	// makes no attempt look young.
	wall time.Time

	entries []Entry
}

// pack encodes a message: version, ordinal, wall, number of entries, then per entry
// state, sequence (as the difference to the one before), key, fingerprint and, where
// the state has them, t0 and letter.
func pack(m message) []byte {
	out := make([]byte, 0, 32+len(m.entries)*18)
	out = append(out, formatVersion)
	out = binary.AppendUvarint(out, m.ordinal)
	out = binary.AppendVarint(out, m.wall.UnixMilli())
	out = binary.AppendUvarint(out, uint64(len(m.entries)))
	previous := uint64(0)
	for _, e := range m.entries {
		out = append(out, byte(e.State))
		out = binary.AppendVarint(out, int64(e.Sequence-previous)) // wraps and unwraps symmetrically
		out = binary.LittleEndian.AppendUint64(out, e.Key)
		out = binary.LittleEndian.AppendUint32(out, e.Fingerprint)
		switch e.State {
		case Unknown:
			out = binary.AppendVarint(out, e.T0.UnixMilli())
		case Dying:
			out = binary.AppendUvarint(out, uint64(len(e.Letter)))
			out = append(out, e.Letter...)
		case Open, NotSent, Delivered, Dead:
		}
		previous = e.Sequence
	}
	return out
}

// unpack decodes what pack wrote. Anything else, a message that was cut short
// between two entries included, is ErrFormat: the journal never guesses.
func unpack(data []byte) (message, error) { return unpackInto(nil, data) }

// unpackInto is unpack, with the entries in the room given, which must not be used
// otherwise while they are.
func unpackInto(room []Entry, data []byte) (message, error) {
	if len(data) == 0 || data[0] != formatVersion {
		return message{}, fmt.Errorf("%w: no version %d at the start of %d bytes", ErrFormat, formatVersion, len(data))
	}
	r := unpacker{data: data[1:]}
	m := message{ordinal: r.uvarint(), wall: time.UnixMilli(r.varint())}
	if m.ordinal == 0 {
		r.fail("ordinal 0") // would be passed over as a late copy
	}
	m.entries = r.entries(room[:0])
	if len(r.data) > 0 {
		r.fail("%d bytes after the last entry", len(r.data))
	}
	if r.err != nil {
		return message{}, r.err
	}
	return m, nil
}

// size is an upper bound of an entry's bytes in a message.
func (e Entry) size() int { return 1 + 10 + 8 + 4 + 10 + len(e.Letter) }

// record checks that e is a legal record: a state that a reader does not know would
// keep everybody from taking the partition.
func (e Entry) record() error {
	if e.State <= Open || e.State > Dead {
		return fmt.Errorf("a record of sequence %d cannot say %s", e.Sequence, e.State)
	}
	return nil
}

// unpacker reads from the front of data; after the first error it reads zeros.
type unpacker struct {
	data []byte
	err  error
}

func (r *unpacker) entries(entries []Entry) []Entry {
	count := r.uvarint()
	if count > uint64(len(r.data)/minEntry) {
		r.fail("%d entries in %d bytes", count, len(r.data))
		return nil
	}
	entries = slices.Grow(entries, int(count))
	previous := uint64(0)
	for range count {
		e := r.entry(previous)
		previous = e.Sequence
		entries = append(entries, e)
	}
	return entries
}

func (r *unpacker) entry(previous uint64) Entry {
	var e Entry
	e.State = State(r.bytes(1)[0])
	e.Sequence = previous + uint64(r.varint()) // see pack
	e.Key = binary.LittleEndian.Uint64(r.bytes(8))
	e.Fingerprint = binary.LittleEndian.Uint32(r.bytes(4))
	switch e.State {
	case Unknown:
		e.T0 = time.UnixMilli(r.varint())
	case Dying:
		e.Letter = append([]byte(nil), r.bytes(r.length())...)
	case Open, NotSent, Delivered, Dead:
	default:
		r.fail("state %d", e.State)
	}
	return e
}

var zeros [8]byte

func (r *unpacker) bytes(n int) []byte {
	if n > len(r.data) {
		r.fail("cut short")
		return zeros[:min(n, len(zeros))]
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *unpacker) varint() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *unpacker) length() int {
	v := r.uvarint()
	if v > uint64(len(r.data)) {
		r.fail("bad length")
		return 0
	}
	return int(v)
}

func (r *unpacker) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
	}
	r.data = nil
}
