package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/replay"
	"github.com/meterworker/meterworker/usage"
)

// units are what the metric says now.
func units(t *testing.T, set *metrics.Set) map[string]float64 {
	t.Helper()
	families, err := set.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "meterworker_units_expiring" {
			for _, m := range family.GetMetric() {
				told[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	return told
}

// Letters that expire within a day are told, by event name; neither those with more time
// left nor those without any, and no more once they are gone or another worker speaks.
func TestExpiringUnits(t *testing.T) {
	o := newTestOutbox(t)
	now := time.Now()
	for _, tt := range []struct {
		left        time.Duration
		name, value string
	}{
		{time.Hour, "api_calls", `300`},
		{23 * time.Hour, "api_calls", `"-7"`},
		{time.Minute, "storage", `2`},
		{time.Minute, "storage", `"2.5"`},
		{25 * time.Hour, "api_calls", `1000`},
		{-time.Minute, "api_calls", `5000`},
	} {
		l := deadLetter(deadletter.Rejected)
		l.Timestamp = now.Add(tt.left - usage.MaxAge).Unix()
		o.bury(l, fmt.Sprintf(`{"event_name":%q,"payload":{"stripe_customer_id":"cus_1","value":%s}}`, tt.name, tt.value))
	}
	set := metrics.New(metrics.Labels{})
	opened := 0
	e := &expiring{metrics: set, open: func(ctx context.Context) (nextLetter, error) {
		opened++
		return replay.Open(ctx, o.js)
	}}
	step := func(mine bool, want map[string]float64) {
		t.Helper()
		if err := e.step(t.Context(), mine, now); err != nil {
			t.Fatal(err)
		}
		if got := units(t, set); !maps.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	step(false, map[string]float64{})
	step(true, map[string]float64{"api_calls": 307, "storage": 2})
	if code, _, stderr := o.run(nil, "dlq", "replay", "1", "2", "3", "4", "--yes"); code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	step(true, map[string]float64{})
	l := deadLetter(deadletter.Rejected)
	l.Timestamp = now.Add(time.Hour - usage.MaxAge).Unix()
	o.bury(l, eventBody)
	step(true, map[string]float64{"api_calls": 3})
	step(false, map[string]float64{})
	if step(true, map[string]float64{"api_calls": 3}); opened != 2 {
		t.Errorf("opened %d times", opened)
	}
}

// letterBooks answers from a list; an error where there is one for the id.
type letterBooks struct {
	count int
	fails map[uint64]error
	asked int
}

func (b *letterBooks) Next(_ context.Context, from uint64) (replay.Letter, error) {
	b.asked++
	from = max(from, 1)
	if err := b.fails[from]; err != nil {
		delete(b.fails, from)
		return replay.Letter{}, err
	}
	if from > uint64(b.count) {
		return replay.Letter{}, replay.ErrNotFound
	}
	return replay.Letter{ID: from}, nil
}

// A step reads a bounded number, and the next goes on there; a failure begins again.
func TestExpiringGoesLittleByLittle(t *testing.T) {
	books := &letterBooks{count: 2*lettersAStep + 1, fails: map[uint64]error{lettersAStep + 5: errors.New("no answer")}}
	e := &expiring{metrics: metrics.New(metrics.Labels{}), open: func(context.Context) (nextLetter, error) { return books, nil }}
	for i, want := range []struct {
		asked int
		err   string
		next  uint64
	}{
		{lettersAStep, "", lettersAStep + 1},
		{lettersAStep + 5, "no answer", 0},
		{2*lettersAStep + 5, "", lettersAStep + 1},
		{3*lettersAStep + 5, "", 2*lettersAStep + 1},
		{3*lettersAStep + 7, "", 0},
	} {
		err := e.step(t.Context(), true, time.Now())
		if books.asked != want.asked || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) || e.next != want.next {
			t.Errorf("step %d: asked %d, %v, next %d, want %+v", i, books.asked, err, e.next, want)
		}
	}
}

func TestPermitCount(t *testing.T) {
	var all atomic.Uint64
	c := permitCount{all: &all}
	at := time.Now()
	all.Store(5)
	for i, tt := range []struct {
		granted uint64
		after   time.Duration
		want    float64
	}{{0, 0, 0}, {10, 2 * time.Second, 5}, {0, 2 * time.Second, 0}, {3, 0, 0}, {2, time.Second, 2}} {
		all.Add(tt.granted)
		at = at.Add(tt.after)
		if got := c.rate(at); got != tt.want {
			t.Errorf("look %d: %v, want %v", i, got, tt.want)
		}
	}
}
