package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// Ten thousand events, and nothing to report. Then one that Stripe rejected later, one that another
// program reported, and one that Stripe took and lost: each is found, and named.
func TestReconcileFindsEach(t *testing.T) {
	b := startBilled(t, simulator.Config{Meters: []simulator.Meter{{EventName: "api_calls"}, {EventName: "requests", Formula: simulator.FormulaCount}}})
	const many = 10_000
	events := make([]usage.Params, many)
	for n := range events {
		events[n] = b.params(n)
	}
	b.publish(events...)
	b.publish(events[:50]...) // again: duplicates count for nothing
	if c := b.reconcile(); c.code != 0 || len(c.differences) != 0 || c.summary.Events != many || c.summary.Waiting != 0 || c.summary.Cells != 1000 || c.summary.Equal != 1000 {
		t.Fatalf("exit %d, %+v, differences %+v, %s", c.code, c.summary, c.differences, c.stderr)
	}

	rejected, lost, other := b.params(many), b.params(many+3), b.params(many+4)
	for identifier, kind := range map[string]simulator.Kind{rejected.Identifier: simulator.RejectedLater, lost.Identifier: simulator.NotCounted} {
		if err := b.stripe.Inject(simulator.Fault{Kind: kind, Identifier: identifier}); err != nil {
			t.Fatal(err)
		}
	}
	b.publish(rejected, lost)
	b.foreign(other)
	b.bury(rejectedLetter(rejected, many+51), bodyOf(rejected))

	c := b.reconcile()
	if c.code != exitFailed || len(c.differences) != 3 || c.summary.Less != 2 || c.summary.More != 1 || c.summary.Equal != 997 {
		t.Fatalf("exit %d, %+v, differences %+v, %s", c.code, c.summary, c.differences, c.stderr)
	}
	minute := func(p usage.Params) []string { return []string{rfc3339(p.Timestamp.Truncate(time.Minute))} }
	if d := c.about(t, rejected); d.Verdict != "less" || d.Difference != -float64(rejected.Value) || !d.Explained || !d.names("rejected_later", rejected.Identifier) || !slices.Equal(d.Minutes, minute(rejected)) {
		t.Errorf("rejected later: %+v", d)
	}
	if d := c.about(t, lost); d.Verdict != "less" || d.Difference != -1 || d.Explained || !d.names("delivered", lost.Identifier) || !slices.Equal(d.Minutes, minute(lost)) {
		t.Errorf("lost: %+v", d)
	}
	if d := c.about(t, other); d.Verdict != "more" || d.Difference != float64(other.Value) || !d.names("foreign_sender", "") || !slices.Equal(d.Minutes, minute(other)) {
		t.Errorf("of another sender: %+v", d)
	}

	// The letter is discarded: a person knows that it is not billed.
	if code, _, stderr := b.run(nil, "dlq", "discard", "1", "--why", "a test"); code != 0 {
		t.Fatal(stderr)
	}
	if c := b.reconcile(); len(c.differences) != 2 || c.summary.Less != 1 {
		t.Errorf("after the discard: %+v", c.differences)
	}
	b.textIsComplete()
}

// textIsComplete holds the table to what the objects say.
func (b *billed) textIsComplete() {
	b.t.Helper()
	code, stdout, _ := runCommand(b.t, b.env(), "reconcile", "--since", b.hour.Format(time.RFC3339), "--until", b.hour.Add(2*time.Hour).Format(time.RFC3339),
		"--settle", "1ms", "--look-every", "10ms", "--read-rate", "1000")
	containsAll(b.t, stdout, []string{"HOUR", "AT STRIPE", "less 1, more 1, in flight 0, unsettled 0", "message 10052", "identifier req-10003", "another sender has reported", "no webhooks are received"})
	if code != exitFailed {
		b.t.Errorf("exit %d", code)
	}
}

// Sums that lag are waited for: what was delivered is not called missing.
func TestReconcileWaitsForLateSums(t *testing.T) {
	b := startBilled(t, simulator.Config{SummaryDelay: time.Hour})
	b.publish(b.params(0), b.params(1), b.params(2))
	b.once("/event_summaries", func() { b.stripe.Advance(time.Hour) })
	c := b.reconcile("--settle", "1h", "--wait", "5m")
	if c.code != 0 || len(c.differences) != 0 || c.summary.Equal != 3 || c.summary.Requests < 5 {
		t.Errorf("exit %d, %+v, %+v", c.code, c.summary, c.differences)
	}
	// One that is not there before the command gives up is neither equal nor missing.
	b.publish(b.params(4))
	c = b.reconcile("--settle", "1h", "--wait", "0s")
	if c.code != exitFailed || c.summary.Unsettled != 1 || c.summary.Less != 0 {
		t.Errorf("given up: exit %d, %+v, %+v", c.code, c.summary, c.differences)
	}
}

// Of a meter that takes the last value there is no sum to compare with.
func TestReconcileLast(t *testing.T) {
	b := startBilled(t, simulator.Config{Meters: []simulator.Meter{{EventName: "api_calls", Formula: simulator.FormulaLast}, {EventName: "requests"}}})
	b.publish(b.params(0), b.params(2), b.params(1))
	c := b.reconcile()
	if c.code != 0 || !slices.Equal(c.summary.NotRead, []string{"api_calls"}) || c.summary.Cells != 1 || c.summary.Events != 3 {
		t.Errorf("exit %d, %+v, %+v", c.code, c.summary, c.differences)
	}
}

// A page of sums holds a hundred: two days and more take several, and every hour is compared.
func TestReconcileReadsAllPages(t *testing.T) {
	b := startBilled(t, simulator.Config{})
	const hours = 130
	since := b.hour.Add(-hours * time.Hour)
	events := make([]usage.Params, 0, hours)
	for n := range hours {
		p := b.params(0)
		p.Identifier, p.Timestamp = fmt.Sprintf("old-%d", n), since.Add(time.Duration(n)*time.Hour)
		events = append(events, p)
	}
	b.publish(events...)
	missing := events[hours-120]
	missing.Identifier, missing.Value = "other", 5
	b.foreign(missing)
	c := b.reconcile("--since", since.Format(time.RFC3339), "--event-name", missing.EventName)
	if c.summary.Equal != hours-1 || len(c.differences) != 1 || c.about(t, missing).Difference != 5 {
		t.Errorf("%+v, %+v", c.summary, c.differences)
	}
}

// Usage of a customer that nothing was delivered to is seen where it is asked for.
func TestReconcileNamedCustomer(t *testing.T) {
	b := startBilled(t, simulator.Config{})
	b.publish(b.params(0))
	other := b.params(0)
	other.Customer, other.Identifier = "cus_other", "other"
	b.foreign(other)
	if c := b.reconcile(); c.code != 0 || c.summary.Cells != 1 {
		t.Errorf("%+v %+v", c.summary, c.differences)
	}
	if c := b.reconcile("--customer", "cus_other"); c.code != exitFailed || c.about(t, other).Verdict != "more" || c.summary.Events != 0 {
		t.Errorf("%+v %+v", c.summary, c.differences)
	}
}

// An event that died of an unknown outcome is settled by the sums where they leave one answer, and only
// with --apply; afterwards there is nothing to report.
func TestReconcileSettles(t *testing.T) {
	for _, counted := range []bool{true, false} {
		t.Run(strconv.FormatBool(counted), func(t *testing.T) {
			b := startBilled(t, simulator.Config{Meters: []simulator.Meter{{EventName: "api_calls"}}}, "METERWORKER_SAFE_WINDOW=2s", "METERWORKER_ATTEMPT_TIMEOUT=2s")
			delivered, ambiguous := b.params(0), b.params(500)
			ambiguous.Identifier, ambiguous.Value = "ambiguous", 11
			if err := b.stripe.Inject(simulator.Fault{Kind: simulator.Hang, Identifier: "ambiguous", Recorded: counted, Times: 1}); err != nil {
				t.Fatal(err)
			}
			b.publish(delivered, ambiguous)
			c := b.reconcile("--settle", "1s")
			want := map[bool]string{true: "counted discard proposed", false: "not_counted replay proposed"}[counted]
			if len(c.settlements) != 1 || strings.Join([]string{c.settlements[0].Finding, c.settlements[0].Action, c.settlements[0].Result}, " ") != want {
				t.Fatalf("%+v, %+v, %s", c.settlements, c.differences, c.stderr)
			}
			b.holds(2, 1)

			c = b.reconcile("--settle", "1s", "--apply", "--yes", "--why", "the sums")
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

// What Stripe rejected later and a person has replayed, under a new identifier, is no difference any
// more; on the way Stripe is too busy to answer.
func TestReconcileAfterAReplay(t *testing.T) {
	b := startBilled(t, simulator.Config{})
	p := b.params(0)
	if err := b.stripe.Inject(
		simulator.Fault{Kind: simulator.RejectedLater, Identifier: p.Identifier, Times: 1},
		simulator.Fault{Kind: simulator.RateLimited, Path: "/v1/billing/meters", Times: 1},
		simulator.Fault{Kind: simulator.Error503, Path: "/v1/billing/meters/", Times: 1},
	); err != nil {
		t.Fatal(err)
	}
	b.publish(p)
	b.bury(rejectedLetter(p, 1), bodyOf(p))
	if c := b.reconcile(); c.summary.Less != 1 || !c.about(t, p).names("rejected_later", p.Identifier) {
		t.Fatalf("%+v, %+v", c.summary, c.differences)
	}
	if code, stdout, stderr := b.run(nil, "dlq", "replay", "1"); code != 0 || !strings.Contains(stdout, p.Identifier+"~r1") {
		t.Fatal(stdout, stderr)
	}
	b.sent++
	within(t, time.Minute, "the replay is delivered", func() bool { return b.settled() >= b.sent })
	if c := b.reconcile(); c.code != 0 || c.summary.Events != 1 {
		t.Errorf("%+v, %+v", c.summary, c.differences)
	}
}

// Each question takes a permit out of the rate that the workers share: a Stripe that is strict about
// that rate refuses none, however fast the command may ask.
func TestReconcileTakesPermits(t *testing.T) {
	b := startBilled(t, simulator.Config{Rate: 50}, "METERWORKER_RATE=50")
	events := make([]usage.Params, 120)
	for n := range events {
		events[n] = b.params(n)
	}
	b.publish(events...)
	c := b.reconcile()
	if c.code != 0 || c.summary.Customers != 120 || c.summary.Requests != 121 {
		t.Errorf("exit %d, %+v", c.code, c.summary)
	}
	if refused := b.stripe.Totals().RateLimited; refused != 0 {
		t.Errorf("Stripe refused %d requests", refused)
	}
}

// Ctrl-C half-way changes nothing and says so; a key without the right is told from Stripe's trouble.
func TestReconcileEndsEarly(t *testing.T) {
	b := startBilled(t, simulator.Config{})
	b.publish(b.params(0))
	if err := b.stripe.Inject(simulator.Fault{Kind: simulator.Forbidden, Path: "/v1/billing/meters"}); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runCommand(t, b.env(), "reconcile", "--since", "5h")
	if code != exitFailed || !strings.Contains(stderr, "give it read permission for billing meters") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	b.stripe.ClearFaults()
	if err := b.stripe.Inject(simulator.Fault{Kind: simulator.Hang, Path: "/v1/billing/meters/"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.once("/event_summaries", cancel)
	var out, errs strings.Builder
	code = execute(ctx, []string{"reconcile", "--since", "5h"}, &process{In: strings.NewReader(""), Out: &out, Err: &errs, Env: b.env()})
	if code != exitFailed || out.Len() > 0 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit %d, %s, %s", code, out.String(), errs.String())
	}
}

func TestReconcileBadUsage(t *testing.T) {
	env := environment{"NATS_URL": "nats://127.0.0.1:1", "STRIPE_API_KEY": chainKey}
	for line, words := range map[string]string{
		"--since 1h --until 2h":        "is not before --until",
		"--since 8d":                   "METERWORKER_RETENTION is 168h0m0s",
		"--until 2026-01-01T00:30:00Z": "no whole hour",
		"--until 2126-01-01T00:00:00Z": "is not over yet",
		"--settle=-1s":                 "--settle=-1s",
		"--settle 25h":                 "--settle=25h0m0s",
		"--wait=-1s":                   "--wait=-1s",
		"--look-every 0s":              "--look-every=0s",
		"--read-rate 0":                "--read-rate=0",
		"--read-rate NaN":              "--read-rate=NaN",
		"--event-name=":                "--event-name is empty",
		"--customer=":                  "--customer is empty",
		"--apply --why x":              "no terminal to ask on",
		"--apply --yes":                "--why is missing",
		"--since yesterday":            "neither a time",
	} {
		code, _, stderr := runCommand(t, env, append([]string{"reconcile"}, strings.Fields(line)...)...)
		if code != exitUsage || !strings.Contains(stderr, words) {
			t.Errorf("%s: exit %d, %s", line, code, stderr)
		}
	}
	without := maps.Clone(env)
	delete(without, "STRIPE_API_KEY")
	if code, _, stderr := runCommand(t, without, "reconcile"); code != exitUsage || !strings.Contains(stderr, "STRIPE_API_KEY") {
		t.Errorf("without a key: exit %d, %s", code, stderr)
	}
}
