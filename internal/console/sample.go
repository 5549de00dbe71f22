package console

import (
	"encoding/json"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Sample is one moment of the plots. What is not known is null: the fleet's numbers while
// nobody watches, a latency while nothing is sent.
type Sample struct {
	At             string   `json:"at"` // RFC 3339
	Pending        *float64 `json:"pending"`
	Ready          *float64 `json:"ready"`
	OldestSeconds  *float64 `json:"oldest_seconds"`
	Published      *float64 `json:"published"` // a second, by the fleet, as the rates below
	Settled        *float64 `json:"settled"`
	RateInForce    *float64 `json:"rate_in_force"`
	RateUsed       *float64 `json:"rate_used"`
	RateConfigured *float64 `json:"rate_configured"`

	// Of this worker alone.
	LatencyP50 *float64           `json:"latency_p50"` // seconds, of requests to Stripe
	LatencyP99 *float64           `json:"latency_p99"`
	Delivered  float64            `json:"delivered"` // a second
	Duplicate  float64            `json:"duplicate"`
	Dead       float64            `json:"dead"`
	Released   float64            `json:"released"`
	Requests   map[string]float64 `json:"requests"` // a second, by class; those that there were
}

// fleetNumbers takes the fleet's part of a sample from a look.
func (s *Sample) fleetNumbers(document json.RawMessage) {
	var look Status
	if json.Unmarshal(document, &look) != nil || look.Verdict == "unknown" {
		return
	}
	pending, ready := float64(look.Backlog.Pending), float64(look.Backlog.Ready)
	s.Pending, s.Ready, s.OldestSeconds = &pending, &ready, &look.Backlog.OldestSeconds
	s.RateInForce, s.RateUsed, s.RateConfigured = &look.Rate.InForce, &look.Rate.Used, &look.Rate.Configured
	if look.Flow != nil {
		s.Published, s.Settled = &look.Flow.Published, &look.Flow.Settled
	}
}

// ownNumbers turns the counters of this process into rates.
type ownNumbers struct {
	registry prometheus.Gatherer
	before   counters
	at       time.Time
}

// counters are what was counted since the process began.
type counters struct {
	settled  map[string]float64 // by disposition
	requests map[string]float64 // by class
	latency  *dto.Histogram
}

// fill adds this worker's part to a sample; the first time there is nothing to compare with.
func (o *ownNumbers) fill(s *Sample, now time.Time) {
	after := read(o.registry)
	before, seconds := o.before, now.Sub(o.at).Seconds()
	first := o.at.IsZero()
	o.before, o.at = after, now
	s.Requests = map[string]float64{}
	if first || seconds <= 0 {
		return
	}
	rate := func(disposition string) float64 {
		return (after.settled[disposition] - before.settled[disposition]) / seconds
	}
	s.Delivered, s.Duplicate, s.Dead, s.Released = rate("delivered"), rate("duplicate"), rate("dead"), rate("released")
	for class, n := range after.requests {
		if more := n - before.requests[class]; more > 0 {
			s.Requests[class] = more / seconds
		}
	}
	s.LatencyP50, s.LatencyP99 = quantile(0.5, before.latency, after.latency), quantile(0.99, before.latency, after.latency)
}

func read(registry prometheus.Gatherer) counters {
	c := counters{settled: map[string]float64{}, requests: map[string]float64{}}
	families, _ := registry.Gather() // one broken collector takes nothing from the others
	for _, family := range families {
		switch family.GetName() {
		case "meterworker_settled_total":
			byLabel(c.settled, family)
		case "meterworker_stripe_requests_total":
			byLabel(c.requests, family)
		case "meterworker_stripe_request_seconds":
			if metrics := family.GetMetric(); len(metrics) == 1 {
				c.latency = metrics[0].GetHistogram()
			}
		}
	}
	return c
}

// byLabel reads counters with one label.
func byLabel(into map[string]float64, family *dto.MetricFamily) {
	for _, metric := range family.GetMetric() {
		if labels := metric.GetLabel(); len(labels) == 1 {
			into[labels[0].GetValue()] = metric.GetCounter().GetValue()
		}
	}
}

// quantile of what was observed between two states of a histogram, by linear interpolation
// inside its bucket; nil where nothing was.
func quantile(q float64, before, after *dto.Histogram) *float64 {
	seen := map[float64]uint64{}
	for _, bucket := range before.GetBucket() {
		seen[bucket.GetUpperBound()] = bucket.GetCumulativeCount()
	}
	total := after.GetSampleCount() - before.GetSampleCount()
	if total == 0 {
		return nil
	}
	wanted, lower, below := q*float64(total), 0.0, 0.0
	for _, bucket := range after.GetBucket() {
		upper := bucket.GetUpperBound()
		count := float64(bucket.GetCumulativeCount() - seen[upper])
		if count >= wanted && !math.IsInf(upper, 1) {
			value := lower + (upper-lower)*(wanted-below)/(count-below)
			return &value
		}
		if !math.IsInf(upper, 1) {
			lower, below = upper, count
		}
	}
	return &lower // beyond the last bucket: at least that
}
