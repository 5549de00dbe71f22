package simulator

import (
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"sync"
)

// A meter's status.
const (
	MeterActive   = "active"
	MeterInactive = "inactive"
)

// A meter's formula over the values of a window.
const (
	FormulaSum   = "sum"
	FormulaCount = "count"
	FormulaLast  = "last"
)

const (
	defaultCustomerKey = "stripe_customer_id"
	defaultValueKey    = "value"
	defaultLimit       = 10 // of a list, as at Stripe
	maxLimit           = 100
)

// Meter is one billing meter; only EventName is required.
type Meter struct {
	ID          string `json:"id"` // default derived from EventName
	EventName   string `json:"event_name"`
	Status      string `json:"status"`       // default MeterActive
	CustomerKey string `json:"customer_key"` // default stripe_customer_id
	ValueKey    string `json:"value_key"`    // default value
	Formula     string `json:"formula"`      // default FormulaSum
}

func (m Meter) withDefaults() Meter {
	orDefault(&m.ID, meterID(m.EventName))
	orDefault(&m.Status, MeterActive)
	orDefault(&m.CustomerKey, defaultCustomerKey)
	orDefault(&m.ValueKey, defaultValueKey)
	orDefault(&m.Formula, FormulaSum)
	return m
}

func meterID(eventName string) string { return fmt.Sprintf("mtr_%016x", hash64(eventName)) }

func hash64(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum64()
}

// meterList is the configured meters or, where none are, one for each event name
// seen.
type meterList struct {
	mu     sync.Mutex
	open   bool // every event name has a meter
	meters []Meter
	byName map[string]int
}

func newMeterList(configured []Meter) *meterList {
	l := &meterList{open: len(configured) == 0, byName: make(map[string]int)}
	for _, m := range configured {
		l.add(m)
	}
	return l
}

func (l *meterList) add(m Meter) {
	l.byName[m.EventName] = len(l.meters)
	l.meters = append(l.meters, m.withDefaults())
}

func (l *meterList) byEventName(name string) (Meter, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, known := l.byName[name]; known {
		return l.meters[i], true
	}
	if l.open {
		return Meter{EventName: name}.withDefaults(), true
	}
	return Meter{}, false
}

// note lists an event name's meter where none are configured.
func (l *meterList) note(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.byName[name]; !known && l.open {
		l.add(Meter{EventName: name})
	}
}

func (l *meterList) byID(id string) (Meter, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.meters, func(m Meter) bool { return m.ID == id })
	if i < 0 {
		return Meter{}, false
	}
	return l.meters[i], true
}

func (l *meterList) all() []Meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.meters)
}

// listMeters is GET /v1/billing/meters.
func (s *Simulator) listMeters(c *call) answer {
	params, refusal := checkQuery(c.request, "limit", "starting_after", "status")
	if refusal != nil {
		return *refusal
	}
	meters := s.meters.all()
	if status := params.Get("status"); status != "" {
		meters = slices.DeleteFunc(meters, func(m Meter) bool { return m.Status != status })
	}
	page, refusal := paginate(params, pathMeters, meters, func(m Meter) string { return m.ID },
		func(m Meter) any { return m.body(c.live) })
	if refusal != nil {
		return *refusal
	}
	return s.after(succeed(page))
}

// retrieveMeter is GET /v1/billing/meters/{id}.
func (s *Simulator) retrieveMeter(c *call, id string) answer {
	if _, refusal := checkQuery(c.request); refusal != nil {
		return *refusal
	}
	meter, known := s.meters.byID(id)
	if !known {
		return noSuch("billing meter", id)
	}
	return s.after(succeed(meter.body(c.live)))
}

func (m Meter) body(live bool) map[string]any {
	return map[string]any{
		"id": m.ID, "object": "billing.meter", "livemode": live,
		"event_name": m.EventName, "display_name": m.EventName, "status": m.Status,
		"customer_mapping":    map[string]string{"event_payload_key": m.CustomerKey, "type": "by_id"},
		"value_settings":      map[string]string{"event_payload_key": m.ValueKey},
		"default_aggregation": map[string]string{"formula": m.Formula},
		"event_time_window":   nil,
		"status_transitions":  map[string]any{"deactivated_at": nil},
	}
}

// paginate is one page of a v1 list: limit 1 to 100, starting_after an id.
func paginate[T any](params url.Values, path string, all []T, id func(T) string, body func(T) any) (map[string]any, *answer) {
	limit := defaultLimit
	if text := params.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return nil, invalid("limit", "parameter_invalid_integer", "limit must be within 1 to %d.", maxLimit)
		}
		limit = n
	}
	if after := params.Get("starting_after"); after != "" {
		i := slices.IndexFunc(all, func(item T) bool { return id(item) == after })
		if i < 0 {
			return nil, invalid("starting_after", "resource_missing", "No such object: '%s'", after)
		}
		all = all[i+1:]
	}
	more := len(all) > limit
	data := make([]any, 0, limit)
	for _, item := range all[:min(limit, len(all))] {
		data = append(data, body(item))
	}
	return map[string]any{"object": "list", "url": path, "has_more": more, "data": data}, nil
}
