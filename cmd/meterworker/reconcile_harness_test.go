package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// billed is an outbox, a worker and a simulated Stripe, for comparisons of the two.
type billed struct {
	*testOutbox

	stripe *simulator.Simulator
	server *httptest.Server
	daemon *daemon
	hour   time.Time // that the usage is of: three hours ago
	sent   int
}

func startBilled(t *testing.T, cfg simulator.Config, extra ...string) *billed {
	t.Helper()
	cfg.Keys = []string{chainKey}
	if cfg.Rate == 0 {
		cfg.Rate = -1
	}
	b := &billed{testOutbox: newTestOutbox(t), stripe: simulator.New(cfg), hour: time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)}
	b.server = httptest.NewServer(b.stripe)
	t.Cleanup(b.server.Close)
	env := b.env()
	for _, pair := range extra {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	result, err := loadConfig(&Settings{}, env, keyRequired, false)
	if err != nil {
		t.Fatal(err)
	}
	b.daemon = newDaemon(result.Config, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.daemon.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
	return b
}

func (b *billed) env() environment {
	return environment{
		"NATS_URL": b.url, "STRIPE_API_KEY": chainKey, "STRIPE_API_BASE": b.server.URL, "METERWORKER_PARTITIONS": "4",
		"METERWORKER_ADMIN_ADDR": "127.0.0.1:0", "METERWORKER_RATE": "100000",
	}
}

// params is the n-th event: of one of 250 customers, on one of two meters, somewhere in two hours.
func (b *billed) params(n int) usage.Params {
	return usage.Params{
		EventName: []string{"api_calls", "requests"}[n%2], Customer: fmt.Sprintf("cus_%d", n/2%250), Identifier: fmt.Sprintf("req-%d", n),
		Value: int64(1 + n%7), Timestamp: b.hour.Add(time.Duration(n) * 719 * time.Millisecond % (2 * time.Hour)),
	}
}

// publish stores events and waits until the worker has settled them.
func (b *billed) publish(events ...usage.Params) {
	b.t.Helper()
	for _, p := range events {
		event, err := usage.New(p)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := event.MarshalJSON()
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := b.js.PublishAsync(event.Subject(), body, jetstream.WithStallWait(time.Minute)); err != nil {
			b.t.Fatal(err)
		}
	}
	<-b.js.PublishAsyncComplete()
	b.sent += len(events)
	within(b.t, 2*time.Minute, "everything is settled", func() bool {
		return b.settled() >= b.sent
	})
}

// settled is how many messages the worker has settled, however.
func (b *billed) settled() int {
	b.t.Helper()
	families, err := b.daemon.metrics.Registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() == "meterworker_settled_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() != "released" { // which comes again
					total += m.GetCounter().GetValue()
				}
			}
		}
	}
	return int(total)
}

// foreign is usage that another program reports to Stripe.
func (b *billed) foreign(p usage.Params) {
	b.t.Helper()
	form := url.Values{
		"event_name": {p.EventName}, "identifier": {p.Identifier}, "timestamp": {strconv.FormatInt(p.Timestamp.Unix(), 10)},
		"payload[stripe_customer_id]": {p.Customer}, "payload[value]": {strconv.FormatInt(p.Value, 10)},
	}
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.server.URL+"/v1/billing/meter_events", strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = http.Header{
		"Authorization": {"Bearer " + chainKey}, "Stripe-Version": {simulator.DefaultVersion},
		"Content-Type": {"application/x-www-form-urlencoded"}, "Idempotency-Key": {"foreign-" + p.Identifier},
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		b.t.Fatalf("the other sender is answered %d", answer.StatusCode)
	}
}

// once does something when Stripe has been asked for a path that ends so.
func (b *billed) once(suffix string, do func()) {
	asked := func(r simulator.Request) bool { return strings.HasSuffix(r.Path, suffix) }
	var watching sync.WaitGroup
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(func() { cancel(); watching.Wait() })
	watching.Go(func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for !slices.ContainsFunc(b.stripe.Requests(), asked) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		do()
	})
}

// compared is what the command has said.
type compared struct {
	code        int
	differences []differenceObject
	settlements []settlementObject
	summary     summaryObject
	stderr      string
}

// reconcile runs the command over the two hours. Sums settle at once here, unless args say else.
func (b *billed) reconcile(args ...string) compared {
	b.t.Helper()
	line := append([]string{
		"reconcile", "-o", "json", "--since", b.hour.Format(time.RFC3339), "--until", b.hour.Add(2 * time.Hour).Format(time.RFC3339),
		"--settle", "1ms", "--look-every", "10ms", "--wait", "30s", "--read-rate", "1000",
	}, args...)
	code, stdout, stderr := runCommand(b.t, b.env(), line...)
	c := compared{code: code, stderr: stderr}
	for text := range strings.Lines(stdout) {
		var kind struct{ Type string }
		read := func(into any) {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				b.t.Fatalf("%v: %q", err, text)
			}
		}
		read(&kind)
		switch kind.Type {
		case lineDifference:
			c.differences = append(c.differences, differenceObject{})
			read(&c.differences[len(c.differences)-1])
		case lineSettlement:
			c.settlements = append(c.settlements, settlementObject{})
			read(&c.settlements[len(c.settlements)-1])
		case lineSummary:
			read(&c.summary)
		default:
			b.t.Fatalf("a line of type %q", kind.Type)
		}
	}
	if c.summary.Type == "" {
		b.t.Fatalf("no summary: exit %d, %s", code, stderr)
	}
	return c
}

// about is the one difference of a customer on a meter.
func (c compared) about(t *testing.T, p usage.Params) differenceObject {
	t.Helper()
	var found []differenceObject
	for _, d := range c.differences {
		if d.EventName == p.EventName && d.Customer == p.Customer && d.Hour == rfc3339(p.Timestamp.Truncate(time.Hour)) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d differences of %s on %s: %+v", len(found), p.Customer, p.EventName, c.differences)
	}
	return found[0]
}

// names tells whether a candidate of the kind has the identifier.
func (d differenceObject) names(kind, identifier string) bool {
	return slices.ContainsFunc(d.Candidates, func(k candidateObject) bool { return k.Kind == kind && k.Identifier == identifier })
}

// rejectedLetter is the letter of an event that Stripe took, as message sequence, and rejected later.
func rejectedLetter(p usage.Params, sequence uint64) deadletter.Letter {
	return deadletter.Letter{
		Reason: deadletter.RejectedLater, Outcome: deadletter.Refused, Code: "meter_event_customer_not_found", Subject: usage.EventsSubject(p.EventName, p.Customer),
		Sequence: sequence, Identifier: p.Identifier, Timestamp: p.Timestamp.Unix(), DeadAt: time.Now(),
	}
}

func bodyOf(p usage.Params) string {
	return fmt.Sprintf(`{"event_name":%q,"payload":{"stripe_customer_id":%q,"value":%d}}`, p.EventName, p.Customer, p.Value)
}
