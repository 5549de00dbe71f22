package cluster

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// stripe is `meterworker simulate` as a process, with an address in front of it for each
// worker, so that it is known who calls, and when an event was accepted.
type stripe struct {
	*process

	url string

	mu       sync.Mutex
	lives    []int             // by worker: how many lives it has had
	calls    map[string][]call // under way, by event name and customer
	taken    takenOver
	accepted map[string]time.Time // by identifier: when the first answer came through
	requests int
}

// call is one request under way, of one life of one worker.
type call struct {
	worker, life int
	request      *http.Request
}

// takenOver counts two calls at once for one customer and meter: of two workers or lives
// it is what a take-over may bring, of one and the same never.
type takenOver struct{ OfTwo, OfOne int }

func startStripe(t testing.TB, workers, rate int) *stripe {
	t.Helper()
	s := &stripe{lives: make([]int, workers), calls: map[string][]call{}, accepted: map[string]time.Time{}}
	log := &record{}
	s.process = launch(t, "simulate", log, nil, built(t, meterworker), "simulate", "--addr", "127.0.0.1:0",
		"--rate", strconv.Itoa(rate), "--burst", "40", "--latency", "5ms", "-o", "json")
	until(t, "the simulator", func() bool {
		_, rest, ok := strings.Cut(log.String(), "listening on ")
		s.url, _, _ = strings.Cut(rest, "\n")
		return ok && strings.Contains(rest, "\n")
	})
	return s
}

// serve opens the address of one worker.
func (s *stripe) serve(t testing.TB, worker int) string {
	t.Helper()
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // its caller has gone
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.pass(w, r, worker, forward)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (s *stripe) pass(w http.ResponseWriter, r *http.Request, worker int, forward http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off before it had arrived: no call
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil || !form.Has("event_name") {
		forward.ServeHTTP(w, r)
		return
	}
	key := form.Get("event_name") + "\x00" + form.Get("payload[stripe_customer_id]")
	defer s.leave(key, s.enter(key, worker, r))
	answer := &watched{ResponseWriter: w}
	forward.ServeHTTP(answer, r)
	if answer.status == http.StatusOK || answer.status == http.StatusBadRequest { // a duplicate, of a call that was cut
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, before := s.accepted[form.Get("identifier")]; !before {
			s.accepted[form.Get("identifier")] = time.Now()
		}
	}
}

// watched remembers the status of an answer.
type watched struct {
	http.ResponseWriter

	status int
}

// Unwrap lets http.ResponseController reach the connection.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *watched) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (s *stripe) enter(key string, worker int, r *http.Request) call {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	mine := call{worker, s.lives[worker], r}
	for _, other := range s.calls[key] {
		switch {
		case other.request.Context().Err() != nil: // its caller has gone: it is not in flight any more
		case other.worker == mine.worker && other.life == mine.life:
			s.taken.OfOne++
		default:
			s.taken.OfTwo++
		}
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

// reborn notes that a worker has been killed.
func (s *stripe) reborn(worker int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives[worker]++
}

// sent is how many requests with an event have come.
func (s *stripe) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *stripe) overlaps() takenOver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// acceptedAt is when the event was accepted first.
func (s *stripe) acceptedAt(identifier string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.accepted[identifier]
	return at, ok
}

// books are the simulator's.
func (s *stripe) books(t testing.TB) simulator.Books {
	t.Helper()
	var books simulator.Books
	status, body := get(s.url + "/_simulator/books")
	if err := json.Unmarshal([]byte(body), &books); err != nil || status != http.StatusOK {
		t.Fatalf("the simulator's books: status %d, %v", status, err)
	}
	return books
}
