package simulator

import (
	"maps"
	"sync"
	"time"
)

// meterEvents is POST /v1/billing/meter_events.
func (s *Simulator) meterEvents(c *call) answer {
	e, refusal := s.eventFromForm(c)
	if refusal != nil {
		return *refusal
	}
	name, refusal := checkIdempotencyKey(c.request)
	if refusal != nil {
		return *refusal
	}
	key := hashKey(c.live, name)
	turn, stored := s.idem.begin(key, e.fingerprint(), c.at)
	switch turn {
	case turnMismatch:
		return keyMismatch()
	case turnInUse:
		return keyInUse()
	case turnReplay:
		return stored.replay(e, c.live)
	case turnRun:
	}
	a := s.execute(c, e)
	s.idem.finish(key, a)
	return a
}

func (k storedKey) replay(e event, live bool) answer {
	a := accepted(e, live, time.Unix(0, k.at))
	if k.answer != nil {
		a = *k.answer
	}
	return a.with("Idempotent-Replayed", "true")
}

// execute holds the lock of customer and meter. It lets go before the answer is
// written: a client that has read an answer may call again at once.
func (s *Simulator) execute(c *call, e event) answer {
	pair := pairKey{c.live, e.name, e.customer}
	others := s.inFlight.enter(pair)
	defer s.inFlight.leave(pair)
	s.tallies.concurrent(others + 1)
	if others > 0 && !s.cfg.ManyPerCustomer {
		return lockTimeout()
	}
	latency := s.latency()
	pause(latency / 2)
	a := s.perform(c, e)
	pause(latency - latency/2)
	return a
}

func (s *Simulator) perform(c *call, e event) answer {
	fault, faulty := s.faults.pick(pathEvents, c.subjects, executing)
	if !faulty {
		return s.count(c, e)
	}
	c.entry.Fault = fault.Kind
	if fault.Recorded {
		s.count(c, e)
	}
	a := fault.dress(kinds[fault.Kind].reply(scene{call: c, fault: fault}))
	a.executed = true
	return a
}

// count enters the event into the books, unless its identifier is there.
func (s *Simulator) count(c *call, e event) answer {
	if s.enter(c, e, func() *rejection { return s.laterRefusal(c, e) }) {
		return duplicate(e.identifier)
	}
	return accepted(e, c.live, c.at)
}

// enter reports whether the identifier was there already. What Stripe refuses
// later uses its identifier up all the same: the harsher reading.
func (s *Simulator) enter(c *call, e event, refuse func() *rejection) (known bool) {
	now := s.Now()
	var why *rejection
	known, changed := s.ledger.enter(e, c.live, now, func() bool {
		why = refuse()
		return why != nil
	})
	if !known && why == nil {
		s.late.note(pairKey{c.live, e.name, e.customer}, e, now)
	}
	s.tallies.entered(known, why != nil)
	if changed {
		s.tallies.changedContent(Event{c.live, e.name, e.customer, e.identifier})
	}
	if why != nil && !why.silent {
		if s.cfg.ReportRequests {
			why.request = map[string]string{"id": c.id, "idempotency_key": c.request.Header.Get("Idempotency-Key")}
		}
		s.rejected.add(s.newID("evt_"), e, c.live, *why, now)
	}
	return known
}

// laterRefusal is why Stripe refuses the event after its 200; nil if it does not.
func (s *Simulator) laterRefusal(c *call, e event) *rejection {
	meter, known := s.meters.byEventName(e.name)
	if !known {
		return &rejection{code: "no_meter", message: "No meter for event name " + e.name}
	}
	s.meters.note(e.name)
	if meter.Status != MeterActive {
		return &rejection{code: "archived_meter", message: "The meter is not active", meter: meter.ID}
	}
	// Of a batch, only the event itself counts as the subject.
	subject := []Event{{EventName: e.name, Customer: e.customer, Identifier: e.identifier}}
	if fault, faulty := s.faults.pick(c.request.URL.Path, subject, afterwards); faulty {
		c.entry.Fault = fault.Kind
		if fault.Kind == NotCounted {
			return &rejection{silent: true}
		}
		return &rejection{code: fault.codeOr("meter_event_customer_not_found"), message: "Refused on demand", meter: meter.ID}
	}
	return nil
}

func accepted(e event, live bool, created time.Time) answer {
	a := succeed(map[string]any{
		"object":     "billing.meter_event",
		"created":    created.Unix(),
		"event_name": e.name,
		"identifier": e.identifier,
		"livemode":   live,
		"payload":    maps.Clone(e.payload),
		"timestamp":  e.timestamp,
	})
	a.executed = true
	return a
}

// pairKey is what Stripe allows one call at a time for.
type pairKey struct {
	live      bool
	eventName string
	customer  string
}

// inFlight counts the executing calls of each customer and meter; a pair at rest
// takes no memory.
type inFlight struct {
	mu    sync.Mutex
	calls map[pairKey]int
}

func newInFlight() *inFlight { return &inFlight{calls: make(map[pairKey]int)} }

func (f *inFlight) enter(pair pairKey) (others int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	others = f.calls[pair]
	f.calls[pair] = others + 1
	return others
}

func (f *inFlight) leave(pair pairKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[pair]--; f.calls[pair] == 0 {
		delete(f.calls, pair)
	}
}
