package metrics

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var labels = Labels{
	Reasons:       []string{"undecodable", "ambiguous"},
	Classes:       []string{"accepted", "no_answer"},
	BreakerStates: []string{"closed", "halted"},
	LookupResults: []string{"fresh", "unknown"},

	WebhookResults: []string{"stored", "unsigned"},
	RejectionCodes: []string{"no_meter"},
}

// contract is the list that dashboards and alerts rely on, with the labels of each.
var contract = map[string][]string{
	"received_total": nil, "settled_total": {"disposition"}, "dead_letters_total": {"reason"},
	"units_total": {"disposition", "event_name"}, "stripe_requests_total": {"class"}, "stripe_request_seconds": nil,
	"delivery_seconds": nil, "permit_wait_seconds": nil, "permits_total": nil, "rate_limit": nil, "in_flight": nil,
	"lanes_busy": nil, "outbox_pending": nil, "outbox_ready": nil, "outbox_oldest_seconds": nil, "dlq_messages": {"reason"},
	"breaker_state": {"state"}, "partitions_owned": nil, "ledger_identifiers": nil, "ledger_bytes": nil,
	"rate_configured": nil, "partitions": nil, "ledger_max_bytes": nil, "stream_bytes": {"stream"}, "stream_max_bytes": {"stream"},
	"ready": {"check"}, "units_expiring": {"event_name"},
	"webhook_requests_total": {"result"}, "rejected_later_total": {"code"}, "rejected_unnamed_total": {"event_name"},
	"ledger_lookups_total": {"result"}, "intents_open": nil, "fence_refusals_total": nil, "trace_spans_dropped_total": nil,
}

// series is one label set of a metric.
type series struct {
	labels map[string]string
	value  float64 // of a counter or gauge
	count  uint64  // observations of a histogram
	sum    float64
	bounds []float64 // upper ones of its buckets
}

// gather returns our own metrics by name, without the prefix.
func gather(t *testing.T, s *Set) map[string][]series {
	t.Helper()
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]series{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "meterworker_")
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			one := series{labels: map[string]string{}, value: m.GetCounter().GetValue() + m.GetGauge().GetValue()}
			for _, pair := range m.GetLabel() {
				one.labels[pair.GetName()] = pair.GetValue()
			}
			one.count, one.sum = m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			for _, bucket := range m.GetHistogram().GetBucket() {
				one.bounds = append(one.bounds, bucket.GetUpperBound())
			}
			all[name] = append(all[name], one)
		}
	}
	return all
}

// fill gives a series to each metric whose labels are not a closed list of ours.
func fill(s *Set) {
	s.Units("api_calls", "delivered", 1)
	s.Expiring(map[string]float64{"api_calls": 1})
	s.StreamBytes.WithLabelValues("USAGE")
	s.StreamMaxBytes.WithLabelValues("USAGE")
	s.Ready.WithLabelValues("nats")
}

func TestLint(t *testing.T) {
	s := New(labels)
	fill(s)
	problems, err := testutil.GatherAndLint(s.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNamesAndLabels(t *testing.T) {
	s := New(labels)
	fill(s)
	all := gather(t, s)
	if got, want := slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(contract)); !slices.Equal(got, want) {
		t.Errorf("metrics are\n%v, want\n%v", got, want)
	}
	for name, every := range all {
		for _, one := range every {
			if got := slices.Sorted(maps.Keys(one.labels)); !slices.Equal(got, contract[name]) {
				t.Errorf("%s has the labels %v, want %v", name, got, contract[name])
			}
		}
	}
}

// TestRuntimeMetrics: Go's and the process's own metrics are there, too.
func TestRuntimeMetrics(t *testing.T) {
	families, err := New(labels).Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestClosedSetsExistAtZero(t *testing.T) {
	all := gather(t, New(labels))
	for name, want := range map[string][]string{
		"settled_total":          Dispositions,
		"webhook_requests_total": labels.WebhookResults,
		"dead_letters_total":     labels.Reasons,
		"dlq_messages":           labels.Reasons,
		"stripe_requests_total":  labels.Classes,
		"breaker_state":          labels.BreakerStates,
		"ledger_lookups_total":   labels.LookupResults,
	} {
		var got []string
		for _, one := range all[name] {
			label := one.labels[contract[name][0]]
			got = append(got, label)
			if one.value != 0 {
				t.Errorf("%s{%s} begins at %v", name, label, one.value)
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
			t.Errorf("%s exists for %v, want %v", name, got, want)
		}
	}
}

func TestDispositions(t *testing.T) {
	if want := []string{"delivered", "duplicate", "dead", "released"}; !slices.Equal(Dispositions, want) {
		t.Errorf("dispositions are %v, want %v", Dispositions, want)
	}
}

func TestEventNamesAreBounded(t *testing.T) {
	s := New(labels)
	var all sync.WaitGroup
	for i := range 4 * MaxEventNames {
		all.Go(func() { s.Units(fmt.Sprintf("event_%d", i), "delivered", 1) })
	}
	all.Wait()
	if n := testutil.CollectAndCount(s.units); n != MaxEventNames+1 {
		t.Errorf("%d series, want %d names and one for all others", n, MaxEventNames)
	}
	if got := testutil.ToFloat64(s.units.WithLabelValues("other", "delivered")); got != 3*MaxEventNames {
		t.Errorf("%v counted as other, want %d", got, 3*MaxEventNames)
	}
	s.Units("event_late", "delivered", 5)
	if got := testutil.ToFloat64(s.units.WithLabelValues("other", "delivered")); got != 3*MaxEventNames+5 {
		t.Errorf("%v counted as other after one more", got)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		name, eventName    string
		value              int64
		label, disposition string
		want               float64
	}{
		{"positive", "api_calls", 7, "api_calls", "delivered", 7},
		{"zero", "api_calls", 0, "api_calls", "delivered", 0},
		{"a correction", "api_calls", -7, "api_calls", "delivered_negative", 7},
		{"least", "api_calls", math.MinInt64, "api_calls", "delivered_negative", 1 << 63},
		{"no event", "", 3, "other", "delivered", 3},
		{"no text", "a\xff", 3, "other", "delivered", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(labels)
			s.Units(c.eventName, "delivered", c.value)
			if n := testutil.CollectAndCount(s.units); n != 1 {
				t.Errorf("%d series, want 1", n)
			}
			if got := testutil.ToFloat64(s.units.WithLabelValues(c.label, c.disposition)); got != c.want {
				t.Errorf("units_total{%s,%s} is %v, want %v", c.label, c.disposition, got, c.want)
			}
		})
	}
}

func TestState(t *testing.T) {
	s := New(labels)
	for _, now := range []string{"halted", "closed", "halted"} {
		s.State(now, labels.BreakerStates)
		for _, state := range labels.BreakerStates {
			want := 0.0
			if state == now {
				want = 1
			}
			if got := testutil.ToFloat64(s.Breaker.WithLabelValues(state)); got != want {
				t.Errorf("in state %s: breaker_state{%s} is %v", now, state, got)
			}
		}
	}
}

// Expiring replaces what was told before; names past the bound share one series.
func TestExpiring(t *testing.T) {
	s := New(labels)
	s.Expiring(map[string]float64{"api_calls": 7, "": 2, "a\xff": 3})
	if got := testutil.ToFloat64(s.expiring.WithLabelValues("other")); got != 5 {
		t.Errorf("%v units of other names, want 5", got)
	}
	s.Expiring(map[string]float64{"storage": 1})
	if n := testutil.CollectAndCount(s.expiring); n != 1 {
		t.Errorf("%d series, want the last ones only", n)
	}
}

func TestSince(t *testing.T) {
	s := New(labels)
	Since(s.DeliverySeconds, time.Now().Add(-3*time.Hour))
	h := gather(t, s)["delivery_seconds"][0]
	if h.count != 1 || h.sum < 3*3600 || h.sum > 4*3600 {
		t.Errorf("observed %d, sum %v s; want one of three hours", h.count, h.sum)
	}
	if first, last := h.bounds[0], slices.Max(h.bounds); first != 0.001 || last < 900 {
		t.Errorf("buckets from %v to %v s", first, last)
	}
}
