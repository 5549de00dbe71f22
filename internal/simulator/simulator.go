// Package simulator is a Stripe that is stricter than Stripe: an HTTP server
// for meter events (v1 and v2), meters and summaries that enforces every rule of
// the contract at its harshest reading, plays faults on demand, and keeps the
// books of what it counted. Demo, tests, benchmarks and users judge a sender by
// these books: [Books.Check] names each lost, doubled and unexpected identifier.
//
// Invariants:
//   - An identifier is counted at most once inside [Config.Memory] and its scope;
//     at exactly Memory it is forgotten, and counting it again is a double bill
//     that the books show.
//   - A request is entered into the books and tallies before its answer is
//     written, so that whoever has read an answer finds it in the books.
//   - Execution is not cancelled by the client: who gave up waiting may still
//     have been counted, as at Stripe.
//   - Memory is bounded, except the books themselves (about 150 bytes and the
//     identifier for each event counted).
//
// One request passes: arrival, rate, edge faults (the network), credentials,
// version, route, form, idempotency key, lock of customer and meter, executing
// faults, counting, answer.
//
// The package imports nothing of this module and speaks net/http only.
package simulator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	keyMemory     = 24 * time.Hour // Idempotency-Keys: "at least 24 h" in Stripe's documents
	maxBody       = 1 << 20        // bytes of a request that are read; 100 v2 events fit many times
	pathEvents    = "/v1/billing/meter_events"
	pathStream    = "/v2/billing/meter_event_stream"
	pathSession   = "/v2/billing/meter_event_session"
	pathMeters    = "/v1/billing/meters"
	pathCoreEvent = "/v2/core/events/"
)

// Simulator is the server. It is safe for concurrent use; create it with [New].
type Simulator struct {
	cfg      Config
	offset   atomic.Int64 // nanoseconds that Advance added
	serial   atomic.Uint64
	jitter   jitter
	keys     keyring
	requests *bucket
	stream   *bucket
	arrivals arrivals
	tallies  *tallies
	faults   *faultScript
	idem     *idempotency
	inFlight *inFlight
	ledger   *ledger
	late     *lateness
	meters   *meterList
	rejected *rejections
	sessions *sessions
	log      *requestLog
	admin    http.Handler
}

// New makes a simulator; its clock runs at once. It starts no goroutine and
// needs no closing.
func New(cfg Config) *Simulator {
	cfg = cfg.withDefaults()
	s := &Simulator{
		cfg:      cfg,
		jitter:   jitter{random: newRandom(cfg.Seed, 0)},
		requests: newBucket(cfg.Rate, cfg.Burst),
		stream:   newBucket(cfg.StreamRate, cfg.StreamBurst),
		tallies:  newTallies(),
		faults:   newFaultScript(cfg.Seed),
		idem:     newIdempotency(),
		inFlight: newInFlight(),
		ledger:   newLedger(cfg.Scope, cfg.Memory),
		late:     &lateness{delay: cfg.SummaryDelay},
		meters:   newMeterList(cfg.Meters),
		rejected: newRejections(cfg.ReportWindow),
		sessions: newSessions(),
		log:      &requestLog{},
	}
	s.keys.set(cfg.Keys)
	s.admin = s.Admin()
	return s
}

// Now is the simulator's clock: the configured one and what Advance added.
func (s *Simulator) Now() time.Time {
	return s.cfg.Now().Add(time.Duration(s.offset.Load()))
}

// Advance turns the clock forward by d: identifiers, idempotency keys and
// sessions age, the buckets fill. Stripe's clock never runs back: d below zero
// is ignored.
func (s *Simulator) Advance(d time.Duration) {
	if d > 0 {
		s.offset.Add(int64(d))
	}
}

// SetKeys replaces the accepted secret keys; none accepts every well-formed test
// key again. Keys revoked before are accepted again if they are listed.
func (s *Simulator) SetKeys(keys ...string) { s.keys.set(keys) }

// RevokeKey refuses the key from now on, with 401 api_key_expired.
func (s *Simulator) RevokeKey(key string) { s.keys.revoke(key) }

// call is one request on its way through the simulator.
type call struct {
	id       string
	at       time.Time
	request  *http.Request
	body     []byte
	tooLarge bool
	live     bool
	form     formEvent
	batch    eventBatch
	subjects []Event // what faults match on; as far as the body could be read
	entry    Request
}

// ServeHTTP answers as Stripe would, and the control API below /_simulator/.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		s.admin.ServeHTTP(w, r)
		return
	}
	c := s.receive(w, r)
	if c.request.URL.Path != pathStream && !s.requests.take(1, s.Now()) {
		s.write(w, c, rateLimited("global-rate"))
		return
	}
	if err := s.read(w, c); err != nil {
		s.close(c, answer{})
		panic(http.ErrAbortHandler)
	}
	fault, faulty := s.faults.pick(r.URL.Path, c.subjects, c.edgeStages())
	if !faulty {
		s.write(w, c, s.answer(c))
		return
	}
	s.play(scene{w: w, call: c, fault: fault})
}

func (s *Simulator) receive(w http.ResponseWriter, r *http.Request) *call {
	at := s.Now()
	s.arrivals.note(at.UnixNano())
	c := &call{id: s.newID("req_"), at: at, request: r}
	s.tallies.arrived(r.Header.Get("Stripe-Version"))
	c.entry = Request{
		ID: c.id, At: at, Method: r.Method, Path: r.URL.Path,
		IdempotencyKey: r.Header.Get("Idempotency-Key"),
	}
	w.Header().Set("Request-Id", c.id)
	w.Header().Set("Date", at.UTC().Format(http.TimeFormat))
	return c
}

// read takes the body in and finds what it is about, for faults that match on it.
func (s *Simulator) read(w http.ResponseWriter, c *call) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, c.request.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if c.tooLarge = errors.As(err, &tooLarge); err != nil && !c.tooLarge {
		return fmt.Errorf("reading the request: %w", err)
	}
	c.body = body
	switch c.request.URL.Path {
	case pathEvents:
		c.form = parseForm(body)
	case pathStream:
		c.batch = parseBatch(body)
	}
	s.findSubjects(c)
	return nil
}

func (s *Simulator) findSubjects(c *call) {
	events := c.batch.events
	if c.request.URL.Path == pathEvents {
		events = []event{c.form.event}
	}
	for _, e := range events {
		key := defaultCustomerKey
		if meter, known := s.meters.byEventName(e.name); known {
			key = meter.CustomerKey
		}
		c.subjects = append(c.subjects, Event{EventName: e.name, Customer: e.payload[key], Identifier: e.identifier})
	}
	if len(c.subjects) > 0 {
		first := c.subjects[0]
		c.entry.EventName, c.entry.Customer, c.entry.Identifier = first.EventName, first.Customer, first.Identifier
	}
}

// answer is what Stripe says where no fault is in the way.
func (s *Simulator) answer(c *call) answer {
	if c.tooLarge {
		return refuse(http.StatusRequestEntityTooLarge, apiError{Message: "Request body is too large."})
	}
	if c.request.URL.Path == pathStream {
		return s.meterEventStream(c)
	}
	if refusal := s.authenticate(c); refusal != nil {
		return *refusal
	}
	if refusal := s.checkVersion(c); refusal != nil {
		return *refusal
	}
	return s.route(c)
}

func (s *Simulator) route(c *call) answer {
	path := c.request.URL.Path
	id, _, _ := strings.Cut(strings.TrimPrefix(path, pathMeters+"/"), "/")
	switch c.request.Method + " " + path {
	case "POST " + pathEvents:
		return s.meterEvents(c)
	case "POST " + pathSession:
		return s.meterEventSession(c)
	case "GET " + pathMeters:
		return s.listMeters(c)
	case "GET " + pathMeters + "/" + id:
		return s.retrieveMeter(c, id)
	case "GET " + pathMeters + "/" + id + "/event_summaries":
		return s.eventSummaries(c, id)
	case "GET " + pathCoreEvent + strings.TrimPrefix(path, pathCoreEvent):
		return s.coreEvent(c, strings.TrimPrefix(path, pathCoreEvent))
	case "GET /v1/account":
		return s.after(succeed(map[string]any{"id": "acct_simulator", "object": "account", "livemode": c.live}))
	case "GET /v1/balance":
		return s.after(succeed(map[string]any{"object": "balance", "livemode": c.live}))
	}
	return unknownRoute(c)
}

func (s *Simulator) checkVersion(c *call) *answer {
	version := c.request.Header.Get("Stripe-Version")
	if version == s.cfg.Version {
		return nil
	}
	message := "Invalid Stripe API version: " + version
	if version == "" {
		message = "Stripe-Version is required: never depend on the account's default."
	}
	refusal := refuse(http.StatusBadRequest, apiError{Message: message})
	return &refusal
}

// after is the answer once the latency has passed.
func (s *Simulator) after(a answer) answer {
	pause(s.latency())
	return a
}

func (s *Simulator) latency() time.Duration {
	return max(0, s.cfg.Latency+s.jitter.draw(s.cfg.Jitter))
}

// pause is not cancelled by the client: Stripe goes on executing too.
func pause(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}
