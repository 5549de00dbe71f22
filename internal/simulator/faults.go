package simulator

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind names a fault. The list is closed: see [Kinds].
type Kind string

// The kinds of faults.
const (
	// Server errors. Error500 comes from the execution and is stored under the
	// Idempotency-Key; the others come from the edge in front of it.
	Error500     Kind = "error_500"
	Error502HTML Kind = "error_502_html"
	Error503     Kind = "error_503"
	Error520     Kind = "error_520"
	Error599     Kind = "error_599"
	Error999     Kind = "error_999"

	// Connections that break. Recorded decides whether the event was counted.
	Reset    Kind = "reset"     // TCP reset, no answer
	Cut      Kind = "cut"       // closed, no answer
	CutBody  Kind = "cut_body"  // closed in the middle of the answer's body
	Hang     Kind = "hang"      // no answer until the client leaves, or Delay
	SlowBody Kind = "slow_body" // the body's bytes one by one, Delay apart

	// Refusals.
	RateLimited        Kind = "rate_limited"        // 429 with Reason
	LockTimeout        Kind = "lock_timeout"        // 429 for one object, stored
	KeyInUse           Kind = "key_in_use"          // 409
	ConcurrentRequests Kind = "concurrent_requests" // 409
	Unauthorized       Kind = "unauthorized"        // 401
	Forbidden          Kind = "forbidden"           // 403
	Redirect           Kind = "redirect"            // Status 301 to 308, to Location
	RouteNotFound      Kind = "route_not_found"     // 404 without a code
	Refused            Kind = "refused"             // Status 400 to 499 with Code
	DuplicateOther     Kind = "duplicate_other"     // a duplicate answer that names another identifier
	RejectedLater      Kind = "rejected_later"      // 200, then the asynchronous error Code
	NotCounted         Kind = "not_counted"         // 200, then nothing: no sum has it, and no report

	// Answers outside the contract.
	EmptyOK         Kind = "ok_empty"
	HTMLOK          Kind = "ok_html"
	OtherIdentifier Kind = "ok_other_identifier"
	WrongLivemode   Kind = "ok_wrong_livemode"
	NoContent       Kind = "no_content"    // 204
	OversizeBody    Kind = "oversize_body" // 64 MiB, announced
	EndlessBody     Kind = "endless_body"  // chunks until the client leaves
	GzipBomb        Kind = "gzip_bomb"     // 10 GiB in 10 MiB
	HugeHeader      Kind = "huge_header"   // 10 MiB
	InterimFlood    Kind = "interim_flood" // 100 times 103, then the answer
)

// Fault is a fault to play: on every matching request, with a probability, on
// the next Times of them after Skip, or any mix of these.
type Fault struct {
	Kind Kind `json:"kind"`
	// Recorded counts the event first; only for kinds of unknown outcome.
	Recorded bool `json:"recorded,omitempty"`

	Probability float64 `json:"probability,omitempty"` // 0 to 1; 0 is always
	Skip        int     `json:"skip,omitempty"`        // matching requests let pass first
	Times       int     `json:"times,omitempty"`       // then withdrawn; 0 is for ever

	// What matches: empty matches all. A batch matches if one of its events does.
	Customer   string `json:"customer,omitempty"`
	EventName  string `json:"event_name,omitempty"`
	Identifier string `json:"identifier,omitempty"`
	// Path is a prefix of the request's path. Empty: the two that take events.
	Path string `json:"path,omitempty"`

	Status   int    `json:"status,omitempty"`   // Redirect (default 307), Refused (400)
	Code     string `json:"code,omitempty"`     // Refused, RejectedLater
	Location string `json:"location,omitempty"` // Redirect
	Reason   string `json:"reason,omitempty"`   // RateLimited; default global-rate
	// DelayMillis: Hang's end (0: when the client leaves), SlowBody's time
	// between bytes (0: 10 s).
	DelayMillis int64 `json:"delay_ms,omitempty"`

	// Headers of the fault's answer, where there is one.
	RetryAfter  string `json:"retry_after,omitempty"`
	ShouldRetry string `json:"should_retry,omitempty"` // Stripe-Should-Retry
	Replayed    bool   `json:"replayed,omitempty"`     // Idempotent-Replayed: true
}

// stage is where on a request's way a kind strikes.
type stage uint8

const (
	edge       stage = 1 << iota // in front of Stripe; before keys and idempotency
	executing                    // in the place of the execution
	afterwards                   // after a 200
)

// Kinds returns the closed list.
func Kinds() []Kind {
	return []Kind{
		Error500, Error502HTML, Error503, Error520, Error599, Error999,
		Reset, Cut, CutBody, Hang, SlowBody,
		RateLimited, LockTimeout, KeyInUse, ConcurrentRequests, Unauthorized, Forbidden,
		Redirect, RouteNotFound, Refused, DuplicateOther, RejectedLater, NotCounted,
		EmptyOK, HTMLOK, OtherIdentifier, WrongLivemode, NoContent,
		OversizeBody, EndlessBody, GzipBomb, HugeHeader, InterimFlood,
	}
}

// MayBeRecorded reports whether an event may have been counted although this is
// what came back.
func (k Kind) MayBeRecorded() bool { return kinds[k].recorded }

func (f Fault) delay() time.Duration { return time.Duration(f.DelayMillis) * time.Millisecond }

func (f Fault) codeOr(code string) string {
	orDefault(&f.Code, code)
	return f.Code
}

// check says what is wrong with a fault, so that a script with a slip in it fails
// at once instead of playing something else.
func (f Fault) check() error {
	kind, known := kinds[f.Kind]
	switch {
	case !known:
		return fmt.Errorf("fault kind %q is not one of %v", f.Kind, Kinds())
	case f.Recorded && !kind.recorded:
		return fmt.Errorf("%s never follows a recorded event", f.Kind)
	case !(f.Probability >= 0 && f.Probability <= 1):
		return fmt.Errorf("probability %v is not within 0 to 1", f.Probability)
	case f.Times < 0 || f.Skip < 0 || f.DelayMillis < 0:
		return fmt.Errorf("times, skip and delay_ms are not negative")
	case f.Path != "" && !strings.HasPrefix(f.Path, "/"):
		return fmt.Errorf("path %q does not begin with /", f.Path)
	case strings.ContainsAny(f.RetryAfter+f.ShouldRetry+f.Reason+f.Location, "\r\n"):
		return fmt.Errorf("a header value holds a line break")
	}
	return f.checkStatus()
}

func (f Fault) checkStatus() error {
	low, high := 0, 0
	if f.Kind == Redirect {
		low, high = 301, 308
		if target, err := url.Parse(f.Location); err != nil || !target.IsAbs() {
			return fmt.Errorf("redirect needs a location with a scheme, not %q", f.Location)
		}
	}
	if f.Kind == Refused {
		low, high = 400, 499
	}
	if f.Status != 0 && (f.Status < low || f.Status > high) {
		return fmt.Errorf("status %d is not one of %s", f.Status, f.Kind)
	}
	return nil
}

// ArmedFault is a fault in force and what it has done.
type ArmedFault struct {
	Fault
	Matched int `json:"matched"`
	Played  int `json:"played"`

	random *rand.Rand
}

// faultScript is the faults in force, first injected first asked. Each has random
// numbers of its own, so that one more fault does not change another's.
type faultScript struct {
	mu     sync.Mutex
	seed   uint64
	serial uint64
	armed  []*ArmedFault
}

func newFaultScript(seed uint64) *faultScript { return &faultScript{seed: seed} }

// Inject puts faults in force, all or none; an error names the first wrong one.
func (s *Simulator) Inject(faults ...Fault) error {
	for i, f := range faults {
		if err := f.check(); err != nil {
			return fmt.Errorf("fault %d: %w", i, err)
		}
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, f := range faults {
		s.faults.serial++
		s.faults.armed = append(s.faults.armed, &ArmedFault{Fault: f, random: newRandom(s.faults.seed, s.faults.serial)})
	}
	return nil
}

// ClearFaults withdraws all faults; one being played goes on to its end.
func (s *Simulator) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.armed = nil
}

// Faults are the faults in force.
func (s *Simulator) Faults() []ArmedFault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	list := make([]ArmedFault, 0, len(s.faults.armed))
	for _, armed := range s.faults.armed {
		list = append(list, *armed)
	}
	return list
}

// pick is the fault to play at one of the stages, if any, on a request to path
// about the subjects.
func (f *faultScript) pick(path string, subjects []Event, stages stage) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, armed := range f.armed {
		if kinds[armed.Kind].stage&stages == 0 || !armed.matches(path, subjects) || !armed.strikes() {
			continue
		}
		if armed.Times > 0 && armed.Played == armed.Times {
			f.armed = slices.Delete(f.armed, i, i+1)
		}
		return armed.Fault, true
	}
	return Fault{}, false
}

func (a *ArmedFault) strikes() bool {
	a.Matched++
	if a.Matched <= a.Skip {
		return false
	}
	if a.Probability > 0 && a.random.Float64() >= a.Probability {
		return false
	}
	a.Played++
	return true
}

func (a *ArmedFault) matches(path string, subjects []Event) bool {
	if a.Path == "" && path != pathEvents && path != pathStream || !strings.HasPrefix(path, a.Path) {
		return false
	}
	if a.Customer == "" && a.EventName == "" && a.Identifier == "" {
		return true
	}
	return slices.ContainsFunc(subjects, func(e Event) bool {
		return matches(a.Customer, e.Customer) && matches(a.EventName, e.EventName) && matches(a.Identifier, e.Identifier)
	})
}

func matches(wanted, have string) bool { return wanted == "" || wanted == have }

// edgeStages: where nothing executes under an Idempotency-Key, the executing
// kinds strike at the edge too.
func (c *call) edgeStages() stage {
	if c.request.URL.Path == pathEvents && c.request.Method == http.MethodPost {
		return edge
	}
	return edge | executing
}
