package reconcile

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

// provable is a world in which one ambiguous letter is settled by the sums: as not counted.
func provable(t *testing.T) *world {
	w := newWorld(t)
	w.deliver("calls", "cus_2", 1, w.at(5))
	w.deliver("calls", "cus_1", 100, w.at(10))
	s := w.store("calls", "cus_1", 5, w.at(20))
	w.record(s, journal.Open, journal.Unknown, journal.Dying, journal.Dead)
	w.bury(s, deadletter.Ambiguous, deadletter.Unknown, "")
	return w
}

func (w *world) lose(sequence uint64) {
	w.messages = slices.DeleteFunc(w.messages, func(m Message) bool { return m.Sequence == sequence })
}

// What is proven by the sums of a comparison that is whole is not proven by those of one that is not.
func TestSettlesByWholeComparisonsOnly(t *testing.T) {
	tests := []struct {
		name string
		set  func(*world, *Run)
		want int
	}{
		{"whole", func(*world, *Run) {}, 1},
		{"one event name", func(_ *world, r *Run) { r.Past.EventName = "calls" }, 0},
		{"one customer", func(_ *world, r *Run) { r.Past.Customer = "cus_1" }, 0},
		{"the first message is gone", func(w *world, _ *Run) { w.lose(1) }, 0},
		{"one in between is gone", func(w *world, _ *Run) { w.lose(2) }, 0},
		{"one goes between two looks", func(w *world, _ *Run) {
			w.before = func(path string) *Answer {
				if strings.Contains(path, "summaries") { // asked for after our side was read
					w.lose(1)
				}
				return nil
			}
		}, 0},
		{"a report that is not worked off", func(w *world, _ *Run) { w.reports.Open = 1 }, 0},
		{"a customer whom Stripe does not know", func(w *world, _ *Run) {
			w.lines = slices.DeleteFunc(w.lines, func(l journal.Line) bool { return l.Sequence == 2 })
			w.floor = 2 // a duplicate: nothing of the customer was delivered
			w.before = func(path string) *Answer {
				if strings.Contains(path, "customer=cus_1&") {
					return &Answer{Status: 404, Body: []byte(`{"error":{"code":"resource_missing","message":"No such customer"}}`)}
				}
				return nil
			}
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := provable(t)
				r := w.run()
				tt.set(w, r)
				if report := w.do(r); len(report.Settlements) != tt.want {
					t.Errorf("%+v", report)
				}
			})
		})
	}
}

// The front of the past is gone where there are records of messages before it; what was kept for as
// long as it was to be leaves none.
func TestFrontIsGone(t *testing.T) {
	for _, tt := range []struct {
		name     string
		customer string
		set      func(*world)
		want     int64
	}{
		{"nothing is gone", "", func(*world) {}, 0},
		{"the first", "", func(w *world) { w.lose(1) }, 1},
		{"the first, of another customer", "cus_9", func(w *world) { w.lose(1) }, 1},
		{"the first and the third", "", func(w *world) { w.lose(1); w.lose(3) }, 2},
		{"all", "", func(w *world) { w.messages = nil }, 4},
		{"all, of one customer", "cus_1", func(w *world) { w.messages = nil }, 4},
		{"what is older than the period", "", func(w *world) {
			for i := range w.lines {
				if w.lines[i].Sequence == 1 {
					w.lines[i].At = w.period().Since.Add(-24 * time.Hour)
				}
			}
			w.lose(1)
		}, 0},
		{"one that was stored before, and delivered late", "", func(w *world) {
			for i := range 2 {
				w.messages[i].StoredAt = w.period().Since.Add(-24 * time.Hour)
			}
			w.lose(1)
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for i := range 4 {
					w.deliver("calls", "cus_1", 5, w.at(i))
				}
				tt.set(w)
				r := w.run()
				r.Past.Customer = tt.customer
				if report := w.do(r); report.Trimmed != tt.want || report.Complete() != (tt.want == 0) {
					t.Errorf("%d are missing, want %d", report.Trimmed, tt.want)
				}
			})
		})
	}
}

// Meters whose sums are not those of our events are named, and neither compared nor settled by.
func TestObstacles(t *testing.T) {
	plain := func(changes map[string]any) map[string]any {
		m := map[string]any{"id": "mtr_1", "event_name": "calls", "status": "active", "default_aggregation": map[string]any{"formula": "sum"}}
		maps.Copy(m, changes)
		return m
	}
	key := func(name string) map[string]any { return map[string]any{"event_payload_key": name} }
	for _, tt := range []struct {
		name     string
		meters   []map[string]any
		obstacle Obstacle
		complete bool
	}{
		{"none", []map[string]any{plain(nil)}, "", true},
		{"the last value", []map[string]any{plain(map[string]any{"default_aggregation": map[string]any{"formula": "last"}})}, NoSum, true},
		{"another customer", []map[string]any{plain(map[string]any{"customer_mapping": key("account")})}, OtherKeys, false},
		{"another value", []map[string]any{plain(map[string]any{"value_settings": key("n")})}, OtherKeys, false},
		{"archived and made anew", []map[string]any{plain(map[string]any{"id": "mtr_0", "status": "inactive"}), plain(nil)}, Shared, false},
		{"archived twice", []map[string]any{plain(map[string]any{"status": "inactive"}), plain(map[string]any{"id": "mtr_0", "status": "inactive"})}, Shared, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := provable(t)
				w.formula, w.further = nil, tt.meters
				w.before = func(path string) *Answer {
					if strings.Contains(path, "summaries") {
						return &Answer{Status: 200, Body: []byte(`{"object":"list","data":[]}`)}
					}
					return nil
				}
				report := w.do(w.run())
				if report.NotRead["calls"] != tt.obstacle || report.Complete() != tt.complete || (report.Cells > 0) != (tt.obstacle == "") {
					t.Errorf("%q, %+v", report.NotRead, report)
				}
				if tt.obstacle != "" && len(report.Settlements) != 0 {
					t.Errorf("%+v", report.Settlements)
				}
			})
		})
	}
}

// A 404 that is none of Stripe's own ends the comparison: it says nothing of the customer's usage.
func TestAnotherServersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := provable(t)
		w.before = func(path string) *Answer {
			if strings.Contains(path, "summaries") {
				return &Answer{Status: 404, Body: []byte("<html>not found</html>")}
			}
			return nil
		}
		if report, err := w.run().Do(t.Context()); err == nil || !strings.Contains(err.Error(), "404") || len(report.Settlements) > 0 {
			t.Errorf("%v, %+v", err, report)
		}
	})
}
