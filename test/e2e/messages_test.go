package e2e

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

// refusedByServer reports the answers to a message that JetStream does not store:
// the producer hears of it, so nothing is lost.
func refusedByServer(err error) bool {
	var api *jetstream.APIError
	const tooLargeForStream = 10054
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &api) && api.ErrorCode == tooLargeForStream
}

// Every bad message ends as a dead letter with its reason, byte for byte; the good
// ones beside it are delivered.
func TestBadMessagesAreBuriedAndGoodOnesDelivered(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	worker := w.start()
	w.until("readiness", worker.ready)

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cases := usagetest.Cases(time.Now())
	bySequence := map[string]usagetest.Case{}
	good, refused := 0, 0
	for _, c := range cases {
		ack, err := w.js.PublishMsg(ctx, &nats.Msg{Subject: c.Subject, Header: c.Headers, Data: c.Body})
		switch {
		case err != nil && refusedByServer(err):
			refused++
			if len(c.Body) < 1<<20-32<<10 {
				t.Errorf("%s: %d bytes were refused by the server: %v", c.Name, len(c.Body), err)
			}
		case err != nil:
			t.Fatalf("%s: %v", c.Name, err)
		case c.Reason == "":
			good++
		default:
			bySequence[strconv.FormatUint(ack.Sequence, 10)] = c
		}
	}
	beside := traffic(t, 50, 10, 3)
	w.publish(beside.events)
	w.until("everything to be acked", w.settled)

	if got := int(w.stripe.Totals().Counted); got != good+len(beside.events) {
		t.Errorf("Stripe counted %d events, want the %d good cases and %d beside them", got, good, len(beside.events))
	}
	for _, letter := range w.letters() {
		sequence := letter.Headers().Get("Meterworker-Sequence")
		c, ok := bySequence[sequence]
		if !ok {
			t.Errorf("a dead letter for sequence %s, which is not a bad case: %v", sequence, letter.Headers())
			continue
		}
		delete(bySequence, sequence)
		compareLetter(t, c, letter)
	}
	for _, c := range bySequence {
		t.Errorf("%s: no dead letter", c.Name)
	}
	t.Logf("%d cases: %d good, %d refused by the server", len(cases), good, refused)
}

func compareLetter(t *testing.T, c usagetest.Case, letter jetstream.Msg) {
	t.Helper()
	h := letter.Headers()
	if got := h.Get("Meterworker-Reason"); got != c.Reason {
		t.Errorf("%s: reason %q, want %q (%s)", c.Name, got, c.Reason, h.Get("Meterworker-Detail"))
	}
	if !bytes.Equal(letter.Data(), c.Body) {
		t.Errorf("%s: the body of the dead letter differs from the one published", c.Name)
	}
	if got := h.Get("Meterworker-Subject"); got != c.Subject {
		t.Errorf("%s: subject %q, want %q", c.Name, got, c.Subject)
	}
	if got := h.Get("Meterworker-Outcome"); got != "refused" {
		t.Errorf("%s: outcome %q, want refused", c.Name, got)
	}
	for name := range h {
		if !strings.HasPrefix(name, "Meterworker-") && name != "Nats-Msg-Id" {
			t.Errorf("%s: header %s was carried over", c.Name, name)
		}
	}
}

// One identifier twice, outside JetStream's window: one delivery and one
// duplicate; with other content a conflict. Also across a restart of the worker.
func TestAnIdentifierIsDeliveredOnce(t *testing.T) {
	w := newWorld(t, simulator.Config{})
	worker := w.start()
	w.until("readiness", worker.ready)
	first := event(t, "api_calls", "cus_1", "id-1", 5)
	w.publish([]usage.Event{first})
	w.until("the delivery", w.settled)
	w.publishRaw(first, "another-message-id")
	w.until("the duplicate", func() bool {
		return w.settled() && worker.metric(`meterworker_settled_total{disposition="duplicate"}`) == 1
	})

	worker = worker.killAndRestart()
	w.until("readiness after kill -9", worker.ready)
	w.publishRaw(first, "a-third-message-id")
	w.publishRaw(event(t, "api_calls", "cus_1", "id-1", 6), "other-content")
	w.until("duplicate and conflict", func() bool {
		return w.settled() && worker.metric(`meterworker_settled_total{disposition="duplicate"}`) == 1
	})
	letters := w.letters()
	if len(letters) != 1 || letters[0].Headers().Get("Meterworker-Reason") != "identifier_conflict" {
		t.Fatalf("dead letters: %d, want one identifier_conflict", len(letters))
	}
	if n := w.stripe.Totals().Requests; n != 1 {
		t.Errorf("Stripe saw %d requests, want 1", n)
	}
	w.audit([]usage.Event{first})
}

// publishRaw stores an event under a message id of the test's.
func (w *world) publishRaw(e usage.Event, id string) {
	w.t.Helper()
	body, err := e.MarshalJSON()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.js.Publish(ctx, e.Subject(), body, jetstream.WithMsgID(id)); err != nil {
		w.t.Fatal(err)
	}
}
