// Command sink is the least of a Stripe that a sender can be measured against: it takes
// every meter event, answers after the given latency that it was accepted, and keeps when
// each arrived first. It checks nothing; for that there is the simulator.
//
// It prints its address and serves until it is ended. GET /count tells how many
// requests came, and over how many connections; GET /arrivals when each identifier did,
// in nanoseconds of Unix time.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
)

func main() {
	latency := flag.Duration("latency", 0, "from the request to the answer")
	flag.Parse()
	if err := serve(*latency); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

type sink struct {
	latency time.Duration
	counts  struct{ requests, connections atomic.Int64 }

	mu       sync.Mutex
	arrivals map[string]int64
}

func serve(latency time.Duration) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &sink{latency: latency, arrivals: map[string]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/billing/meter_events", s.event)
	mux.HandleFunc("GET /count", s.count)
	mux.HandleFunc("GET /arrivals", s.list)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ConnState: s.connection}
	_, _ = fmt.Fprintf(os.Stdout, "listening on http://%s\n", listener.Addr())
	return server.Serve(listener)
}

func (s *sink) connection(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.counts.connections.Add(1)
	}
}

func (s *sink) event(w http.ResponseWriter, r *http.Request) {
	at := time.Now().UnixNano()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender went away
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(w, "no form", http.StatusBadRequest)
		return
	}
	identifier := form.Get("identifier")
	s.mu.Lock()
	if _, twice := s.arrivals[identifier]; !twice {
		s.arrivals[identifier] = at
	}
	s.mu.Unlock()
	n := s.counts.requests.Add(1)
	if s.latency > 0 {
		stage.Pause(r.Context(), s.latency)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_"+strconv.FormatInt(n, 10))
	_, _ = fmt.Fprintf(w, `{"object":"billing.meter_event","created":%d,"event_name":%q,"identifier":%q,"livemode":false,"timestamp":%s,"payload":{"stripe_customer_id":%q,"value":%q}}`,
		at/int64(time.Second), form.Get("event_name"), identifier, form.Get("timestamp"),
		form.Get("payload[stripe_customer_id]"), form.Get("payload[value]"))
}

func (s *sink) count(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(stage.Count{ // the asker sees where it is cut
		Requests: int(s.counts.requests.Load()), Connections: int(s.counts.connections.Load()),
	})
}

func (s *sink) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(s.arrivals)
}
