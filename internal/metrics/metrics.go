// Package metrics is the closed set of the worker's metrics, by the names that
// dashboards and alerts rely on.
//
// Invariants:
//
//   - No identifier and no customer is ever a label. Event names come from
//     producers, so at most [MaxEventNames] of them become label values; later
//     ones are counted as "other".
//   - Every label set of a closed list exists from the start, at 0, so that an
//     alert can tell "none yet" from "not there".
package metrics

import (
	"math"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// MaxEventNames bounds the values of the event_name label.
const MaxEventNames = 200

// Dispositions are the ways in which a message leaves a worker's hands.
var Dispositions = []string{"delivered", "duplicate", "dead", "released"}

// Set is one worker's metrics, with a registry of its own.
type Set struct {
	Registry *prometheus.Registry
	Rejections

	Received        prometheus.Counter
	Settled         *prometheus.CounterVec // disposition
	DeadLetters     *prometheus.CounterVec // reason
	StripeRequests  *prometheus.CounterVec // class
	StripeSeconds   prometheus.Histogram
	DeliverySeconds prometheus.Histogram
	PermitSeconds   prometheus.Histogram
	Permits         prometheus.Counter
	RateLimit       prometheus.Gauge
	RateConfigured  prometheus.Gauge
	InFlight        prometheus.Gauge
	LanesBusy       prometheus.Gauge
	OutboxPending   prometheus.Gauge
	OutboxReady     prometheus.Gauge
	OutboxOldest    prometheus.Gauge
	DLQMessages     *prometheus.GaugeVec // reason
	Breaker         *prometheus.GaugeVec // state
	Partitions      prometheus.Gauge
	PartitionsAll   prometheus.Gauge
	Identifiers     prometheus.Gauge
	LedgerBytes     prometheus.Gauge
	LedgerMaxBytes  prometheus.Gauge
	Lookups         *prometheus.CounterVec // result
	IntentsOpen     prometheus.Gauge
	FenceRefusals   prometheus.Counter
	StreamBytes     *prometheus.GaugeVec // stream
	StreamMaxBytes  *prometheus.GaugeVec // stream
	Ready           *prometheus.GaugeVec // check
	SpansDropped    prometheus.Counter

	units    *prometheus.CounterVec // event_name, disposition
	expiring *prometheus.GaugeVec   // event_name
	mu       sync.Mutex
	names    map[string]bool
}

// Labels are the closed lists that the set is created with, each from the
// package that owns it.
type Labels struct {
	Reasons       []string
	Classes       []string
	BreakerStates []string
	LookupResults []string

	WebhookResults []string
	RejectionCodes []string
}

// New returns a set with every closed label set at 0.
func New(labels Labels) *Set {
	s := &Set{Registry: prometheus.NewRegistry(), names: map[string]bool{}}
	f := factory{s.Registry}
	s.Received = f.counter("received_total", "Messages taken from the outbox, redeliveries included.")
	s.Settled = f.counters("settled_total", "Messages that left this worker's hands.", "disposition")
	s.DeadLetters = f.counters("dead_letters_total", "Dead letters published.", "reason")
	s.units = f.counters("units_total", "Sum of the values of settled messages; negative values count as negative corrections in their own series.", "event_name", "disposition")
	s.StripeRequests = f.counters("stripe_requests_total", "Attempts, by what they came to.", "class")
	s.StripeSeconds = f.histogram("stripe_request_seconds", "Time from permit to answer of one attempt.")
	s.DeliverySeconds = f.histogram("delivery_seconds", "Time from stored in the outbox to accepted by Stripe.")
	s.PermitSeconds = f.histogram("permit_wait_seconds", "Time waited for a permit.")
	s.Permits = f.counter("permits_total", "Permits taken out of the rate bucket.")
	s.RateLimit = f.gauge("rate_limit", "Rate now in force, in requests a second.")
	s.InFlight = f.gauge("in_flight", "Requests to Stripe under way.")
	s.LanesBusy = f.gauge("lanes_busy", "Lanes (event name and customer) with work.")
	s.RateConfigured = f.gauge("rate_configured", "Configured rate of the whole account, in requests a second.")
	s.OutboxPending = f.gauge("outbox_pending", "Messages of the owned partitions that are not settled.")
	s.OutboxReady = f.gauge("outbox_ready", "Messages of the owned partitions that wait to be taken and could be sent; 0 while the breaker is not closed or 429s hold the rate down.")
	s.OutboxOldest = f.gauge("outbox_oldest_seconds", "Age of the oldest message that is not settled.")
	s.DLQMessages = f.gauges("dlq_messages", "Dead letters that wait for a person.", "reason")
	s.Breaker = f.gauges("breaker_state", "1 for the state the breaker is in, 0 for the others.", "state")
	s.Partitions = f.gauge("partitions_owned", "Partitions that this worker owns.")
	s.PartitionsAll = f.gauge("partitions", "Partitions of the outbox, whoever owns them.")
	s.Identifiers = f.gauge("ledger_identifiers", "Identifiers that the ledger knows.")
	s.LedgerBytes = f.gauge("ledger_bytes", "Memory of the ledger, estimated.")
	s.LedgerMaxBytes = f.gauge("ledger_max_bytes", "Memory that the ledger may have at most.")
	s.Lookups = f.counters("ledger_lookups_total", "Ledger look-ups by result.", "result")
	s.IntentsOpen = f.gauge("intents_open", "Intents without a recorded outcome.")
	s.FenceRefusals = f.counter("fence_refusals_total", "Journal writes refused because another worker owns the partition.")
	s.StreamBytes = f.gauges("stream_bytes", "Size of a stream.", "stream")
	s.StreamMaxBytes = f.gauges("stream_max_bytes", "Size limit of a stream; 0 where only the account and the server limit it.", "stream")
	s.Ready = f.gauges("ready", "1 for each check of /readyz that is met.", "check")
	s.expiring = f.gauges("units_expiring", "Units of dead letters that Stripe takes for less than a day more; told by one worker of the fleet.", "event_name")
	s.SpansDropped = f.counter("trace_spans_dropped_total", "Spans of sampled traces that were not exported: the queue was full, or the collector did not take them.")
	s.rejections(f)
	s.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.touch(labels)
	return s
}

func (s *Set) touch(labels Labels) {
	for _, d := range Dispositions {
		s.Settled.WithLabelValues(d)
	}
	for _, r := range labels.Reasons {
		s.DeadLetters.WithLabelValues(r)
		s.DLQMessages.WithLabelValues(r)
	}
	for _, c := range labels.Classes {
		s.StripeRequests.WithLabelValues(c)
	}
	for _, b := range labels.BreakerStates {
		s.Breaker.WithLabelValues(b)
	}
	for _, r := range labels.LookupResults {
		s.Lookups.WithLabelValues(r)
	}
	s.touchRejections(labels)
}

// Units counts value under the event name. A counter cannot fall, so a negative
// value is counted, as its magnitude, under the disposition with "_negative".
func (s *Set) Units(eventName, disposition string, value int64) {
	if value < 0 {
		disposition += "_negative"
	}
	s.units.WithLabelValues(s.label(eventName), disposition).Add(math.Abs(float64(value)))
}

// Expiring replaces the units of dead letters that Stripe will soon refuse, by event name.
func (s *Set) Expiring(units map[string]float64) {
	s.expiring.Reset()
	for eventName, n := range units {
		s.expiring.WithLabelValues(s.label(eventName)).Add(n) // several names may be other
	}
}

// label bounds the names, and keeps out what the registry would panic on (invalid
// UTF-8) or take for no label at all (the empty name of a message that is no event).
func (s *Set) label(eventName string) string {
	if eventName == "" || !utf8.ValidString(eventName) {
		return "other"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.names[eventName] && len(s.names) >= MaxEventNames {
		return "other"
	}
	s.names[eventName] = true
	return eventName
}

// State sets one breaker state to 1 and all others of the list to 0.
func (s *Set) State(now string, all []string) {
	for _, state := range all {
		value := 0.0
		if state == now {
			value = 1
		}
		s.Breaker.WithLabelValues(state).Set(value)
	}
}

// Since observes the seconds since t in h.
func Since(h prometheus.Histogram, t time.Time) { h.Observe(time.Since(t).Seconds()) }

const namespace = "meterworker"

type factory struct{ registry *prometheus.Registry }

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	f.registry.MustRegister(c)
	return c
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.registry.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	f.registry.MustRegister(g)
	return g
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.registry.MustRegister(g)
	return g
}

// histogram spans 1 ms to about 17 minutes: a send takes milliseconds, a drain
// after an outage takes the outage's length (the last bucket is enough to tell).
func (f factory) histogram(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 21),
		NativeHistogramBucketFactor: 1.1,
	})
	f.registry.MustRegister(h)
	return h
}
