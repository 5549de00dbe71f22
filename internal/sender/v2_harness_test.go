package sender

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

const liveKey = "sk_live_51abcDEFghiJKL0123456789"

// batch is a request as the stream received it.
type batch struct {
	at          time.Time
	token, key  string
	identifiers []string
	announced   int64
}

// said is an answer: a status and a body, or none where cut.
type said struct {
	status int
	body   string
	header string // lines, each with its end
	cut    bool
}

var ok = said{status: 200, body: "{}"}

// stripeV2 is a stream in memory. It is used in bubbles.
type stripeV2 struct {
	latency time.Duration
	life    time.Duration               // of a session; 0 is 15 min
	answer  func(batch) said            // nil accepts everything
	session func(nth int) said          // nil opens one
	permit  func(context.Context) error // nil grants at once
	atMost  int                         // permits at once; 0: as many as are wanted

	serving sync.WaitGroup
	mu      sync.Mutex
	key     string
	batches []batch
	opened  []string // keys of the sessions
	taken   int      // permits
	made    map[delivery.Class]int
}

// open starts a sender; close ends it.
func (s *stripeV2) open(t *testing.T) *V2 {
	t.Helper()
	s.key, s.made = liveKey, map[delivery.Class]int{}
	v, err := NewV2(V2Config{
		Config: Config{
			BaseURL: "http://127.0.0.1:1", Timeout: time.Minute, Dial: s.dial, Live: func() bool { return true },
			Key: func() string {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.key
			},
		},
		StreamURL: "http://127.0.0.1:2", Permits: s,
		Made: func(class delivery.Class, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.made[class]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *stripeV2) close(v *V2) {
	v.Close()
	s.serving.Wait()
}

// TakeUpTo implements Permits.
func (s *stripeV2) TakeUpTo(ctx context.Context, n int) (Permit, error) {
	if s.permit != nil {
		if err := s.permit(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.atMost > 0 {
		n = min(n, s.atMost)
	}
	s.taken += n
	return fakePermit(n), ctx.Err()
}

type fakePermit int

func (fakePermit) Spend(ctx context.Context) error { return ctx.Err() }
func (fakePermit) Done()                           {}
func (p fakePermit) Count() int                    { return int(p) }

func (s *stripeV2) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	s.serving.Go(func() {
		defer func() { _ = far.Close() }()
		reader := bufio.NewReader(far)
		for {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			reply := s.serve(r, body)
			if reply.cut {
				return
			}
			_, _ = fmt.Fprintf(far, "HTTP/1.1 %d X\r\nRequest-Id: req_1\r\n%sContent-Length: %d\r\n\r\n%s", reply.status, reply.header, len(reply.body), reply.body)
		}
	})
	return near, nil
}

func (s *stripeV2) serve(r *http.Request, body []byte) said {
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path == sessionPath {
		return s.newSession(bearer)
	}
	var sent struct {
		Events []struct {
			Identifier string            `json:"identifier"`
			EventName  string            `json:"event_name"`
			Timestamp  time.Time         `json:"timestamp"`
			Payload    map[string]string `json:"payload"`
		} `json:"events"`
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return said{status: 400, body: errorBody("not_json", err.Error(), "")}
	}
	b := batch{at: time.Now(), token: bearer, key: r.Header.Get("Idempotency-Key"), announced: r.ContentLength}
	for _, e := range sent.Events {
		b.identifiers = append(b.identifiers, e.Identifier)
	}
	s.mu.Lock()
	s.batches = append(s.batches, b)
	s.mu.Unlock()
	wait(s.latency)
	if s.answer == nil {
		return ok
	}
	return s.answer(b)
}

func (s *stripeV2) newSession(key string) said {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, key)
	if s.session != nil {
		if reply := s.session(len(s.opened)); reply.status != 0 {
			return reply
		}
	}
	life := s.life
	if life == 0 {
		life = sessionLife
	}
	return said{status: 200, body: fmt.Sprintf(`{"authentication_token":"token-%d","created":%q,"expires_at":%q,"livemode":true}`,
		len(s.opened), time.Now().Format(time.RFC3339Nano), time.Now().Add(life).Format(time.RFC3339Nano))}
}

func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func (s *stripeV2) sizes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sizes []int
	for _, b := range s.batches {
		sizes = append(sizes, len(b.identifiers))
	}
	return sizes
}

func attemptOf(t *testing.T, identifier string) delivery.Attempt {
	t.Helper()
	return delivery.Attempt{
		Event:          testEvent(t, func(p *usage.Params) { p.Identifier = identifier }),
		IdempotencyKey: "key-" + identifier, Ready: func(context.Context) error { return nil },
	}
}

// sendAll makes attempts beside each other and returns the answers by identifier.
func sendAll(t *testing.T, v *V2, attempts []delivery.Attempt) map[string]delivery.Answer {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]delivery.Answer{}
	for _, a := range attempts {
		all.Go(func() {
			answer := v.Send(context.Background(), a)
			mu.Lock()
			defer mu.Unlock()
			answers[a.Event.Identifier()] = answer
		})
	}
	all.Wait()
	return answers
}

func attempts(t *testing.T, n int) []delivery.Attempt {
	t.Helper()
	list := make([]delivery.Attempt, n)
	for i := range list {
		list[i] = attemptOf(t, fmt.Sprintf("e%03d", i))
	}
	return list
}

// together carries attempts as one batch.
func together(t *testing.T, v *V2, list []delivery.Attempt) map[string]delivery.Answer {
	t.Helper()
	members := make([]*member, len(list))
	for i, a := range list {
		if a.Stop == nil {
			a.Stop = context.Background()
		}
		members[i] = &member{attempt: a, cut: context.Background(), answered: make(chan delivery.Answer, 1), place: taken}
	}
	v.carry(members, nil)
	answers := map[string]delivery.Answer{}
	for _, m := range members {
		answers[m.attempt.Event.Identifier()] = m.answer()
	}
	return answers
}
