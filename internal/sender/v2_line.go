package sender

import (
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// place is where a member of the line is.
type place uint8

const (
	inLine place = iota
	taken        // by a courier, who answers it
	gone         // it has left, and answers itself
)

// line is where events wait for others, and for permits. A courier takes them from its
// head, up to MaxBatch, once it has permits for them: until then each may leave.
//
// One courier goes at once when nothing else is under way, so that a lone event is not
// delayed; one for every MaxBatch events that wait; and one when the first in the line has waited for
// gatherFor, so that what comes beside other requests goes in company.
type line struct {
	deliver  func(n int) // a courier's way, with up to n events
	couriers sync.WaitGroup

	mu      sync.Mutex
	members []*member // those that have left included
	waiting int       // without them
	running int       // couriers
	unladen int       // of these, those that have not taken any events yet
	ripe    *time.Timer
	closed  bool
}

// close starts no more couriers, and returns when there are none.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	if l.ripe != nil {
		l.ripe.Stop()
	}
	for _, m := range l.members {
		if m != nil && m.place == inLine {
			m.place = taken
			m.answered <- closedAnswer
		}
	}
	l.members, l.waiting = nil, 0
	l.mu.Unlock()
	l.couriers.Wait()
}

var closedAnswer = delivery.Answer{Class: delivery.NotSent, Detail: errClosed.Error()}

// join puts the member at the end; after close nobody is sent any more.
func (l *line) join(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		m.place = taken
		m.answered <- closedAnswer
		return
	}
	m.joined = time.Now()
	l.members = append(l.members, m)
	l.waiting++
	l.hurry(false)
}

// leave reports whether the member was still in the line.
func (l *line) leave(m *member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.place != inLine {
		return false
	}
	m.place = gone
	l.waiting--
	return true
}

// take gives the courier who calls it up to n events.
func (l *line) take(n int) []*member {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unladen--
	var batch []*member
	for len(batch) < n && len(l.members) > 0 {
		m := l.members[0]
		l.members[0] = nil // let go of what it holds
		if l.members = l.members[1:]; m.place == inLine {
			m.place = taken
			batch = append(batch, m)
		}
	}
	l.waiting -= len(batch)
	l.hurry(false)
	return batch
}

// hurry starts the couriers that are due; late says that the first has waited long enough.
// l.mu is held.
func (l *line) hurry(late bool) {
	for l.running < maxRequests && l.due(late) {
		late = false
		l.running++
		l.unladen++
		n := min(l.waiting, MaxBatch)
		l.couriers.Go(func() {
			l.deliver(n)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.running--
			l.hurry(false)
		})
	}
	if l.waiting > 0 && l.unladen == 0 && l.ripe == nil && l.running < maxRequests && !l.closed {
		l.ripe = time.AfterFunc(gatherFor-time.Since(l.first()), l.ripen)
	}
}

func (l *line) due(late bool) bool {
	switch {
	case l.waiting == 0 || l.closed:
		return false
	case l.waiting >= MaxBatch*(l.unladen+1):
		return true
	default:
		return l.unladen == 0 && (l.running == 0 || late)
	}
}

// first is when the first in the line joined it.
func (l *line) first() time.Time {
	for _, m := range l.members {
		if m.place == inLine {
			return m.joined
		}
	}
	return time.Now()
}

// ripen sends off who has waited for gatherFor.
func (l *line) ripen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ripe = nil
	l.hurry(l.waiting > 0 && time.Since(l.first()) >= gatherFor)
}
