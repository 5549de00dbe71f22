package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// memory is how long Stripe remembers an identifier, to the nanosecond.
const memory = 24 * time.Hour

// content is what one request asks to be counted. Its identity, which is what Stripe and
// the worker tell events apart by, is all but value and timestamp.
type content struct {
	name, customer, identifier string
	value                      string
	timestamp                  int64
}

func (c content) identity() string { return c.name + "|" + c.customer + "|" + c.identifier }
func (c content) lane() string     { return c.name + "|" + c.customer }

// receipt is an event that Stripe has counted.
type receipt struct {
	content
	at       time.Time
	sequence uint64
}

// request is what arrives at Stripe.
type request struct {
	content
	idempotency string
	bearer      string
	life        *life
}

// reply is a row, in the words of one request.
type reply struct {
	row
	request  request
	replayed bool
	number   int
	stream   bool // the answer names no event
}

// stripe counts events. Guarded by w.mu.
type stripe struct {
	w        *world
	key      string
	valid    map[string]bool
	keys     int
	counted  map[string][]receipt // by identity
	asked    map[string]uint64    // requests by identity
	stored   map[string]kept      // by Idempotency-Key
	busy     map[string]int       // requests under way by lane
	arrivals []time.Time          // of the last second
	tokens   float64
	refilled time.Time
	requests int
	sessions map[string]opened // by token
	downTill time.Time
	downAs   row
	outages  int
}

type kept struct {
	row
	at time.Time
}

// burst is the size of the strict token bucket.
const burst = 20

func newStripe(w *world) *stripe {
	s := &stripe{
		w: w, valid: map[string]bool{}, counted: map[string][]receipt{}, asked: map[string]uint64{},
		stored: map[string]kept{}, busy: map[string]int{}, sessions: map[string]opened{}, tokens: burst, refilled: time.Now(),
	}
	s.rotate()
	return s
}

// rotate makes another key the present one; the old one stays valid until it is revoked.
func (s *stripe) rotate() {
	s.keys++
	s.key = "sk_live_" + strconv.Itoa(s.keys)
	s.valid[s.key] = true
}

// revoke makes every key but the present one invalid.
func (s *stripe) revoke() {
	for k := range s.valid {
		s.valid[k] = k == s.key
	}
}

// course is how a request will go, but for what depends on what was counted.
type course struct {
	row
	took     time.Duration
	executed bool // else it is turned away at the door
	replayed bool // the stored answer is given again
}

// serve takes a request, works on it and returns the answer.
func (s *stripe) serve(r request) reply {
	var c course
	s.w.lock(func() { c = s.begin(r) })
	pass(c.took)
	var out reply
	s.w.lock(func() { out = s.finish(r, c) })
	return out
}

// begin decides how the request will go.
func (s *stripe) begin(r request) course {
	s.requests++
	s.asked[r.identity()]++
	nth := s.asked[r.identity()]
	draw := s.w.dice.draw("answer", hashOf(r.identity()), nth)
	c := course{took: between(draw, 10*time.Millisecond, 250*time.Millisecond)}
	s.arrive()
	kept, known := s.stored[r.idempotency]
	down := time.Now().Before(s.downTill)
	switch {
	case !s.valid[r.bearer]:
		c.row = rowKey
	case down && s.downAs.end == answered && !s.downAs.counts:
		c.row = s.downAs
	case !s.token():
		c.row = rowLimit
	case known && time.Since(kept.at) < memory:
		c.row, c.replayed = kept.row, true
	case s.busy[r.lane()] > 0:
		c.row = rowBusy
	default:
		c.executed = true
		s.busy[r.lane()]++
		c.row = s.draw(r, nth)
		if c.end == tooSlow {
			c.took = between(draw, attemptTimeout+time.Second, time.Minute)
		}
	}
	return c
}

// draw is the answer to a request that is executed.
func (s *stripe) draw(r request, nth uint64) row {
	if time.Now().Before(s.downTill) {
		return s.downAs
	}
	for _, candidate := range rows {
		if s.w.meets(kind(candidate.name), 3, hashOf(r.identity()), nth) {
			return candidate
		}
	}
	return rowAccepted
}

// finish executes the request and words the answer.
func (s *stripe) finish(r request, c course) reply {
	out := reply{row: c.row, request: r, replayed: c.replayed, number: s.requests}
	if c.executed {
		s.busy[r.lane()]--
		out.row = s.execute(r, c.row)
	}
	name := out.name
	if c.replayed {
		name += ", stored"
		s.w.seen.note("Stripe: stored answer replayed")
	}
	s.w.seen.note("Stripe: " + out.name)
	s.w.note(r.life.number, "Stripe answers "+name, sequenceOf(r.idempotency), r.identifier)
	return out
}

// execute counts the event where that is its course, and keeps the answer.
func (s *stripe) execute(r request, answer row) row {
	verdict, result := answer, answer
	if answer == rowAccepted || answer.counts {
		result = s.count(r)
	}
	if answer == rowAccepted {
		verdict = result
	}
	if verdict.stored {
		stored := verdict
		if stored.end != answered { // what it would have said
			stored = result
		}
		s.stored[r.idempotency] = kept{stored, time.Now()}
	}
	return verdict
}

// count takes the event into the books, unless it is refused.
func (s *stripe) count(r request) row {
	age := time.Since(time.Unix(r.timestamp, 0))
	if age > usage.MaxAge || age < -usage.MaxAhead {
		return rowDate
	}
	id := r.identity()
	receipts := s.counted[id]
	if n := len(receipts); n > 0 && time.Since(receipts[n-1].at) < memory {
		return rowDuplicate
	}
	s.counted[id] = append(receipts, receipt{r.content, time.Now(), sequenceOf(r.idempotency)})
	if len(receipts) > 0 {
		s.w.books.again(id)
	}
	return rowAccepted
}

// arrive notes the request's time: no second may see more requests than the limit and a
// burst.
func (s *stripe) arrive() {
	now := time.Now()
	s.arrivals = slices.DeleteFunc(s.arrivals, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	s.arrivals = append(s.arrivals, now)
	if len(s.arrivals) > perSecond+burst {
		s.w.violate("I6", "%d requests in one second", len(s.arrivals))
	}
}

// token takes one out of the strict bucket.
func (s *stripe) token() bool {
	now := time.Now()
	s.tokens = min(burst, s.tokens+now.Sub(s.refilled).Seconds()*perSecond)
	s.refilled = now
	if s.tokens < 1 {
		s.w.seen.note("Stripe: bucket empty")
		return false
	}
	s.tokens--
	return true
}

// body is the answer's body, as Stripe or something in between would write it.
func (r reply) body() string {
	identifier, live := r.request.identifier, true
	switch {
	case r.empty:
		return ""
	case r.html:
		return "<html><body>Bad gateway</body></html>"
	case r.stream && r.status == 200:
		return fmt.Sprintf(`{"livemode":%t}`, r.odd == "")
	case r.status == 200:
		if r.odd == "identifier" {
			identifier = "another"
		}
		if r.odd == "livemode" {
			live = false
		}
		return fmt.Sprintf(`{"object":"billing.meter_event","identifier":%q,"livemode":%t}`, identifier, live)
	case r.class == rowDuplicate.class:
		return fmt.Sprintf(`{"error":{"type":"invalid_request_error","message":"An event already exists with identifier %s."}}`, identifier)
	default:
		return fmt.Sprintf(`{"error":{"type":"api_error","code":%q,"message":"no"}}`, r.code)
	}
}
