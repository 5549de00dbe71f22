package outbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func (w *world) reports(t *testing.T, s *Streams) *Reports {
	t.Helper()
	r, err := s.Reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func next(t *testing.T, r *Reports) *Report {
	t.Helper()
	report, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// One report a hundred times at once is stored once; what is put again days later would be
// too, and is known as finished then.
func TestReportIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	r := w.reports(t, w.open(t, usual))
	var puts sync.WaitGroup
	for range 100 {
		puts.Go(func() {
			if err := r.Put(t.Context(), "evt_1", "no_meter_found", []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	puts.Wait()
	if info := w.info(t, ReportsStream); info.State.Msgs != 1 || info.Config.Duplicates < 72*time.Hour {
		t.Errorf("%d stored, ids remembered for %s", info.State.Msgs, info.Config.Duplicates)
	}
	if stored, err := r.stream.GetLastMsgForSubject(t.Context(), "usage.reports.no_meter_found"); err != nil || string(stored.Data) != "x" {
		t.Errorf("stored %v, %v", stored, err)
	}
}

// A report that is not acked comes again, at once or after a delay, to whoever asks; what
// came of it and who is marked is no report.
func TestReportsAreTaken(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	r := w.reports(t, s)
	for _, id := range []string{"evt_1", "evt_2"} {
		if err := r.Put(t.Context(), id, "no_meter_found", []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"finish": r.Finish(t.Context(), "evt_1", []byte("{}")), "name": r.Name(t.Context(), 7, "evt_1"), "name again": r.Name(t.Context(), 7, "evt_2"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	first := next(t, r)
	if string(first.Body()) != "evt_1" || first.Tries() != 1 || time.Since(first.StoredAt()) > patience {
		t.Fatalf("took %+v", first)
	}
	if err := first.Alive(); err != nil {
		t.Error(err)
	}
	if err := first.Again(time.Millisecond); err != nil {
		t.Fatal(err)
	}
	tries := map[string]int{}
	other := w.reports(t, s) // another worker
	for len(tries) < 2 || tries["evt_1"] < 2 {
		report := next(t, other)
		if report == nil {
			t.Fatalf("nothing came; so far %v", tries)
		}
		tries[string(report.Body())] = report.Tries()
		if err := report.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what string
		is   func() (bool, error)
		want bool
	}{
		{"evt_1 finished", func() (bool, error) { return r.Finished(t.Context(), "evt_1") }, true},
		{"evt_2 finished", func() (bool, error) { return r.Finished(t.Context(), "evt_2") }, false},
		{"7 named", func() (bool, error) { return r.Named(t.Context(), 7) }, true},
		{"70 named", func() (bool, error) { return r.Named(t.Context(), 70) }, false},
	} {
		if is, err := c.is(); err != nil || is != c.want {
			t.Errorf("%s: %v, %v", c.what, is, err)
		}
	}
}

// A stream that could lose reports, or is of the other mode, is refused.
func TestReportsDangers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string
	}{
		"memory":      {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage is Memory"},
		"discard old": {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard is DiscardOld"},
		"work queue":  {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "retention is WorkQueue"},
		"short age":   {func(c *jetstream.StreamConfig) { c.MaxAge = 39 * 24 * time.Hour }, "max_age is 936h"},
		"window":      {func(c *jetstream.StreamConfig) { c.Duplicates = 2 * time.Minute }, "duplicate_window is 2m"},
		"live":        {func(c *jetstream.StreamConfig) { c.Metadata["mode"] = "live" }, "metadata mode is live"},
		"subjects":    {func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] }, "subjects is"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.open(t, usual)
			cfg := s.reportsConfig()
			c.change(&cfg)
			if _, err := w.js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := s.Reports(t.Context())
			refusal(t, err, "stream "+ReportsStream, c.says)
		})
	}
}

// Without METERWORKER_MANAGE_STREAMS nothing is created, and what is missing is named.
func TestReportsAreOnlyChecked(t *testing.T) {
	w := newWorld(t)
	managed := w.open(t, usual)
	checked := usual
	checked.Manage = false
	s := w.open(t, checked)
	_, err := s.Reports(t.Context())
	refusal(t, err, ReportsStream, "does not exist")
	stream, err := w.js.CreateStream(t.Context(), managed.reportsConfig())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Reports(t.Context())
	refusal(t, err, "consumer worker of stream "+ReportsStream, "does not exist")
	if stream.CachedInfo().State.Consumers > 0 {
		t.Error("a consumer was created")
	}
	w.reports(t, managed)
	w.reports(t, s)
}

// A full stream refuses; what cannot be looked for is an error and never a "no".
func TestReportsOutOfReach(t *testing.T) {
	w := newWorld(t)
	r := w.reports(t, w.open(t, usual))
	w.update(t, ReportsStream, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
	if err := r.Put(t.Context(), "evt_1", "no_meter_found", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(t.Context(), "evt_2", "no_meter_found", nil); err == nil {
		t.Error("a full stream takes a report")
	}
	if err := w.js.DeleteStream(t.Context(), ReportsStream); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Finished(t.Context(), "evt_1"); err == nil {
		t.Error("not finished, says a stream that is gone")
	}
	if _, err := r.Next(); err == nil {
		t.Error("nothing there, says a stream that is gone")
	}
	// Somebody else's stream with these subjects is not ours.
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"usage.reports.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(t.Context(), "evt_3", "no_meter_found", nil); err == nil {
		t.Error("stored elsewhere")
	}
}

// A message is read by the number that identifiers and letters are made of, also where an old
// copy was put back and numbers go on from beyond it.
func TestKept(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	for i := range 5 {
		w.publish(t, "usage.events.a=2Eb.cus_1", fmt.Sprint("body ", i+1))
	}
	m, found, err := s.Kept(t.Context(), 3)
	if err != nil || !found || m.Subject != "usage.events.a=2Eb.cus_1" || string(m.Body) != "body 3" || m.Sequence != 3 || m.Header("Nats-Msg-Id") != "" {
		t.Errorf("%+v, %v, %v", m, found, err)
	}
	raw, err := s.usage.GetMsg(t.Context(), 3)
	if err != nil || !strings.HasPrefix(raw.Subject, fmt.Sprintf("usage.part.%d.", m.Partition)) || !m.StoredAt.Equal(raw.Time) {
		t.Errorf("partition %d, stored %s; it lies on %s since %s", m.Partition, m.StoredAt, raw.Subject, raw.Time)
	}
	if err := s.usage.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{0, 2, 6, 1 << 63} {
		if _, found, err := s.Kept(t.Context(), sequence); found || err != nil {
			t.Errorf("%d: %v, %v", sequence, found, err)
		}
	}
	s.chronicle.Store(&chronicle{Declarations: []Declaration{
		{Stream: UsageStream, Above: 3, Shift: 100}, {Stream: JournalStream, Above: 1, Shift: 7}, {Stream: UsageStream, Above: 4, Shift: 1000},
	}})
	var bodies []string
	for _, sequence := range []uint64{3, 4, 5, 104, 105, 1004, 1005} {
		m, found, err := s.Kept(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if found {
			bodies = append(bodies, fmt.Sprint(m.Sequence, " ", string(m.Body)))
		}
	}
	if want := []string{"3 body 3", "104 body 4", "1005 body 5"}; !slices.Equal(bodies, want) {
		t.Errorf("%q, want %q", bodies, want)
	}
}
