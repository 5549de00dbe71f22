package delivery

import (
	"sync"
	"time"
)

// turnAgain is when a message comes again whose identifier is in work, by half of it more or
// less: well below otherFirst and never in step with it. Two messages with other content that
// wait for each other would else come together for ever, and the same one be turned away.
const turnAgain = 500 * time.Millisecond

// inWork are the identifiers that are being delivered, by key. Lanes keep apart what has
// the same customer; where they do not, as with API v2, this keeps apart what must not be
// sent twice. One that waits would hold a place for as long as the other is retried, so
// the second is handed back.
type inWork struct {
	mu   sync.Mutex
	keys map[uint64]struct{}
}

// enter reports false when the key is in work; where it is true, leave must follow.
func (i *inWork) enter(key uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, taken := i.keys[key]; taken {
		return false
	}
	i.keys[key] = struct{}{}
	return true
}

func (i *inWork) leave(key uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, key)
}

// endWork takes the delivery's identifier out of work, if it was in: after all that is
// recorded of it, since who comes next looks there.
func (d *delivery) endWork() {
	if d.working {
		d.w.inWork.leave(d.key)
	}
}
