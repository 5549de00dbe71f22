package journal

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// A table is what the ledger remembers by the million: rows found by a 64-bit key, each
// of a day, and dropped with all others of its day.
//
// It is linear hashing. A row is slotSize bytes, packed, without pointers, so that the
// garbage collector has nothing to scan. Rows lie in segments of some hundred, sorted by
// hash, without gaps. The low bits of the hash choose the segment; the hash as a
// fraction of its range says within a few rows where in it the row lies. The table grows
// by splitting one segment, so there is no moment at which an old and a new one stand
// beside each other. It shrinks with its segments, whose number stays.
//
// Producers choose the identifiers that keys are hashes of, and could look for ones that
// lie together. The seed, which nobody outside the process knows, takes them apart.
type table struct {
	seed, odd uint64
	several   bool // a key may have several rows, of different values
	segments  [][]byte
	count     int
	held      int64 // bytes of all segments, by capacity
}

// row is what is remembered of a key.
type row struct {
	value uint64
	extra uint32
	day   uint8 // tag of the day; see Ledger.day
}

// A slot is a row as it is stored: hash, value, extra, day.
const (
	slotSize  = 8 + 8 + 4 + 1
	slotValue = 8
	slotExtra = 16
	slotDay   = 20
)

// mostRows is how many rows segments have on average before one is split. More save
// headers, which then stay in the processor's cache, and cost time to move aside at each
// insertion: with 256 it moves 2.7 KB.
const mostRows = 256

const segmentHeader = 24 // bytes of a slice

func newTable(several bool) table {
	return table{seed: rand.Uint64(), odd: rand.Uint64() | 1, several: several}
}

// hash is different for different keys: each step can be undone.
func (t *table) hash(key uint64) uint64 {
	h := (key ^ t.seed) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= t.odd
	return h ^ h>>29
}

// segment is where the rows of a hash are. The segments up to the highest power of two
// were there before this round of splitting, the others are being split off them in
// order.
func (t *table) segment(h uint64) int {
	n := uint64(len(t.segments))
	before := round(n)
	if i := h & (2*before - 1); i < n {
		return int(i)
	}
	return int(h & (before - 1))
}

// round is the highest power of two that is at most n.
func round(n uint64) uint64 { return 1 << (bits.Len64(n) - 1) }

func hashAt(slots []byte, at int) uint64 { return binary.LittleEndian.Uint64(slots[at:]) }

// seek is the offset of the first slot whose hash is at least h.
func seek(slots []byte, h uint64) int {
	guess, _ := bits.Mul64(h, uint64(len(slots)/slotSize))
	at := int(guess) * slotSize
	for at > 0 && hashAt(slots, at-slotSize) >= h {
		at -= slotSize
	}
	for at < len(slots) && hashAt(slots, at) < h {
		at += slotSize
	}
	return at
}

// get is the row of a key; where it has several, one of them.
func (t *table) get(key uint64) (row, bool) {
	if t.count == 0 {
		return row{}, false
	}
	h := t.hash(key)
	slots := t.segments[t.segment(h)]
	at := seek(slots, h)
	if at == len(slots) || hashAt(slots, at) != h {
		return row{}, false
	}
	return rowOf(slots[at : at+slotSize]), true
}

// has reports whether the key has a row of that value.
func (t *table) has(key, value uint64) bool {
	if t.count == 0 {
		return false
	}
	h := t.hash(key)
	slots := t.segments[t.segment(h)]
	_, found := t.find(slots, h, value)
	return found
}

// find is the offset of the row that one with this value would replace, else of where it
// would go.
func (t *table) find(slots []byte, h, value uint64) (at int, found bool) {
	at = seek(slots, h)
	for at < len(slots) && hashAt(slots, at) == h {
		if !t.several || binary.LittleEndian.Uint64(slots[at+slotValue:]) == value {
			return at, true
		}
		at += slotSize
	}
	return at, false
}

// put stores the row, in the place of the key's earlier one.
func (t *table) put(key uint64, r row) {
	if len(t.segments) == 0 {
		t.segments = make([][]byte, 1)
	}
	h := t.hash(key)
	i := t.segment(h)
	at, found := t.find(t.segments[i], h, r.value)
	if !found {
		t.open(i, at)
	}
	slot := t.segments[i][at : at+slotSize]
	binary.LittleEndian.PutUint64(slot, h)
	binary.LittleEndian.PutUint64(slot[slotValue:], r.value)
	binary.LittleEndian.PutUint32(slot[slotExtra:], r.extra)
	slot[slotDay] = r.day
	if t.count > mostRows*len(t.segments) {
		t.split()
	}
}

func rowOf(slot []byte) row {
	return row{
		value: binary.LittleEndian.Uint64(slot[slotValue:]),
		extra: binary.LittleEndian.Uint32(slot[slotExtra:]),
		day:   slot[slotDay],
	}
}

// open moves the slots of segment i from at on aside, for one more.
func (t *table) open(i, at int) {
	slots := t.segments[i]
	if cap(slots)-len(slots) < slotSize {
		slots = t.refit(slots, len(slots)+slotSize+len(slots)/8)
	}
	slots = slots[:len(slots)+slotSize]
	copy(slots[at+slotSize:], slots[at:])
	t.segments[i] = slots
	t.count++
}

// refit is the slots with that capacity, or the little more that the allocator hands out
// anyway.
func (t *table) refit(slots []byte, capacity int) []byte {
	fitted := append([]byte(nil), make([]byte, capacity)...)[:len(slots)]
	copy(fitted, slots)
	t.held += int64(cap(fitted) - cap(slots))
	return fitted
}

// split takes those rows out of the next segment in turn that belong to a new one.
func (t *table) split() {
	n := uint64(len(t.segments))
	bit := round(n)
	old := t.segments[n-bit]
	staying, leaving := old[:0], make([]byte, 0, 5*len(old)/8) // half of them, give or take
	for at := 0; at < len(old); at += slotSize {
		if slot := old[at : at+slotSize]; hashAt(slot, 0)&bit == 0 {
			staying = append(staying, slot...) // in place: it never overtakes
		} else {
			leaving = append(leaving, slot...)
		}
	}
	t.segments[n-bit] = t.refit(staying, len(staying)+len(staying)/8)
	t.segments = append(t.segments, leaving)
	t.held += int64(cap(leaving))
}

// drop deletes the rows of a day and returns how many there were.
func (t *table) drop(day uint8) int {
	before := t.count
	for i, slots := range t.segments {
		kept := slots[:0]
		for at := 0; at < len(slots); at += slotSize {
			if slot := slots[at : at+slotSize]; slot[slotDay] != day {
				kept = append(kept, slot...) // in place: it never overtakes
			}
		}
		t.count -= (len(slots) - len(kept)) / slotSize
		t.segments[i] = t.refit(kept, len(kept)+len(kept)/16)
	}
	if t.count == 0 {
		t.segments = nil
	}
	return before - t.count
}

// size is the bytes that the table takes.
func (t *table) size() int64 { return t.held + int64(cap(t.segments))*segmentHeader }
