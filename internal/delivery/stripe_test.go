package delivery

import (
	"context"
	"slices"
	"sync"
	"time"
)

// reply is one answer of the scripted Stripe.
type reply struct {
	Answer
	counts  bool                  // the event is counted, whatever the answer
	dial    func(context.Context) // runs before Ready
	working func(context.Context) // runs between the request and its answer
	panics  string                // where the sender panics: "before" or "after" the request
}

// request is one that was made.
type request struct {
	identifier, key, value string
	timestamp              int64
	at                     time.Time
}

// stripe counts events, and forgets identifiers after a day.
type stripe struct {
	w *world

	mu       sync.Mutex
	script   map[string][]reply // by identifier; after its end, or without: an honest 200
	rule     func(Attempt) *reply
	requests []request
	counted  map[string][]time.Time
	busy     map[string]int
	overlap  int // most requests at once for one customer
	called   int
}

func (s *stripe) of(l *life) Sender { return line{s, l} }

// line is Stripe as one life reaches it.
type line struct {
	s *stripe
	l *life
}

func (c line) Send(ctx context.Context, a Attempt) Answer {
	r := c.s.next(a)
	if r.dial != nil {
		r.dial(ctx)
	}
	if r.panics == "before" {
		panic("sender")
	}
	if r.Class == NotSent || ctx.Err() != nil || a.Ready(ctx) != nil {
		return Answer{Class: NotSent, Detail: "not sent"}
	}
	sent := false
	fault := c.l.do("send", func() { sent = true; r = c.s.receive(a, r) })
	if sent {
		defer c.s.finish(a)
	}
	if fault != nil {
		return Answer{Class: NoAnswer}
	}
	a.Written()
	if r.panics == "after" {
		panic("sender")
	}
	if r.working != nil {
		r.working(ctx)
	}
	if ctx.Err() != nil {
		return Answer{Class: NoAnswer, Detail: "cut"}
	}
	return r.Answer
}

func (s *stripe) next(a Attempt) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.called++
	if s.rule != nil {
		if r := s.rule(a); r != nil {
			return *r
		}
	}
	id := a.Event.Identifier()
	if script := s.script[id]; len(script) > 0 {
		s.script[id] = script[1:]
		return script[0]
	}
	return reply{}
}

// receive is the moment at which Stripe has the request.
func (s *stripe) receive(a Attempt, r reply) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := a.Event.Identifier()
	s.requests = append(s.requests, request{id, a.IdempotencyKey, a.Event.Value(), a.Event.Timestamp(), time.Now()})
	if s.busy == nil {
		s.busy = map[string]int{}
	}
	s.busy[a.Event.Customer()]++
	s.overlap = max(s.overlap, s.busy[a.Event.Customer()])
	known := slices.ContainsFunc(s.counted[id], func(at time.Time) bool { return time.Since(at) < 24*time.Hour })
	honest := r.Class == 0
	switch {
	case honest && known:
		r.Answer = duplicateAnswer
	case honest:
		r.Answer, r.counts = okAnswer, true
	}
	if r.counts && !known {
		s.counted[id] = append(s.counted[id], time.Now())
	}
	return r
}

func (s *stripe) finish(a Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[a.Event.Customer()]--
}

// change changes what a rule depends on.
func (s *stripe) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// made returns the requests for an identifier; "" for all.
func (s *stripe) made(identifier string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r request) bool { return identifier != "" && r.identifier != identifier })
}

var (
	okAnswer        = Answer{Class: Accepted, Status: 200, RequestID: "req_ok"}
	duplicateAnswer = Answer{Class: Duplicate, Status: 400, Detail: "An event already exists with identifier", RequestID: "req_dup", ShouldRetry: RetryNo}
	failed          = reply{Answer: Answer{Class: ServerFault, Status: 500, RequestID: "req_500", Detail: "oops"}}
	silent          = reply{Answer: Answer{Class: NoAnswer, Detail: "reset"}}
	limited         = reply{Answer: Answer{Class: Throttled, Status: 429}}
	contended       = reply{Answer: Answer{Class: Contended, Status: 409}}
	unauthorized    = reply{Answer: Answer{Class: SetupFault, Status: 401, Code: "invalid_api_key", Detail: "Invalid API Key"}}
	refusedForGood  = reply{Answer: Answer{Class: Refused, Status: 400, Code: "parameter_invalid", Detail: "no", RequestID: "req_400"}}
	foreign         = reply{Answer: Answer{Class: ForeignReply, Status: 200, Detail: "other mode"}}
	strange         = reply{Answer: Answer{Class: Unexpected, Status: 200, Detail: "HTML"}}
	unsent          = reply{Answer: Answer{Class: NotSent}}
	counted         = func(r reply) reply { r.counts = true; return r }
)
