package chaos

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// stripe is the simulator, with an address for each worker, so that it is known who
// calls.
type stripe struct {
	*simulator.Simulator

	mu       sync.Mutex
	lives    []int             // by worker: how many lives it has had
	calls    map[string][]call // under way, by event name and customer
	overlaps []overlap
}

// call is one request under way, of one life of one worker.
type call struct {
	worker, life int
	request      *http.Request
}

// overlap is two calls at once for one customer and meter. Of two lives, or two
// workers, it is what a take-over may bring; of one and the same it breaks I7.
type overlap struct {
	SameLife bool      `json:"same_life"`
	At       time.Time `json:"at"`
}

func newStripe(cfg simulator.Config, workers int) *stripe {
	return &stripe{Simulator: simulator.New(cfg), lives: make([]int, workers), calls: map[string][]call{}}
}

// serve opens the address of one worker; it is host and port.
func (s *stripe) serve(t testing.TB, worker int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, worker)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// reborn notes that a worker has been killed: what its former life left under way is not
// its own any more.
func (s *stripe) reborn(worker int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives[worker]++
}

func (s *stripe) answer(w http.ResponseWriter, r *http.Request, worker int) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off before it had arrived: no call
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if form, err := url.ParseQuery(string(body)); err == nil && form.Has("event_name") {
		key := form.Get("event_name") + "\x00" + form.Get("payload[stripe_customer_id]")
		defer s.leave(key, s.enter(key, worker, r))
	}
	s.ServeHTTP(today{w}, r)
}

// today dates answers by the true time: when a test lets Stripe forget, by turning its
// clock, the workers must not take theirs for wrong.
type today struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController reach the connection.
func (w today) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w today) WriteHeader(status int) {
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.ResponseWriter.WriteHeader(status)
}

func (s *stripe) enter(key string, worker int, r *http.Request) call {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := call{worker, s.lives[worker], r}
	for _, other := range s.calls[key] {
		if other.request.Context().Err() != nil {
			continue // its caller has gone: it is not in flight any more
		}
		same := other.worker == mine.worker && other.life == mine.life
		s.overlaps = append(s.overlaps, overlap{same, time.Now()})
	}
	s.calls[key] = append(s.calls[key], mine)
	return mine
}

func (s *stripe) leave(key string, mine call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.calls[key][:0]
	for _, c := range s.calls[key] {
		if c.request != mine.request {
			left = append(left, c)
		}
	}
	if s.calls[key] = left; len(left) == 0 {
		delete(s.calls, key)
	}
}
