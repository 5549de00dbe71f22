package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	adminPrefix  = "/_simulator/"
	maxAdminBody = 256 << 20 // bytes; an expectation of a million events fits
)

// Admin is the control API, so that another process can steer the simulator. It
// has no credentials of its own: serve it on loopback only.
//
//	GET    /_simulator/books    Books
//	GET    /_simulator/totals   Totals, cheap
//	POST   /_simulator/check    {"<identifier>": units, …} → Report
//	GET    /_simulator/requests the newest 1,000 Requests
//	GET    /_simulator/reports  ErrorReports
//	GET    /_simulator/faults   the faults in force
//	POST   /_simulator/faults   one Fault or a list → the faults in force
//	DELETE /_simulator/faults
//	GET    /_simulator/clock    {"now": …}
//	POST   /_simulator/clock    {"advance": "24h"} → {"now": …}
//	POST   /_simulator/keys     {"set": ["sk_…"]} or {"revoke": "sk_…"}
func (s *Simulator) Admin() http.Handler {
	mux := http.NewServeMux()
	show := func(path string, value func() any) {
		mux.HandleFunc("GET "+adminPrefix+path, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, value())
		})
	}
	show("books", func() any { return s.Books() })
	show("totals", func() any { return s.Totals() })
	show("requests", func() any { return s.Requests() })
	show("reports", func() any { return s.ErrorReports() })
	show("faults", func() any { return s.Faults() })
	show("clock", func() any { return s.clock() })
	mux.HandleFunc("POST "+adminPrefix+"check", s.adminCheck)
	mux.HandleFunc("POST "+adminPrefix+"faults", s.adminInject)
	mux.HandleFunc("DELETE "+adminPrefix+"faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		reply(w, http.StatusOK, s.Faults())
	})
	mux.HandleFunc("POST "+adminPrefix+"clock", s.adminClock)
	mux.HandleFunc("POST "+adminPrefix+"keys", s.adminKeys)
	return mux
}

func (s *Simulator) clock() map[string]time.Time {
	return map[string]time.Time{"now": s.Now().UTC()}
}

func (s *Simulator) adminCheck(w http.ResponseWriter, r *http.Request) {
	var expected map[string]int64
	if decode(w, r, &expected) {
		reply(w, http.StatusOK, s.Books().Check(expected))
	}
}

func (s *Simulator) adminInject(w http.ResponseWriter, r *http.Request) {
	var faults faultList
	if !decode(w, r, &faults) {
		return
	}
	if err := s.Inject(faults...); err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, s.Faults())
}

// faultList is one fault or a list of them.
type faultList []Fault

// UnmarshalJSON refuses unknown fields: a slip must not become another fault.
func (l *faultList) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		return strict(text, (*[]Fault)(l))
	}
	*l = make(faultList, 1)
	return strict(text, &(*l)[0])
}

func (s *Simulator) adminClock(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Advance string `json:"advance"`
	}
	if !decode(w, r, &body) {
		return
	}
	d, err := time.ParseDuration(body.Advance)
	if err == nil && d <= 0 {
		err = errors.New("the clock runs forward only")
	}
	if err != nil {
		fail(w, fmt.Errorf("advance: %w", err))
		return
	}
	s.Advance(d)
	reply(w, http.StatusOK, s.clock())
}

func (s *Simulator) adminKeys(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Set    *[]string `json:"set"`
		Revoke string    `json:"revoke"`
	}
	if !decode(w, r, &body) {
		return
	}
	if body.Set == nil && body.Revoke == "" {
		fail(w, errors.New("neither set nor revoke is given"))
		return
	}
	if body.Set != nil {
		s.SetKeys(*body.Set...)
	}
	if body.Revoke != "" {
		s.RevokeKey(body.Revoke)
	}
	reply(w, http.StatusOK, struct{}{})
}

// decode answers 400 itself when it returns false.
func decode(w http.ResponseWriter, r *http.Request, target any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if err == nil {
		err = strict(text, target)
	}
	if err != nil {
		fail(w, err)
		return false
	}
	return true
}

func strict(text []byte, target any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if decoder.More() {
		return errors.New("reading the request: data after the body")
	}
	return nil
}

func fail(w http.ResponseWriter, err error) {
	reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(body)) // a client that has left needs no answer
}
