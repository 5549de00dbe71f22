package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/simulator"
)

// startAmbiguous is an outbox of a delivered event of 1 and of one of 11 that died of an unknown
// outcome, which Stripe has counted, or not.
func startAmbiguous(t *testing.T, counted bool, m simulator.Meter) *billed {
	t.Helper()
	b := startBilled(t, simulator.Config{Meters: []simulator.Meter{m}}, "METERWORKER_SAFE_WINDOW=2s", "METERWORKER_ATTEMPT_TIMEOUT=2s")
	delivered, ambiguous := b.params(0), b.params(500)
	ambiguous.Identifier, ambiguous.Value = "ambiguous", 11
	if m.CustomerKey != "" {
		delivered.Dimensions = map[string]string{m.CustomerKey: "cus_other"}
		ambiguous.Dimensions = delivered.Dimensions
	}
	if err := b.stripe.Inject(simulator.Fault{Kind: simulator.Hang, Identifier: "ambiguous", Recorded: counted, Times: 1}); err != nil {
		t.Fatal(err)
	}
	b.publish(delivered, ambiguous)
	return b
}

// An event that died of an unknown outcome is settled by the sums where they leave one answer, and only
// with --apply; afterwards there is nothing to report.
func TestReconcileSettles(t *testing.T) {
	for _, counted := range []bool{true, false} {
		t.Run(strconv.FormatBool(counted), func(t *testing.T) {
			b := startAmbiguous(t, counted, simulator.Meter{EventName: "api_calls"})
			c := b.reconcile("--settle", "1s")
			want := map[bool]string{true: "counted discard proposed", false: "not_counted replay proposed"}[counted]
			if len(c.settlements) != 1 || strings.Join([]string{c.settlements[0].Finding, c.settlements[0].Action, c.settlements[0].Result}, " ") != want {
				t.Fatalf("%+v, %+v, %s", c.settlements, c.differences, c.stderr)
			}
			b.holds(2, 1)

			c = b.settle()
			if want := map[bool]string{true: "discarded", false: "replayed"}[counted]; len(c.settlements) != 1 || c.settlements[0].Result != want {
				t.Fatalf("%+v, %s", c.settlements, c.stderr)
			}
			if !counted {
				b.sent++
				within(t, time.Minute, "the replay is delivered", func() bool { return b.settled() >= b.sent })
			}
			code, records, _ := b.run(nil, "audit", "-o", "json")
			if code != 0 || strings.Count(records, "make the sums meet") != 2 || !strings.Contains(records, `"why":"the sums"`) {
				t.Errorf("the trail: %s", records)
			}
			if hours := b.stripe.Books().Hours; len(hours) != 1 || hours[0].Units != 12 || hours[0].Events != 2 {
				t.Errorf("at Stripe: %+v", hours)
			}
			if c := b.reconcile(); c.code != 0 || len(c.settlements) != 0 || c.summary.Events != 2 || b.stored(outbox.DLQStream) != 0 {
				t.Errorf("afterwards: exit %d, %+v, %+v", c.code, c.summary, c.settlements)
			}
		})
	}
}

// An edit that died before it could take its letter out may be stored under another identifier, and
// delivered later: the letter is not replayed beside it, whatever the sums say now.
func TestReconcileRefusesAfterAnEditThatDied(t *testing.T) {
	b := startAmbiguous(t, false, simulator.Meter{EventName: "api_calls"})
	letter := b.reconcile("--settle", "1s").settlements[0]
	trail, err := audit.Open(t.Context(), b.js)
	if err != nil {
		t.Fatal(err)
	}
	edited := audit.Letter{ID: letter.Letter, Sequence: letter.Sequence, Before: "ambiguous", After: "ambiguous~r1"}
	if err := trail.Begin(audit.Edit, audit.Who{Actor: "ann"}, "", nil).Intent(t.Context(), audit.Record{Letters: []audit.Letter{edited}}); err != nil {
		t.Fatal(err)
	}
	c := b.settle()
	if c.code != exitFailed || len(c.settlements) != 1 || c.settlements[0].Result != "refused" || !strings.Contains(c.settlements[0].Detail, "by ann and may be stored under the identifier ambiguous~r1") {
		t.Errorf("exit %d, %+v, %s", c.code, c.settlements, c.stderr)
	}
	b.holds(2, 1)
}

// inPlaceOfSums puts a server in front of Stripe that answers for its sums.
func (b *billed) inPlaceOfSums(answer http.HandlerFunc) {
	b.t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/event_summaries") {
			answer(w, r)
			return
		}
		b.stripe.ServeHTTP(w, r)
	}))
	b.t.Cleanup(proxy.Close)
	b.server.URL = proxy.URL // the worker has the other address
}

// A proxy's 404 in place of the sums is no customer without usage: what Stripe has counted is not
// replayed.
func TestReconcileAnotherServersAnswer(t *testing.T) {
	b := startAmbiguous(t, true, simulator.Meter{EventName: "api_calls"})
	b.inPlaceOfSums(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>not found</html>", http.StatusNotFound)
	})
	code, stdout, stderr := runCommand(t, b.env(), "reconcile", "--since", "5h", "--settle", "1s", "--look-every", "10ms")
	if code != exitFailed || strings.Contains(stdout, "letter") || !strings.Contains(stderr, "what answers 404 is not Stripe") {
		t.Errorf("exit %d, %s, %s", code, stdout, stderr)
	}
	b.holds(2, 1)
}

// A meter that finds the customer under another key has counted the event for somebody else: its sums
// say nothing of our customer's, and nothing is settled by them.
func TestReconcileOtherKeys(t *testing.T) {
	b := startAmbiguous(t, true, simulator.Meter{EventName: "api_calls", CustomerKey: "account"})
	c := b.settle()
	if c.code != exitFailed || !slices.Equal(c.summary.NotRead, []string{"api_calls"}) || len(c.settlements)+len(c.differences) != 0 {
		t.Errorf("exit %d, %+v, %+v, %+v", c.code, c.summary, c.differences, c.settlements)
	}
	b.holds(2, 1)
	code, stdout, _ := runCommand(t, b.env(), "reconcile", "--since", "5h")
	if code != exitFailed || !strings.Contains(stdout, "not compared: api_calls, whose meter reads the customer or the value under another key") {
		t.Errorf("exit %d, %s", code, stdout)
	}
}

// A comparison of which messages are missing is not complete, wherever they lay, and settles nothing.
func TestReconcileMissingMessages(t *testing.T) {
	for name, sequence := range map[string]uint64{"the first": 1, "one in between": 3} {
		t.Run(name, func(t *testing.T) {
			b := startAmbiguous(t, false, simulator.Meter{EventName: "api_calls"})
			b.publish(b.params(2), b.params(4))
			stream, err := b.js.Stream(t.Context(), outbox.UsageStream)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
				t.Fatal(err)
			}
			if c := b.settle(); c.code != exitFailed || c.summary.Missing != 1 || len(c.settlements) != 0 {
				t.Errorf("exit %d, %+v, %+v", c.code, c.summary, c.settlements)
			}
			b.holds(3, 1)
			if c := b.reconcile("--customer", "cus_250"); c.summary.Missing != map[uint64]int64{1: 1}[sequence] {
				t.Errorf("of one customer: %+v", c.summary)
			}
		})
	}
}

// A sum that cannot be compared is no agreement.
func TestReconcileNotComparable(t *testing.T) {
	b := startBilled(t, simulator.Config{})
	b.publish(b.params(0))
	b.inPlaceOfSums(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		b.stripe.ServeHTTP(answer, r)
		_, _ = w.Write([]byte(strings.Replace(answer.Body.String(), `"aggregated_value":1`, `"aggregated_value":1.5`, 1)))
	})
	if c := b.reconcile(); c.code != exitFailed || c.summary.NotComparable != 1 || c.about(t, b.params(0)).Verdict != "not_comparable" {
		t.Errorf("exit %d, %+v, %+v", c.code, c.summary, c.differences)
	}
}
