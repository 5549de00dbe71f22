package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"
)

const (
	sessionLife = 15 * time.Minute
	maxSessions = 10_000 // living at once; more are refused
	maxBatch    = 100    // events
)

// sessions are the v2 stream's tokens that are alive or expired not long ago.
type sessions struct {
	mu     sync.Mutex
	tokens map[string]session
}

type session struct {
	expires time.Time
	live    bool
}

func newSessions() *sessions { return &sessions{tokens: make(map[string]session)} }

// open reports false when there are too many. Expired tokens stay known until
// room is needed, to be told apart from invented ones.
func (s *sessions) open(token string, live bool, now time.Time) (expires time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= maxSessions {
		for old, session := range s.tokens {
			if !now.Before(session.expires) {
				delete(s.tokens, old)
			}
		}
	}
	if len(s.tokens) >= maxSessions {
		return time.Time{}, false
	}
	expires = now.Add(sessionLife)
	s.tokens[token] = session{expires: expires, live: live}
	return expires, true
}

func (s *sessions) find(token string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, known := s.tokens[token]
	return found, known
}

// meterEventSession is POST /v2/billing/meter_event_session.
func (s *Simulator) meterEventSession(c *call) answer {
	if refusal := checkJSON(c); refusal != nil {
		return *refusal
	}
	if content := bytes.TrimSpace(c.body); len(content) > 0 && !bytes.Equal(content, []byte("{}")) {
		return *invalid("", "parameter_unknown", "A session takes no parameters.")
	}
	if !c.live && !s.cfg.StreamInTestMode {
		return *invalid("", "livemode_required", "Meter event streams are available in live mode only.")
	}
	now := s.Now()
	token := s.newID("mes_tok_")
	expires, ok := s.sessions.open(token, c.live, now)
	if !ok {
		return rateLimited("endpoint-concurrency")
	}
	return s.after(succeed(map[string]any{
		"id": s.newID("mes_"), "object": "v2.billing.meter_event_session", "authentication_token": token,
		"created": now.UTC(), "expires_at": expires.UTC(), "livemode": c.live,
	}))
}

// checkJSON lets an absent content type pass where there is no body.
func checkJSON(c *call) *answer {
	mediaType, _, err := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	if (err != nil || mediaType != "application/json") && len(c.body) > 0 {
		return invalid("", "", "Invalid request (check that your POST content type is application/json).")
	}
	return nil
}

// eventBatch is a stream's body: what could be read of it, and what is wrong
// with it. The refusal does not tell which event is at fault: the contract does
// not promise it.
type eventBatch struct {
	events  []event
	refusal *answer
}

type streamBody struct {
	Events []streamEvent `json:"events"`
}

type streamEvent struct {
	EventName  string            `json:"event_name"`
	Identifier string            `json:"identifier"`
	Payload    map[string]string `json:"payload"`
	Timestamp  string            `json:"timestamp"`
}

func parseBatch(body []byte) eventBatch {
	var b eventBatch
	var parsed streamBody
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&parsed); err != nil {
		b.refusal = invalid("", "parameter_invalid", "Invalid request: %v", err)
	} else if _, err := decoder.Token(); err != io.EOF {
		b.refusal = invalid("", "parameter_invalid", "Invalid request: data after the body.")
	}
	if n := len(parsed.Events); b.refusal == nil && (n == 0 || n > maxBatch) {
		b.refusal = invalid("events", "parameter_invalid", "events must hold 1 to %d events, has %d.", maxBatch, n)
	}
	for _, raw := range parsed.Events {
		e, refusal := raw.event()
		b.events = append(b.events, e)
		if refusal != nil && b.refusal == nil {
			b.refusal = refusal
		}
	}
	return b
}

func (raw streamEvent) event() (event, *answer) {
	e := event{name: raw.EventName, identifier: raw.Identifier, payload: raw.Payload}
	if refusal := checkShape(e); refusal != nil {
		return e, refusal
	}
	at, err := time.Parse(time.RFC3339, raw.Timestamp)
	if err != nil {
		return e, invalid("timestamp", "parameter_invalid", "timestamp must be RFC 3339.")
	}
	e.timestamp = at.Unix()
	return e, nil
}

// meterEventStream is POST /v2/billing/meter_event_stream: one malformed event
// refuses the whole batch; what Stripe checks later it checks later here; a
// duplicate is dropped in silence.
func (s *Simulator) meterEventStream(c *call) answer {
	if c.request.Method != http.MethodPost {
		return unknownRoute(c)
	}
	if refusal := s.checkSession(c); refusal != nil {
		return *refusal
	}
	if refusal := s.checkVersion(c); refusal != nil {
		return *refusal
	}
	if refusal := checkJSON(c); refusal != nil {
		return *refusal
	}
	if c.batch.refusal != nil {
		return *c.batch.refusal
	}
	c.entry.Events = len(c.batch.events)
	if !s.stream.take(float64(len(c.batch.events)), s.Now()) {
		return rateLimited("endpoint-rate")
	}
	latency := s.latency()
	pause(latency / 2)
	for _, e := range c.batch.events {
		s.takeIn(c, e)
	}
	pause(latency - latency/2)
	return succeed(struct{}{})
}

func (s *Simulator) checkSession(c *call) *answer {
	found, known := s.sessions.find(bearer(c.request))
	switch {
	case !known:
		a := refuse(http.StatusUnauthorized, apiError{Code: "invalid_authentication_token", Message: "Invalid authentication token."})
		return &a
	case !s.Now().Before(found.expires):
		a := refuse(http.StatusUnauthorized, apiError{Code: "billing_meter_event_session_expired", Message: "The session has expired."})
		return &a
	}
	c.live = found.live
	return nil
}

// takeIn takes one event of a batch in.
func (s *Simulator) takeIn(c *call, e event) {
	resolved, problem := s.resolve(e)
	if problem != nil {
		meter, _ := s.meters.byEventName(e.name)
		why := &rejection{code: problem.Code, message: problem.Message, meter: meter.ID}
		s.enter(c, resolved, func() *rejection { return why })
		return
	}
	s.enter(c, resolved, func() *rejection { return s.laterRefusal(c, resolved) })
}
