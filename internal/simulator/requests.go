package simulator

import (
	"sync"
	"time"
)

// maxLogged is how many requests the log keeps: the newest.
const maxLogged = 1_000

// Request is one line of the request log, written when the answer is decided.
type Request struct {
	ID             string    `json:"id"`
	At             time.Time `json:"at"`
	Method         string    `json:"method"`
	Path           string    `json:"path"`
	EventName      string    `json:"event_name,omitempty"` // of a batch: its first event's
	Customer       string    `json:"customer,omitempty"`
	Identifier     string    `json:"identifier,omitempty"`
	Events         int       `json:"events,omitempty"` // of a batch
	IdempotencyKey string    `json:"idempotency_key,omitempty"`
	Status         int       `json:"status"` // 0: no whole answer
	Fault          Kind      `json:"fault,omitempty"`
	Replayed       bool      `json:"replayed,omitempty"`
}

type requestLog struct {
	mu   sync.Mutex
	ring []Request
	next int
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < maxLogged {
		l.ring = append(l.ring, r)
		return
	}
	l.ring[l.next] = r
	l.next = (l.next + 1) % maxLogged
}

// Requests are the newest 1,000 requests, oldest first.
func (s *Simulator) Requests() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	list := make([]Request, 0, len(s.log.ring))
	list = append(list, s.log.ring[s.log.next:]...)
	return append(list, s.log.ring[:s.log.next]...)
}
