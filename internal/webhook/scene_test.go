package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

var (
	start   = time.Date(2025, 10, 16, 11, 6, 10, 0, time.UTC) // of the validation
	errDown = errors.New("out of reach")
)

// scene is everything that a worker sees.
type scene struct {
	t        *testing.T
	worker   *Worker
	messages map[uint64]Message
	lines    []journal.Line
	answers  map[string]Answer // by path
	asked    []string

	finished map[string]result
	marks    map[uint64]string
	letters  []deadletter.Letter
	bodies   [][]byte

	failMark, failPublish, failHistory error

	throttled, permits, read, looks int
	rejected, unnamed               map[string]int
}

const (
	sceneEvent = "evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0"
	sceneMeter = "/v1/billing/meters/mtr_test_61R9"
)

func newScene(t *testing.T) *scene {
	s := &scene{
		t: t, messages: map[uint64]Message{}, finished: map[string]result{}, marks: map[uint64]string{},
		answers:  map[string]Answer{sceneMeter: {Status: 200, Body: []byte(`{"event_name":"api_calls"}`)}},
		rejected: map[string]int{}, unnamed: map[string]int{},
	}
	s.worker = NewWorker(WorkerConfig{Epoch: "abc"}, Parts{
		Inbox: s, Stripe: s, Permits: s, Outbox: s, History: past{s}, Letters: s, Counts: s, Log: zap.NewNop(),
	})
	return s
}

// sent puts a message into the outbox, and into the journal in the states given, a second apart.
func (s *scene) sent(sequence uint64, eventName, customer, identifier string, states ...journal.State) {
	s.stored(sequence, Message{
		Subject: usage.EventsSubject(eventName, customer), Header: func(string) string { return "" },
		Body: fmt.Appendf(nil, `{"event_name":%q,"identifier":%q,"timestamp":%d,"payload":{"stripe_customer_id":%q,"value":1}}`,
			eventName, identifier, start.Unix(), customer),
	}, states...)
}

func (s *scene) stored(sequence uint64, m Message, states ...journal.State) {
	m.Sequence, m.Partition, m.StoredAt = sequence, int(sequence%3), start.Add(-time.Second)
	s.messages[sequence] = m
	for i, state := range states {
		s.lines = append(s.lines, journal.Line{
			Entry:     journal.Entry{Sequence: sequence, State: state},
			Partition: m.Partition, At: start.Add(time.Duration(i) * time.Second),
		})
	}
}

// says makes Stripe's report.
func (s *scene) says(count int, types string) {
	s.answers["/v2/core/events/"+sceneEvent] = Answer{Status: 200, Body: fmt.Appendf(nil,
		`{"id":%q,"object":"v2.core.event","type":%q,"livemode":false,"created":%q,"data":{"developer_message_summary":"There were errors",`+
			`"validation_start":%q,"validation_end":%q,"reason":{"error_count":%d,"error_types":[%s]}}}`,
		sceneEvent, TypeErrorReport, start.Add(10*time.Second).Format(time.RFC3339), start.Format(time.RFC3339),
		start.Add(10*time.Second).Format(time.RFC3339), count, types)}
}

// failing is one code with samples by identifier.
func failing(code string, count int, identifiers ...string) string {
	samples := make([]string, len(identifiers))
	for i, identifier := range identifiers {
		samples[i] = fmt.Sprintf(`{"error_message":"not known","request":{"identifier":%q}}`, identifier)
	}
	return fmt.Sprintf(`{"code":%q,"error_count":%d,"sample_errors":[%s]}`, code, count, strings.Join(samples, ","))
}

const customerNotFound = "meter_event_customer_not_found"

// paper is one report in the worker's hands.
type paper struct {
	tries int
	acked bool
	again time.Duration
}

func (*paper) Body() []byte                  { return []byte(notice()) }
func (p *paper) Tries() int                  { return p.tries }
func (p *paper) Ack() error                  { p.acked = true; return nil }
func (p *paper) Again(d time.Duration) error { p.again = d; return nil }
func (*paper) Alive() error                  { return nil }
func (s *scene) Next() (Item, error)         { s.looks++; return nil, errDown }
func (s *scene) Letter(string)               {}
func (s *scene) Rejected(code string, n int) { s.rejected[code] += n }
func (s *scene) Unnamed(name string, n int)  { s.unnamed[name] += n }
func (s *scene) Throttled(time.Duration)     { s.throttled++ }
func (s *scene) Take(context.Context) (Permit, error) {
	s.permits++
	return s, nil
}
func (s *scene) Spend(context.Context) error { return nil }
func (s *scene) Done()                       {}

func (s *scene) Finish(_ context.Context, id string, data []byte) error {
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		s.t.Fatal(err)
	}
	s.finished[id] = r
	return nil
}

func (s *scene) Finished(_ context.Context, id string) (bool, error) {
	_, is := s.finished[id]
	return is, nil
}

func (s *scene) Name(_ context.Context, sequence uint64, id string) error {
	if s.failMark == nil {
		s.marks[sequence] = id
	}
	return s.failMark
}

func (s *scene) Named(_ context.Context, sequence uint64) (bool, error) {
	_, is := s.marks[sequence]
	return is, nil
}

func (s *scene) Read(_ context.Context, path string) (Answer, error) {
	s.asked = append(s.asked, path)
	answer, known := s.answers[path]
	if !known {
		return Answer{}, errDown
	}
	return answer, nil
}

func (s *scene) Message(_ context.Context, sequence uint64) (Message, bool, error) {
	s.read++
	m, found := s.messages[sequence]
	return m, found, nil
}

func (s *scene) Publish(_ context.Context, l deadletter.Letter, _ map[string]string, body []byte) error {
	if s.failPublish == nil {
		s.letters, s.bodies = append(s.letters, l), append(s.bodies, body)
	}
	return s.failPublish
}

func (s *scene) Stored(_ context.Context, l deadletter.Letter, _ time.Time) (bool, error) {
	return slices.ContainsFunc(s.letters, func(old deadletter.Letter) bool { return old.Sequence == l.Sequence }), nil
}

// past is the scene's journal.
type past struct{ *scene }

func (p past) Read(_ context.Context, partition int, from, until time.Time, each func(journal.Line) bool) error {
	for _, l := range p.lines {
		if partition != journal.AnyPartition && partition != l.Partition || l.At.Before(from) {
			continue
		}
		if l.At.After(until) || !each(l) {
			break
		}
	}
	return p.failHistory
}

// take has the worker take the report once.
func (s *scene) take(tries int) *paper {
	s.t.Helper()
	p := &paper{tries: tries}
	s.worker.handle(s.t.Context(), p)
	if p.acked == (p.again > 0) {
		s.t.Fatalf("acked %v, again in %s: it is one or the other", p.acked, p.again)
	}
	return p
}

// lettersOf are the sequences that have a letter, in order.
func (s *scene) lettersOf() []uint64 {
	var all []uint64
	for _, l := range s.letters {
		all = append(all, l.Sequence)
	}
	slices.Sort(all)
	return all
}

func (s *scene) want(named, unnamed int, sequences ...uint64) {
	s.t.Helper()
	if got := s.lettersOf(); !slices.Equal(got, sequences) {
		s.t.Errorf("letters of %v, want %v", got, sequences)
	}
	if r := s.finished[sceneEvent]; r.Named != named || r.Unnamed != unnamed || r.Named+r.Unnamed != r.Count {
		s.t.Errorf("result %+v, want %d named and %d not", r, named, unnamed)
	}
	if s.unnamed["api_calls"] != unnamed {
		s.t.Errorf("counted %v unnamed, want %d", s.unnamed, unnamed)
	}
}
