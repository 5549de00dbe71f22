package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
)

// answer is one whole HTTP answer.
type answer struct {
	status int
	header http.Header // beyond what every answer carries; nil where there is none
	body   []byte
	// executed answers are stored under the Idempotency-Key and replayed.
	executed bool
}

// apiError is the inside of Stripe's error body. Type defaults to
// invalid_request_error.
type apiError struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	Type    string `json:"type"`
}

func refuse(status int, e apiError) answer {
	orDefault(&e.Type, "invalid_request_error")
	return answer{status: status, body: encode(map[string]apiError{"error": e})}
}

func succeed(body any) answer {
	return answer{status: http.StatusOK, body: encode(body)}
}

// encode panics on what JSON cannot hold: every value comes from this package.
func encode(body any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic(fmt.Sprintf("simulator: encoding an answer: %v", err))
	}
	return buffer.Bytes()
}

func (a answer) with(name, value string) answer {
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
	return a
}

func rateLimited(reason string) answer {
	return refuse(http.StatusTooManyRequests, apiError{
		Code: "rate_limit", Type: "rate_limit_error",
		Message: "Request rate limit exceeded.",
	}).with("Stripe-Rate-Limited-Reason", reason)
}

// lockTimeout is contention on one object. It carries no reason header, and
// being an executed answer it is stored under the Idempotency-Key.
func lockTimeout() answer {
	a := refuse(http.StatusTooManyRequests, apiError{
		Code:    "lock_timeout",
		Message: "This object cannot be accessed right now because another API request is currently accessing it.",
	})
	a.executed = true
	return a
}

// duplicate has no code: Stripe's message is all that tells.
func duplicate(identifier string) answer {
	a := refuse(http.StatusBadRequest, apiError{
		Message: "An event already exists with identifier " + identifier,
	}).with("Stripe-Should-Retry", "false")
	a.executed = true
	return a
}

func unknownRoute(c *call) answer {
	return refuse(http.StatusNotFound, apiError{Message: fmt.Sprintf(
		"Unrecognized request URL (%s: %s).", c.request.Method, c.request.URL.Path)})
}

func noSuch(kind, id string) answer {
	return refuse(http.StatusNotFound, apiError{
		Code: "resource_missing", Param: "id", Message: fmt.Sprintf("No such %s: '%s'", kind, id),
	})
}

func invalid(param, code, format string, args ...any) *answer {
	a := refuse(http.StatusBadRequest, apiError{Code: code, Param: param, Message: fmt.Sprintf(format, args...)})
	return &a
}

// write enters the answer into tallies and log, and only then sends it.
func (s *Simulator) write(w http.ResponseWriter, c *call, a answer) {
	s.close(c, a)
	c.send(w, a)
}

// close enters the end of a call into tallies and log. Status 0 is no answer.
func (s *Simulator) close(c *call, a answer) {
	c.entry.Status = a.status
	c.entry.Replayed = a.header.Get("Idempotent-Replayed") == "true"
	s.tallies.answered(c.entry, a.header.Get("Stripe-Rate-Limited-Reason"))
	s.log.add(c.entry)
}

func (c *call) send(w http.ResponseWriter, a answer) {
	c.head(w, a)
	w.WriteHeader(a.status)
	if a.status != http.StatusNoContent {
		_, _ = w.Write(a.body) // a client that has left needs no answer
	}
}

// head sets the answer's headers, those the request asks to have echoed included.
func (c *call) head(w http.ResponseWriter, a answer) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	for _, name := range []string{"Stripe-Version", "Idempotency-Key"} {
		if value := c.request.Header.Get(name); value != "" {
			header.Set(name, value)
		}
	}
	maps.Copy(header, a.header)
	if a.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
}
