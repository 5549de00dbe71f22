package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

const webhookSecret = "whsec_first"

// startWithWebhooks runs a worker that listens on the address returned.
func (w *world) startWithWebhooks(env ...string) (p *worker, address string) {
	w.t.Helper()
	address = freeAddress(w.t)
	p = w.start(append([]string{"STRIPE_WEBHOOK_SECRET=" + webhookSecret, "METERWORKER_WEBHOOK_ADDR=" + address}, env...)...)
	w.until("the webhook endpoint", func() bool {
		response, err := http.Get("http://" + address + "/webhooks")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil && response.StatusCode == http.StatusMethodNotAllowed
	})
	return p, address
}

// notify delivers the simulator's webhooks until the test ends.
func (w *world) notify(address string) {
	ctx, cancel := context.WithCancel(context.Background())
	var delivering sync.WaitGroup
	delivering.Go(func() {
		w.stripe.Notify(ctx, simulator.Endpoint{URL: "http://" + address + "/webhooks", Secrets: []string{"whsec_old", webhookSecret}})
	})
	w.t.Cleanup(func() { cancel(); delivering.Wait() })
}

// lettersByIdentifier are the dead letters; one identifier has one.
func (w *world) lettersByIdentifier() map[string]deadletter.Letter {
	w.t.Helper()
	letters := map[string]deadletter.Letter{}
	for _, m := range w.stored("USAGE_DLQ", "usage.dlq.>") {
		l, err := deadletter.Read(m.Header.Get)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, twice := letters[l.Identifier]; twice {
			w.t.Errorf("two letters for %s", l.Identifier)
		}
		letters[l.Identifier] = l
	}
	return letters
}

// stored are the messages of a stream that match; none where there is no stream.
func (w *world) stored(name, subject string) []*jetstream.RawStreamMsg {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), name)
	if err != nil {
		return nil
	}
	var all []*jetstream.RawStreamMsg
	for next := uint64(1); ; {
		m, err := stream.GetMsg(w.t.Context(), next, jetstream.WithGetMsgSubject(subject))
		if err != nil {
			return all
		}
		all, next = append(all, m), m.Sequence+1
	}
}

func (w *world) reject(identifiers ...string) {
	w.t.Helper()
	for _, identifier := range identifiers {
		if err := w.stripe.Inject(simulator.Fault{Kind: simulator.RejectedLater, Identifier: identifier, Code: "meter_event_customer_not_found"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestRejectedLater: usage that Stripe accepts and rejects later becomes dead letters, as far as
// the report names it; the rest is counted; a replay bills each once, under a new identifier.
// Both forms in which a report names usage lead to it.
func TestRejectedLater(t *testing.T) {
	t.Parallel()
	for name, byRequest := range map[string]bool{"by identifier": false, "by Idempotency-Key": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// One window over the whole test, so that one report has more errors than samples (5).
			const window = 20 * 24 * time.Hour
			w := newWorld(t, simulator.Config{Rate: -1, ReportRequests: byRequest, ReportWindow: window})
			p, address := w.startWithWebhooks()
			events := traffic(t, 40, 10, 1).events
			for i := range 8 {
				w.reject(events[i].Identifier())
			}
			w.publish(events)
			w.until("the deliveries", func() bool { return p.metric(`meterworker_settled_total{disposition="delivered"}`) == 40 })
			w.stripe.Advance(window)
			reported := w.stripe.ErrorReports()[0]
			if status := w.post(address, notificationOf(reported.ID, reported.Type), webhookSecret); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			w.until("the report to be worked off", func() bool { return len(w.stored("USAGE_REPORTS", "usage.reports.done.*")) == 1 })
			letters := w.lettersByIdentifier()
			if len(letters) != 5 {
				t.Errorf("%d letters, want the 5 samples", len(letters))
			}
			for i := range 8 {
				if l, ok := letters[events[i].Identifier()]; ok && (l.Reason != deadletter.RejectedLater || l.Outcome != deadletter.Refused ||
					l.Code != "meter_event_customer_not_found" || l.Subject != events[i].Subject()) {
					t.Errorf("letter %+v", l)
				}
			}
			if n := p.metric(`meterworker_rejected_unnamed_total{event_name="meter_0"}`); n != 3 {
				t.Errorf("%v unnamed, want 3", n)
			}
			if n := p.metric(`meterworker_rejected_later_total{code="meter_event_customer_not_found"}`); n != 8 {
				t.Errorf("%v rejected, want 8", n)
			}
			w.replayAll()
			w.until("the replays", func() bool { return p.metric(`meterworker_settled_total{disposition="delivered"}`) == 45 })
			want := append([]usage.Event(nil), events[8:]...)
			for identifier := range letters {
				want = append(want, event(t, "meter_0", customerOf(events, identifier), identifier+"~r1", unitsOf(events, identifier)))
			}
			w.audit(want)
		})
	}
}

func find(events []usage.Event, identifier string) usage.Event {
	for _, e := range events {
		if e.Identifier() == identifier {
			return e
		}
	}
	return usage.Event{}
}

func customerOf(events []usage.Event, identifier string) string {
	return find(events, identifier).Customer()
}

func unitsOf(events []usage.Event, identifier string) int64 { return find(events, identifier).Units() }

func (w *world) replayAll() {
	w.t.Helper()
	replay := exec.Command(binary, "dlq", "replay", "--all", "--yes")
	replay.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), "NATS_URL=" + w.nats.ClientURL()}
	if out, err := replay.CombinedOutput(); err != nil {
		w.t.Fatalf("replay: %v\n%s", err, out)
	}
}

func notificationOf(id, kind string) string {
	return fmt.Sprintf(`{"id":%q,"object":"v2.core.event","type":%q,"livemode":false,"created":%q,"related_object":null}`,
		id, kind, time.Now().UTC().Format(time.RFC3339))
}

func (w *world) post(address, body, secret string) int {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+address+"/webhooks", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Stripe-Signature", simulator.SignWebhook([]string{secret}, time.Now(), []byte(body)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestNotified: the simulator tells of it by itself, in windows as Stripe's but shorter, and
// delivers each report twice.
func TestNotified(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Config{Rate: -1, ReportWindow: 2 * time.Second})
	_, address := w.startWithWebhooks()
	w.notify(address)
	w.reject("id-3", "id-7", "id-11")
	w.publish(traffic(t, 20, 10, 2).events)
	w.until("the letters", func() bool { return len(w.stored("USAGE_DLQ", "usage.dlq.rejected_later.meter_1")) == 3 })
	if l := w.lettersByIdentifier(); len(l) != 3 || l["id-3"].Reason != deadletter.RejectedLater || l["id-7"].RequestID != "" {
		t.Errorf("letters %+v", l)
	}
}

// scribe is a Stripe whose reports the test writes itself.
type scribe struct {
	*httptest.Server

	down   atomic.Bool // of the reports: 503
	report string      // the full event
}

func (w *world) scribe(report string) *scribe {
	w.t.Helper()
	s := &scribe{report: report}
	s.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		switch {
		case !strings.HasPrefix(in.URL.Path, "/v2/core/events/"):
			w.stripe.ServeHTTP(out, in)
		case s.down.Load():
			out.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(out, s.report)
		}
	}))
	w.t.Cleanup(s.Close)
	return s
}

const madeUp = "evt_test_made_up"

// threeOfTen is a report of ten errors that names three of our events and one that nobody knows.
func threeOfTen() string {
	now := time.Now().UTC()
	return fmt.Sprintf(`{"id":%q,"object":"v2.core.event","type":"v1.billing.meter.no_meter_found","livemode":false,"created":%q,"related_object":null,
		"data":{"developer_message_summary":"x","validation_start":%q,"validation_end":%q,"reason":{"error_count":10,"error_types":[
		{"code":"no_meter","error_count":9,"sample_errors":[
			{"error_message":"m","request":{"identifier":"id-1"}},{"error_message":"m","request":{"identifier":"id-2"}},
			{"error_message":"m","request":{"identifier":"nobody-knows"}}]},
		{"code":"new_at_stripe","error_count":1,"sample_errors":[{"error_message":"m","request":{"identifier":"id-3"}}]}]}}}`,
		madeUp, now.Format(time.RFC3339), now.Add(-5*time.Second).Format(time.RFC3339), now.Add(5*time.Second).Format(time.RFC3339))
}

// TestReportOfSomeOfOurs: a signed report for three of our events, one identifier that nobody
// knows and ten errors: three letters, seven unnamed. Delivered a hundred times at once it is
// stored once. A worker that is killed between storing and working off loses nothing.
func TestReportOfSomeOfOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Config{Rate: -1})
	s := w.scribe(threeOfTen())
	s.down.Store(true)
	p, address := w.startWithWebhooks("STRIPE_API_BASE=" + s.URL)
	w.publish(traffic(t, 20, 10, 2).events)
	w.until("the deliveries", func() bool { return p.metric(`meterworker_settled_total{disposition="delivered"}`) == 20 })
	var deliveries sync.WaitGroup
	var taken atomic.Int64
	for range 100 {
		deliveries.Go(func() {
			if w.post(address, notificationOf(madeUp, "v1.billing.meter.no_meter_found"), webhookSecret) == http.StatusOK {
				taken.Add(1)
			}
		})
	}
	deliveries.Wait()
	if n := len(w.stored("USAGE_REPORTS", "usage.reports.*")); n != 1 || taken.Load() == 0 {
		t.Fatalf("%d stored of %d taken, want 1", n, taken.Load())
	}
	p.kill()
	s.down.Store(false)
	p, _ = w.startWithWebhooks("STRIPE_API_BASE=" + s.URL)
	w.until("the report to be worked off", func() bool { return len(w.stored("USAGE_REPORTS", "usage.reports.done.*")) == 1 })
	letters := w.lettersByIdentifier()
	if len(letters) != 3 || letters["id-1"].Outcome != deadletter.Refused || letters["id-3"].Outcome != deadletter.Unknown || letters["id-3"].Code != "new_at_stripe" {
		t.Errorf("letters %+v", letters)
	}
	done := string(w.stored("USAGE_REPORTS", "usage.reports.done.*")[0].Data)
	for _, part := range []string{`"error_count":10`, `"named":3`, `"unnamed":7`} {
		if !strings.Contains(done, part) {
			t.Errorf("result %s, want %s", done, part)
		}
	}
	w.until("the counter", func() bool { return p.metric(`meterworker_rejected_unnamed_total{event_name="other"}`) == 7 })
	if n := p.metric(`meterworker_rejected_later_total{code="other"}`); n != 1 {
		t.Errorf("%v of codes that are not known, want 1", n)
	}
}

// TestWebhookSecretRotation: two secrets in the file are both in force, and no restart is needed.
func TestWebhookSecretRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Config{Rate: -1})
	path := filepath.Join(t.TempDir(), "secret")
	writeFile(t, path, webhookSecret+"\n")
	_, address := w.startWithWebhooks("STRIPE_WEBHOOK_SECRET=", "STRIPE_WEBHOOK_SECRET_FILE="+path)
	post := func(secret string) int {
		return w.post(address, notificationOf("evt_rotation", "v1.billing.meter.renamed"), secret)
	}
	if old, other := post(webhookSecret), post("whsec_next"); old != 200 || other != 400 {
		t.Errorf("before: %d and %d", old, other)
	}
	writeFile(t, path, webhookSecret+"\nwhsec_next\n")
	w.until("the next secret", func() bool { return post("whsec_next") == 200 })
	if old := post(webhookSecret); old != 200 {
		t.Errorf("during the rotation the old secret: %d", old)
	}
	writeFile(t, path, "whsec_next\n")
	w.until("the end of the old secret", func() bool { return post(webhookSecret) == 400 })
	if next := post("whsec_next"); next != 200 {
		t.Errorf("after the rotation: %d", next)
	}
}
