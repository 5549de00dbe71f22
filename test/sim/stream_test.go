package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
)

const (
	// streamRate is the account's limit in events a second: a life's third of it lets five
	// events share a request.
	streamRate = 3000

	// streamBurst is what a strict server has beyond it: 2 %.
	streamBurst = 60

	sessionLife = 15 * time.Minute
)

// streamSchedules is one schedule of API v2 for so many of v1.
const streamSchedules = 8

// TestStreamSchedules plays schedules over API v2: the same worlds, promises and faults
// as over v1, but for what the two differ in. An identifier is alone in flight, not a
// customer; what Stripe refuses, it refuses of a whole batch; duplicates are dropped in silence.
func TestStreamSchedules(t *testing.T) {
	last, together := *first+uint64(*seeds/streamSchedules), 0
	if *seed != 0 {
		*first, last = *seed, *seed
	}
	for n := *first; n <= last; n++ {
		w := playOn(t, n, true)
		together += w.seen["stream: several events in a request"]
		for _, v := range w.violations {
			t.Fatalf("seed %d over API v2 violates %s at %v: %s\nfaults: %s\n%s\nagain with: go test ./test/sim -run '^TestStreamSchedules$' -v -seed %d",
				n, v.rule, v.at.Sub(w.began), v.detail, strings.Join(w.faults(), ", "), w.story(), n)
		}
	}
	if together == 0 {
		t.Error("no events have shared a request")
	}
}

// overStream has the life use API v2: the real sender over connections in memory.
func (l *life) overStream(cfg *delivery.Config, parts *delivery.Parts) {
	v2, err := sender.NewV2(sender.V2Config{
		Config: sender.Config{
			BaseURL: "http://" + stripeAddress, Timeout: attemptTimeout, MaxConns: 32, Dial: l.dialBeside,
			Live: func() bool { return true },
			Key: func() (key string) {
				l.w.lock(func() { key = l.key })
				return key
			},
		},
		StreamURL: "http://" + stripeAddress, Permits: streamPermits{l},
	})
	if err != nil {
		panic(err) // the configuration above is wrong
	}
	l.v2 = v2
	cfg.Shared, cfg.Ahead = true, 16
	parts.Sender, parts.Lanes = tap{l, v2}, &l.beside
	parts.Permits = streamQueue{sender.NewQueue(16, l.bucket.Throttled), l}
}

// dialBeside is dial; the world does not end while it is under way, since Go's transport
// goes on dialling when the request that asked for it is over.
func (l *life) dialBeside(ctx context.Context, network, address string) (net.Conn, error) {
	l.w.beside.Add(1)
	defer l.w.beside.Done()
	return l.dial(ctx, network, address)
}

// streamPermits are the life's bucket as the sender has it.
type streamPermits struct{ l *life }

// TakeUpTo implements sender.Permits.
func (p streamPermits) TakeUpTo(ctx context.Context, n int) (sender.Permit, error) {
	taken, err := p.l.bucket.TakeUpTo(ctx, n)
	if err != nil {
		return nil, err
	}
	p.l.point("has permits", 0)
	return streamPermit{taken, p.l}, nil
}

type streamPermit struct {
	*ratelimit.Permit
	l *life
}

// Spend implements sender.Permit.
func (p streamPermit) Spend(ctx context.Context) error {
	return permit(p).Spend(ctx) // says itself what it is
}

// streamQueue is what delivery has for permits.
type streamQueue struct {
	*sender.Queue
	l *life
}

// Take implements delivery.Permits.
func (q streamQueue) Take(ctx context.Context) (delivery.Permit, error) {
	taken, err := q.Queue.Take(ctx)
	if err != nil {
		return nil, err
	}
	return queued{taken}, nil
}

// queued is asked for each event of a request that has spent its permits.
type queued struct{ delivery.Permit }

// Spend implements delivery.Permit.
func (p queued) Spend(ctx context.Context) error {
	if spent, ok := ctx.Value(spending{}).(*bool); ok {
		*spent = true
	}
	return p.Permit.Spend(ctx)
}

// opened is a session.
type opened struct {
	key   string
	until time.Time
}

var rowExpired = row{name: "401 session expired", class: delivery.NotSent, status: 401, code: "billing_meter_event_session_expired"}

// stream serves a request of API v2; it reports whether the connection goes on.
func (s *stripe) stream(r *http.Request, l *life, conn net.Conn) bool {
	var sent struct {
		Events []struct {
			EventName  string            `json:"event_name"`
			Identifier string            `json:"identifier"`
			Payload    map[string]string `json:"payload"`
			Timestamp  time.Time         `json:"timestamp"`
		} `json:"events"`
	}
	if json.NewDecoder(r.Body).Decode(&sent) != nil {
		return false
	}
	lost := false
	s.w.lock(func() { lost = l.noStripe.After(time.Now()) })
	if lost {
		pass(2 * attemptTimeout)
		return false
	}
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if strings.HasSuffix(r.URL.Path, "meter_event_session") {
		return s.session(bearer, conn)
	}
	var batch []request
	for _, e := range sent.Events {
		batch = append(batch, request{life: l, bearer: bearer, content: content{
			name: e.EventName, identifier: e.Identifier, timestamp: e.Timestamp.Unix(),
			customer: e.Payload["stripe_customer_id"], value: e.Payload["value"],
		}})
	}
	return s.batch(batch).write(conn)
}

// session opens one for a key that is valid.
func (s *stripe) session(key string, conn net.Conn) bool {
	pass(20 * time.Millisecond)
	status, body := http.StatusUnauthorized, `{"error":{"code":"api_key_invalid","message":"no"}}`
	s.w.lock(func() {
		s.requests++
		if s.valid[key] {
			token := "token_" + strconv.Itoa(s.requests)
			s.sessions[token] = opened{key, time.Now().Add(sessionLife)}
			status, body = http.StatusOK, fmt.Sprintf(`{"authentication_token":%q,"created":%q,"expires_at":%q,"livemode":true}`,
				token, time.Now().Format(time.RFC3339Nano), time.Now().Add(sessionLife).Format(time.RFC3339Nano))
		}
	})
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %d Answer\r\nRequest-Id: req_session\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	return err == nil
}

// batch takes the events, works on them and answers.
func (s *stripe) batch(events []request) reply {
	var c course
	s.w.lock(func() { c = s.beginBatch(events) })
	pass(c.took)
	out := reply{row: c.row, request: events[0], stream: true}
	s.w.lock(func() {
		out.number = s.requests
		if c.executed && (c.row == rowAccepted || c.counts) {
			for _, e := range events {
				s.countStreamed(e)
			}
		}
		s.w.seen.note("stream: " + c.name)
		s.w.note(events[0].life.number, fmt.Sprintf("Stripe answers %s to %d events", c.name, len(events)), 0, events[0].identifier)
	})
	return out
}

// beginBatch decides how the request will go, by its first event.
func (s *stripe) beginBatch(events []request) course {
	s.requests++
	r := events[0]
	s.asked[r.identity()]++
	nth := s.asked[r.identity()]
	draw := s.w.dice.draw("answer", hashOf(r.identity()), nth)
	c := course{took: between(draw, 10*time.Millisecond, 250*time.Millisecond)}
	if len(events) > 1 {
		s.w.seen.note("stream: several events in a request")
	}
	session := s.sessions[r.bearer]
	down := time.Now().Before(s.downTill)
	switch {
	case !time.Now().Before(session.until):
		c.row = rowExpired
	case !s.valid[session.key]:
		c.row = rowKey
	case down && s.downAs.end == answered && !s.downAs.counts:
		c.row = s.downAs
	case !s.streamTokens(len(events)):
		c.row = rowLimit
	default:
		c.executed = true
		if c.row = s.draw(r, nth); c.end == tooSlow {
			c.took = between(draw, attemptTimeout+time.Second, time.Minute)
		}
	}
	return c
}

// streamTokens takes as many as there are events out of the strict bucket.
func (s *stripe) streamTokens(n int) bool {
	now := time.Now()
	s.tokens = min(streamBurst, s.tokens+now.Sub(s.refilled).Seconds()*streamRate)
	s.refilled = now
	if s.tokens < float64(n) {
		s.w.seen.note("stream: bucket empty")
		return false
	}
	s.tokens -= float64(n)
	return true
}

// countStreamed takes the event into the books, unless its identifier is known: then it is
// dropped in silence.
func (s *stripe) countStreamed(r request) {
	receipts := s.counted[r.identity()]
	if n := len(receipts); n > 0 && time.Since(receipts[n-1].at) < memory {
		s.w.seen.note("stream: duplicate dropped")
		return
	}
	s.counted[r.identity()] = append(receipts, receipt{content: r.content, at: time.Now()})
	if len(receipts) > 0 {
		s.w.books.again(r.identity())
	}
}
