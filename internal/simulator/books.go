package simulator

import (
	"cmp"
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	maxVersions = 32    // distinct Stripe-Versions tallied by name
	maxChanged  = 1_000 // events with changed content kept by name
)

// Event names one event in the books.
type Event struct {
	Livemode   bool   `json:"livemode"`
	EventName  string `json:"event_name"`
	Customer   string `json:"customer"`
	Identifier string `json:"identifier"`
}

func compareEvents(a, b Event) int {
	return cmp.Or(
		strings.Compare(a.Identifier, b.Identifier),
		strings.Compare(a.EventName, b.EventName),
		strings.Compare(a.Customer, b.Customer),
		compareModes(a.Livemode, b.Livemode),
	)
}

func compareModes(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Counted is what became of one event. Times above 1 is a double bill: the
// identifier came again after [Config.Memory].
type Counted struct {
	Event
	Times        int       `json:"times"`
	RefusedLater int       `json:"refused_later,omitempty"` // after a 200: an asynchronous error
	Units        int64     `json:"units"`                   // over all Times; exact below 2^63
	LastAt       time.Time `json:"last_at"`
}

// Hour is the usage of one customer on one meter by the events' timestamps.
type Hour struct {
	Livemode  bool      `json:"livemode"`
	EventName string    `json:"event_name"`
	Customer  string    `json:"customer"`
	Start     time.Time `json:"start"` // on the hour, UTC
	Units     int64     `json:"units"`
	Events    int       `json:"events"`
}

func compareHours(a, b Hour) int {
	return cmp.Or(
		strings.Compare(a.EventName, b.EventName),
		strings.Compare(a.Customer, b.Customer),
		a.Start.Compare(b.Start),
		compareModes(a.Livemode, b.Livemode),
	)
}

// Totals is what the simulator saw, in a few numbers.
type Totals struct {
	Requests int64 `json:"requests"` // all, the refused included; not the control API's
	// ByStatus counts answers; status 0 is a connection ended without a whole
	// answer.
	ByStatus    map[int]int64 `json:"by_status"`
	RateLimited int64         `json:"rate_limited"` // 429 with a reason header
	Contended   int64         `json:"contended"`    // 429 without, and 409
	// PeakPerSecond is the largest number of requests in any sliding second:
	// from an arrival up to, not including, a second later.
	PeakPerSecond int       `json:"peak_per_second"`
	PeakAt        time.Time `json:"peak_at"`
	// MaxConcurrent is the largest number of calls executing at once for one
	// customer and meter (v1); Violations counts those that came while another
	// was executing, one that the client has given up on included.
	MaxConcurrent  int              `json:"max_concurrent"`
	Violations     int64            `json:"violations"`
	Versions       map[string]int64 `json:"versions"` // Stripe-Version headers seen
	Counted        int64            `json:"counted"`  // events counted, each time
	Duplicates     int64            `json:"duplicates"`
	RefusedLater   int64            `json:"refused_later"`
	Replayed       int64            `json:"replayed"`        // answers out of the idempotency memory
	ChangedContent int64            `json:"changed_content"` // known identifiers that came with other content
	Faults         map[Kind]int64   `json:"faults"`          // played
}

// Books is everything the simulator counted and saw.
type Books struct {
	Totals
	Events  []Counted `json:"events"`  // in order of first arrival
	Hours   []Hour    `json:"hours"`   // by event name, customer, time
	Changed []Event   `json:"changed"` // of ChangedContent, the first 1,000
}

// Totals is a cheap snapshot of the tallies.
func (s *Simulator) Totals() Totals {
	totals := s.tallies.snapshot()
	totals.PeakPerSecond, totals.PeakAt = s.arrivals.highest()
	return totals
}

// Books is a snapshot of everything. It copies every event: see
// [Simulator.Totals] for progress.
func (s *Simulator) Books() Books {
	return Books{
		Totals: s.Totals(), Events: s.ledger.counted(), Hours: s.ledger.hours(),
		Changed: s.tallies.changedEvents(),
	}
}

// tallies are the running totals.
type tallies struct {
	mu      sync.Mutex
	totals  Totals
	changed []Event
}

func newTallies() *tallies {
	return &tallies{totals: Totals{
		ByStatus: make(map[int]int64), Versions: make(map[string]int64), Faults: make(map[Kind]int64),
	}}
}

func (t *tallies) arrived(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals.Requests++
	if _, seen := t.totals.Versions[version]; !seen && len(t.totals.Versions) >= maxVersions {
		version = "others"
	}
	t.totals.Versions[version]++
}

func (t *tallies) answered(r Request, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals.ByStatus[r.Status]++
	switch {
	case r.Status == 429 && reason != "":
		t.totals.RateLimited++
	case r.Status == 429, r.Status == 409:
		t.totals.Contended++
	}
	if r.Replayed {
		t.totals.Replayed++
	}
	if r.Fault != "" {
		t.totals.Faults[r.Fault]++
	}
}

func (t *tallies) concurrent(calls int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals.MaxConcurrent = max(t.totals.MaxConcurrent, calls)
	if calls > 1 {
		t.totals.Violations++
	}
}

func (t *tallies) entered(known, refusedLater bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case known:
		t.totals.Duplicates++
	case refusedLater:
		t.totals.RefusedLater++
	default:
		t.totals.Counted++
	}
}

func (t *tallies) changedContent(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals.ChangedContent++
	if len(t.changed) < maxChanged {
		t.changed = append(t.changed, e)
	}
}

func (t *tallies) changedEvents() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Event{}, t.changed...)
}

func (t *tallies) snapshot() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	totals := t.totals
	totals.ByStatus = maps.Clone(totals.ByStatus)
	totals.Versions = maps.Clone(totals.Versions)
	totals.Faults = maps.Clone(totals.Faults)
	return totals
}
