package journal

import "time"

// What the tests outside the package see of the inside.
const (
	RemarkAfter = remarkAfter
	MaxPacked   = maxPacked
	TidyAfter   = tidyAfter
	TidyEvery   = tidyEvery
)

// Packed is a stored message as a writer of this version packs it.
func Packed(ordinal uint64, wall time.Time, entries ...Entry) []byte {
	return pack(message{ordinal: ordinal, wall: wall, entries: entries})
}

// Unpacked are the entries of a stored message.
func Unpacked(data []byte) ([]Entry, error) {
	m, err := unpack(data)
	return m.entries, err
}
