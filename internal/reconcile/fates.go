package reconcile

import "github.com/meterworker/meterworker/internal/journal"

// fate is the journal's last word on one message, in a byte.
type fate uint8

const (
	silent    fate = iota // nothing, or an attempt that was not made
	open                  // is being sent
	doubtful              // may have been counted
	delivered             // Stripe took it
	dead                  // in the dead letters, or about to be

	stateBits fate = 0x0f
	doubted   fate = 0x40 // dead, and may have been counted before
	fresh     fate = 0x80 // recorded less than the settle time ago
)

func (f fate) state() fate { return f & stateBits }

// pageSize is how many neighbours share a page: sequences are dense.
const pageSize = 4096

// fates holds one byte for each message.
type fates map[uint64]*[pageSize]fate

func (f fates) of(sequence uint64) fate {
	if page := f[sequence/pageSize]; page != nil {
		return page[sequence%pageSize]
	}
	return silent
}

// learn takes the next entry in. What is final stays, and an attempt of unknown outcome is not
// undone by a later one that was not made.
func (f fates) learn(sequence uint64, state journal.State, recent bool) {
	page := f[sequence/pageSize]
	if page == nil {
		page = new([pageSize]fate)
		f[sequence/pageSize] = page
	}
	entry := &page[sequence%pageSize]
	old := entry.state()
	if old == delivered || old == dead {
		return
	}
	switch state {
	case journal.Open:
		*entry = max(old, open)
	case journal.Unknown:
		*entry = doubtful
	case journal.NotSent:
		if old == open {
			*entry = silent
		}
	case journal.Delivered:
		*entry = delivered
	case journal.Dying, journal.Dead:
		*entry = dead
		if old == doubtful {
			*entry |= doubted
		}
	}
	if recent {
		*entry |= fresh
	}
}
