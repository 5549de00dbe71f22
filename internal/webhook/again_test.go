package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// The same report, or another one about the same usage, makes no second letter, also after
// the letter was replayed and is gone.
func TestNoSecondLetter(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	s.says(1, failing(customerNotFound, 1, "a"))
	s.take(1)
	s.take(2)
	s.letters = nil // replayed by a person
	s.take(3)
	delete(s.finished, sceneEvent) // as if it were another report
	s.take(1)
	s.want(1, 0)
	if s.unnamed["api_calls"] != 0 || s.rejected[customerNotFound] != 2 {
		t.Errorf("counted %v, %v", s.rejected, s.unnamed)
	}
}

// TestCrashes stops the worker after each of its writes; the next try makes no second letter.
func TestCrashes(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	s.sent(2, "api_calls", "cus_1", "b", journal.Delivered)
	s.says(2, failing(customerNotFound, 2, "a", "b"))
	s.failPublish = errDown
	if s.take(1).acked || len(s.finished) != 0 {
		t.Fatal("acked without its letters")
	}
	s.failPublish, s.failMark = nil, errDown
	if s.take(2).acked || len(s.letters) != 1 {
		t.Fatalf("letters %v", s.lettersOf())
	}
	s.failMark = nil
	if !s.take(1).acked { // as another report about the same usage would
		t.Fatal("not acked")
	}
	s.want(2, 0, 1, 2)
	if len(s.marks) != 2 {
		t.Errorf("marks %v", s.marks)
	}
}

// Usage that is still under way has its letter when it is delivered, and none when it dies.
func TestUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		states  []journal.State
		end     journal.State
		letters []uint64
	}{
		"open, then delivered":                   {[]journal.State{journal.Open}, journal.Delivered, []uint64{1, 2}},
		"unknown, then delivered":                {[]journal.State{journal.Unknown}, journal.Delivered, []uint64{1, 2}},
		"unknown, then dead":                     {[]journal.State{journal.Unknown}, journal.Dead, []uint64{2}},
		"unknown, then not sent, then delivered": {[]journal.State{journal.Unknown, journal.Open, journal.NotSent}, journal.Delivered, []uint64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.sent(1, "api_calls", "cus_1", "a", c.states...)
			s.sent(2, "api_calls", "cus_1", "b", journal.Delivered)
			s.says(2, failing(customerNotFound, 2, "a", "b"))
			if s.take(1).acked || !slices.Equal(s.lettersOf(), []uint64{2}) || len(s.rejected) != 0 {
				t.Fatalf("letters %v, counted %v", s.lettersOf(), s.rejected)
			}
			// Hours later, far outside of the report's window.
			s.lines = append(s.lines, journal.Line{Entry: journal.Entry{Sequence: 1, State: c.end}, Partition: 1, At: start.Add(5 * time.Hour)})
			if !s.take(2).acked {
				t.Fatal("not acked")
			}
			s.want(2, 0, c.letters...)
		})
	}
}

// TestStripesAnswers: what may change by itself is tried again, and nothing is given up in silence.
func TestStripesAnswers(t *testing.T) {
	event := "/v2/core/events/" + sceneEvent
	for _, c := range []struct {
		name   string
		path   string
		answer *Answer
		tries  int
		state  string // of the result; "" for again
		again  time.Duration
	}{
		{"no answer", event, nil, 1, "", 5 * time.Second},
		{"no answer, often", event, nil, 30, "", 10 * time.Minute},
		{"throttled", event, &Answer{Status: 429, Throttled: true, RetryAfter: 70 * time.Second}, 1, "", 70 * time.Second},
		{"contended", event, &Answer{Status: 429}, 3, "", 20 * time.Second},
		{"failing", event, &Answer{Status: 500}, 2, "", 10 * time.Second},
		{"key refused", event, &Answer{Status: 401}, 100, "", 10 * time.Minute},
		{"key without the right", event, &Answer{Status: 403}, 100, "", 10 * time.Minute},
		{"redirect", event, &Answer{Status: 302}, 1, "", 5 * time.Second},
		{"not there yet", event, &Answer{Status: 404}, missingAfter - 1, "", 10 * time.Minute},
		{"not there", event, &Answer{Status: 404}, missingAfter, "not_found", 0},
		{"no report", event, &Answer{Status: 200, Body: []byte(`{"id":"evt_other"}`)}, 1, "", 5 * time.Second},
		{"no report, often", event, &Answer{Status: 200, Body: []byte(`<html>`)}, missingAfter, "unreadable", 0},
		{"the meter does not answer", sceneMeter, nil, 1, "", 5 * time.Second},
		{"the meter is no meter", sceneMeter, &Answer{Status: 200, Body: []byte(`{}`)}, 1, "", 5 * time.Second},
		{"the meter may not be read", sceneMeter, &Answer{Status: 403}, 1, "joined", 0},
		{"the meter is gone", sceneMeter, &Answer{Status: 404}, 1, "joined", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
			s.says(1, failing(customerNotFound, 1, "a"))
			delete(s.answers, c.path)
			if c.answer != nil {
				s.answers[c.path] = *c.answer
			}
			p := s.take(c.tries)
			if p.again != c.again || s.finished[sceneEvent].State != c.state {
				t.Errorf("again in %s, result %+v", p.again, s.finished[sceneEvent])
			}
			if (s.throttled > 0) != (c.name == "throttled") || s.permits != len(s.asked) {
				t.Errorf("throttled %d, %d permits for %d questions", s.throttled, s.permits, len(s.asked))
			}
			if (len(s.letters) > 0) != (c.state == "joined") {
				t.Errorf("%d letters", len(s.letters))
			}
		})
	}
}

func TestOutOfReach(t *testing.T) {
	s := newScene(t)
	s.sent(1, "api_calls", "cus_1", "a", journal.Delivered)
	s.says(1, failing(customerNotFound, 1, "a"))
	s.failHistory = errDown
	if s.take(1).acked || len(s.finished) > 0 {
		t.Error("given up without the journal")
	}
	s.failHistory = nil
	s.take(2)
	s.want(1, 0, 1)
}

// 100,000 samples are looked for in one pass over the journal.
func TestManySamples(t *testing.T) {
	s := newScene(t)
	identifiers := make([]string, 100_000)
	for i := range identifiers {
		identifiers[i] = fmt.Sprint("nobody-", i)
	}
	identifiers[99_999] = "ours"
	s.sent(1, "api_calls", "cus_1", "ours", journal.Delivered)
	s.says(100_000, failing(customerNotFound, 100_000, identifiers...))
	s.take(1)
	s.want(1, 99_999, 1)
	if s.read > len(margins) {
		t.Errorf("%d messages read of one", s.read)
	}
}

// More usage than may be looked at: what is found counts, and the result says so.
func TestTooMuchToLookAt(t *testing.T) {
	s := newScene(t)
	for i := range uint64(maxMessages + 10) {
		s.sent(i+1, "api_calls", "cus_1", fmt.Sprint("req-", i+1), journal.Delivered)
	}
	s.says(2, failing(customerNotFound, 2, "req-7", fmt.Sprint("req-", maxMessages+9)))
	s.take(1)
	s.want(1, 1, 7)
	if !s.finished[sceneEvent].Cut {
		t.Error("the result does not say that the search was cut")
	}
}

// A worker that cannot reach the stream waits between its tries, and ends when it is told to.
func TestRunWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(done); s.worker.Run(ctx) }()
		<-time.After(3*leastAgain + time.Second)
		cancel()
		<-done
		if s.looks != 4 {
			t.Errorf("%d looks in 16 s, want 4", s.looks)
		}
	})
}

func TestParseReport(t *testing.T) {
	n, what, err := parseNotification([]byte(notice()), false)
	if err != nil || what != report {
		t.Fatal(err, what)
	}
	const head = `{"id":"` + sceneEvent + `","type":"v1.billing.meter.error_report_triggered","livemode":false,`
	for name, body := range map[string]string{
		"empty": "", "null": "null", "a list": "[]", "cut": head,
		"another id":   strings.Replace(head, "evt_", "evt_x", 1) + `"data":{"reason":{}}}`,
		"another type": strings.Replace(head, "error_report_triggered", "no_meter_found", 1) + `"data":{"reason":{}}}`,
		"another mode": strings.Replace(head, "false", "true", 1) + `"data":{"reason":{}}}`,
		"no mode":      strings.Replace(head, `"livemode":false,`, "", 1) + `"data":{"reason":{}}}`,
		"no data":      head + `"data":null}`, "no reason": head + `"data":{}}`, "text for a number": head + `"data":{"reason":{"error_count":"10"}}}`,
	} {
		if _, _, err := parseReport([]byte(body), n); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	r, _, err := parseReport([]byte(head+`"created":"2025-10-16T11:06:20Z","data":{"reason":{"error_count":-5,"error_types":[{"code":"x","error_count":-1}]}}}`), n)
	if err != nil || r.Count != 0 || r.ByCode["x"] != 0 || r.End.Sub(r.Start) != 10*time.Second || !r.End.Equal(start.Add(10*time.Second)) {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whatever Stripe, or whoever has its secret, writes: counts are not negative, what is named is
// bounded, and the numbers add up.
func FuzzReport(f *testing.F) {
	n, _, _ := parseNotification([]byte(notice()), false)
	s := newScene(&testing.T{})
	s.says(10, failing(customerNotFound, 8, "a", "b")+","+failing("x", -3, "c"))
	f.Add([]byte(notice()), []byte(`{"id":"`+sceneEvent+`","type":"`+TypeErrorReport+`","livemode":false,"data":{"reason":{"error_count":9223372036854775807,`+
		`"error_types":[{"code":"a","error_count":9223372036854775807},{"code":"a","error_count":9223372036854775807}]}}}`))
	f.Add([]byte(notice()), s.answers["/v2/core/events/"+sceneEvent].Body)
	f.Fuzz(func(t *testing.T, notification, full []byte) {
		if other, what, err := parseNotification(notification, false); err == nil && what == report && (!eventID.MatchString(other.ID) || tokens[other.Type] == "") {
			t.Errorf("taken: %+v", other)
		}
		r, _, err := parseReport(full, n)
		if err != nil {
			return
		}
		out := tally(r, nil)
		if r.Count < 0 || out.Unnamed != r.Count || r.End.Before(r.Start) {
			t.Errorf("report %+v, result %+v", r, out)
		}
		for _, c := range out.Codes {
			if c.Count < 0 || c.Named < 0 || c.Unnamed < 0 { // a counter panics on it
				t.Errorf("code %+v", c)
			}
		}
		for _, sample := range r.Samples {
			if len(sample.Code) > maxCode || len(sample.Message) > maxMessage || len(sample.Identifier) > 4*255 {
				t.Errorf("sample %+v", sample)
			}
		}
	})
}
