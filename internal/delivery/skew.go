package delivery

import (
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// Skew is how far Stripe's clock is ahead of this machine's, where that has been seen. It
// is Stripe's clock that decides when an identifier is forgotten: an attempt from before
// the clocks parted is older by as much as they have parted since. Whether they had
// before it nobody knows, so that it may be taken for older than it is, never for younger.
// Its methods may be called from any goroutine; the zero Skew is none.
type Skew struct{ seen atomic.Pointer[parting] }

type parting struct {
	ahead time.Duration
	since time.Time // first seen then, with its monotonic part
}

// Set notes that Stripe's clock is ahead by so much, as was first seen at since; 0: that
// it is not.
func (s *Skew) Set(ahead time.Duration, since time.Time) {
	s.seen.Store(&parting{ahead, since})
}

// age is the moment's age by the clock that makes it older.
func (s *Skew) age(m journal.Moment, now time.Time) time.Duration {
	age, seen := m.Age(now), s.seen.Load()
	if seen == nil || seen.ahead <= 0 || age <= now.Sub(seen.since) {
		return age
	}
	return max(age+seen.ahead, age) // an overflow must not make it look young
}
