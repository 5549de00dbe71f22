package crowd

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

const (
	perSecond = 1000
	burst     = 20 // of the strict bucket
)

// stripe is a strict Stripe: a token bucket, and one call at a time for each customer
// and meter.
type stripe struct {
	latency, jitter time.Duration // the jitter to either side

	mu       sync.Mutex
	random   *rand.Rand
	tokens   float64
	refilled time.Time
	busy     map[string]bool
	arrivals []time.Time // of the last second
	counted  map[string]time.Time

	requests, refused, beside, twice, peak int
}

func newStripe(latency, jitter time.Duration) *stripe {
	return &stripe{
		latency: latency, jitter: jitter, random: rand.New(rand.NewPCG(1, 2)),
		tokens: burst, refilled: time.Now(), busy: map[string]bool{}, counted: map[string]time.Time{},
	}
}

// Send implements delivery.Sender.
func (s *stripe) Send(ctx context.Context, a delivery.Attempt) delivery.Answer {
	<-time.After(s.network())
	if a.Ready(ctx) != nil {
		return delivery.Answer{Class: delivery.NotSent}
	}
	a.Written()
	<-time.After(s.network())
	class, takes := s.begin(a)
	<-time.After(takes)
	if class == delivery.Accepted {
		s.end(a)
	}
	return delivery.Answer{Class: class, Status: map[delivery.Class]int{delivery.Accepted: 200}[class]}
}

// network is the time from the process to the wire, and from there to Stripe.
func (s *stripe) network() time.Duration { return s.draw(time.Millisecond) }

func (s *stripe) draw(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.random.Int64N(int64(most)))
}

func (s *stripe) begin(a delivery.Attempt) (delivery.Class, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.arrive(now)
	s.tokens = min(burst, s.tokens+now.Sub(s.refilled).Seconds()*perSecond)
	s.refilled = now
	lane := laneOf(a)
	switch {
	case s.tokens < 1:
		s.refused++
		return delivery.Throttled, time.Millisecond
	case s.busy[lane]:
		s.beside++
		return delivery.Contended, time.Millisecond
	}
	s.tokens--
	s.busy[lane] = true
	return delivery.Accepted, s.latency - s.jitter + time.Duration(s.random.Int64N(int64(2*s.jitter)+1))
}

func (s *stripe) arrive(now time.Time) {
	s.requests++
	for len(s.arrivals) > 0 && now.Sub(s.arrivals[0]) >= time.Second {
		s.arrivals = s.arrivals[1:]
	}
	s.arrivals = append(s.arrivals, now)
	s.peak = max(s.peak, len(s.arrivals))
}

func (s *stripe) end(a delivery.Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, laneOf(a))
	if _, known := s.counted[a.Event.Identifier()]; known {
		s.twice++
	}
	s.counted[a.Event.Identifier()] = time.Now()
}

func laneOf(a delivery.Attempt) string { return a.Event.EventName() + "|" + a.Event.Customer() }

// seen is what Stripe has seen up to now.
type seen struct{ requests, refused, beside, twice, peak, counted int }

func (s *stripe) seen() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen{s.requests, s.refused, s.beside, s.twice, s.peak, len(s.counted)}
}
