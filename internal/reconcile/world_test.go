package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is both sides, made up: what the outbox and the journal hold, and what Stripe counted.
type world struct {
	t        rapid.TB
	began    time.Time
	messages []Message
	lines    []journal.Line
	letters  []Letter
	floor    uint64

	formula map[string]string           // by event name
	counted map[string]map[int64]*sum   // by meter and customer, by Unix minute
	reads   []string                    // paths
	before  func(path string) *Answer   // answers in Stripe's place; nil: Stripe does
	odd     func(value float64) float64 // what Stripe's float makes of a sum
}

// A bubble's clock begins at midnight, so that the hours before it are whole.
func newWorld(t rapid.TB) *world {
	return &world{
		t: t, began: time.Now().UTC().Truncate(time.Hour), formula: map[string]string{"calls": "sum"},
		counted: map[string]map[int64]*sum{}, before: func(string) *Answer { return nil }, odd: func(v float64) float64 { return v },
	}
}

// period is the five hours before, and one to settle.
func (w *world) period() Period { return Period{w.began.Add(-6 * time.Hour), w.began.Add(-time.Hour)} }

// at is so many minutes into the period.
func (w *world) at(minutes int) time.Time {
	return w.period().Since.Add(time.Duration(minutes) * time.Minute)
}

// store puts an event into the outbox and returns its sequence.
func (w *world) store(name, customer string, value int64, at time.Time) uint64 {
	sequence := uint64(len(w.messages) + 1)
	body := fmt.Sprintf(`{"event_name":%q,"identifier":"id-%d","timestamp":%d,"payload":{"stripe_customer_id":%q,"value":%d}}`, name, sequence, at.Unix(), customer, value)
	w.messages = append(w.messages, Message{
		Subject: usage.EventsSubject(name, customer), Body: []byte(body), Sequence: sequence, StoredAt: at.Add(time.Second),
		Header: func(string) string { return "" },
	})
	return sequence
}

func (w *world) record(sequence uint64, states ...journal.State) {
	for _, s := range states {
		w.lines = append(w.lines, journal.Line{Entry: journal.Entry{Sequence: sequence, State: s}, At: w.messages[sequence-1].StoredAt})
	}
}

// count is Stripe counting an event.
func (w *world) count(name, customer string, value int64, at time.Time) {
	key := name + " " + customer
	if w.counted[key] == nil {
		w.counted[key] = map[int64]*sum{}
	}
	minute := at.Unix() / 60
	if w.counted[key][minute] == nil {
		w.counted[key][minute] = &sum{}
	}
	w.counted[key][minute].add(value)
}

// deliver is the whole way of an event.
func (w *world) deliver(name, customer string, value int64, at time.Time) uint64 {
	sequence := w.store(name, customer, value, at)
	w.record(sequence, journal.Open, journal.Delivered)
	w.count(name, customer, value, at)
	return sequence
}

// bury puts a letter of the event among the dead.
func (w *world) bury(sequence uint64, reason deadletter.Reason, outcome deadletter.Outcome, code string) {
	m := w.messages[sequence-1]
	event, ok := Event(m, "")
	if !ok {
		w.t.Fatal("no event")
	}
	w.letters = append(w.letters, Letter{
		ID: uint64(len(w.letters) + 1), EventName: event.EventName(), Customer: event.Customer(), Value: event.Value(),
		MayBeCounted: outcome != deadletter.Refused, Letter: deadletter.Letter{
			Reason: reason, Outcome: outcome, Code: code, Sequence: sequence, Identifier: event.Identifier(), Timestamp: event.Timestamp(), LastAttempt: m.StoredAt,
		},
	})
}

func (w *world) Messages(ctx context.Context, from time.Time, eventName, customer string, each func(Message) error) error {
	for _, m := range w.messages {
		tokens := strings.Split(m.Subject, ".")
		if m.StoredAt.Before(from) || eventName != "" && tokens[2] != usage.EncodeToken(eventName) || customer != "" && tokens[3] != usage.EncodeToken(customer) {
			continue
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (w *world) Floors(context.Context) ([]uint64, error) { return []uint64{w.floor}, nil }

func (w *world) Read(_ context.Context, _ int, from, _ time.Time, each func(journal.Line) bool) error {
	for _, l := range w.lines {
		if !l.At.Before(from) && !each(l) {
			return nil
		}
	}
	return nil
}

func (w *world) Each(_ context.Context, _, _ string, visit func(Letter) error) error {
	for _, l := range w.letters {
		if err := visit(l); err != nil {
			return err
		}
	}
	return nil
}

// run is the comparison of this world; the settle time is 15 minutes.
func (w *world) run() *Run {
	return &Run{
		Past:   &Past{Outbox: w, History: w, Period: w.period(), Settle: 15 * time.Minute},
		Stripe: &Stripe{Read: w.answer}, Letters: w, LookEvery: 30 * time.Second, Wait: 30 * time.Minute,
		Progress: func(string, int, int) {},
	}
}

func (w *world) do(r *Run) Report {
	w.t.Helper()
	report, err := r.Do(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// answer is Stripe: small pages, oldest first where Stripe gives the newest first, and each page
// begins with the last sum of the one before, as where a new hour came in between.
func (w *world) answer(_ context.Context, path string) (Answer, error) {
	w.reads = append(w.reads, path)
	if a := w.before(path); a != nil {
		return *a, nil
	}
	u, err := url.Parse(path)
	if err != nil {
		return Answer{}, err
	}
	list := map[string]any{"object": "list", "has_more": false}
	if tokens := strings.Split(u.Path, "/"); len(tokens) == 6 {
		list["data"], list["has_more"] = w.sums(tokens[4], u.Query())
	} else {
		var data []any
		for name, formula := range w.formula {
			data = append(data, map[string]any{"id": name, "event_name": name, "status": "active", "default_aggregation": map[string]any{"formula": formula}})
		}
		list["data"] = data
	}
	body, err := json.Marshal(list)
	return Answer{Status: 200, Body: body}, err
}

func (w *world) sums(name string, q url.Values) (page []any, more bool) {
	start, _ := strconv.ParseInt(q.Get("start_time"), 10, 64)
	end, _ := strconv.ParseInt(q.Get("end_time"), 10, 64)
	width := end - start
	if q.Get("value_grouping_window") == "hour" {
		width = hour
	}
	windows := map[int64]*sum{}
	for minute, s := range w.counted[name+" "+q.Get("customer")] {
		if at := minute * 60; at >= start && at < end {
			from := start + (at-start)/width*width
			if windows[from] == nil {
				windows[from] = &sum{}
			}
			windows[from].units, windows[from].events = windows[from].units+s.units, windows[from].events+s.events
		}
	}
	var all []any
	for from := start; from < end; from += width {
		if s := windows[from]; s != nil {
			value := map[string]int64{"sum": s.units, "count": s.events}[w.formula[name]]
			all = append(all, map[string]any{"id": fmt.Sprint(from), "aggregated_value": w.odd(float64(value)), "start_time": from, "end_time": from + width})
		}
	}
	const pageOf = 3
	if after := q.Get("starting_after"); after != "" {
		at := slices.IndexFunc(all, func(s any) bool { return s.(map[string]any)["id"] == after })
		all = all[at:] // the last one again
	}
	return all[:min(pageOf, len(all))], len(all) > pageOf
}
