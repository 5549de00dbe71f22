package usage_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

// The whole corpus can be stored, and what JetStream makes of it (headers trimmed,
// thousands of them, 64 KiB) is read as it was meant.
func TestCorpusThroughJetStream(t *testing.T) {
	js, stream := startStream(t, connect(t, startServer(t, nil)), nil)
	now := time.Now()
	identities := map[string]string{}
	for _, c := range usagetest.Cases(now) {
		if len(c.Body) > 1<<20 {
			continue // more than the server takes
		}
		ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: c.Subject, Header: c.Headers, Data: c.Body})
		if err != nil || ack.Duplicate {
			t.Errorf("%s: cannot be stored: %+v %v", c.Name, ack, err)
			continue
		}
		stored, err := stream.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		e, err := usage.Parse(ofStored(stored), now)
		if c.Reason == "" && err != nil || c.Reason != "" && (err == nil || string(refusalOf(t, err).Reason) != c.Reason) {
			t.Errorf("%s: %v, want %q", c.Name, err, c.Reason)
		}
		if err != nil {
			continue
		}
		identity := e.EventName() + "\x00" + e.Customer() + "\x00" + e.Identifier()
		if earlier, taken := identities[identity]; taken {
			t.Errorf("%s and %s are one event: %q", earlier, c.Name, identity)
		}
		identities[identity] = c.Name
	}
}

func ofStored(m *jetstream.RawStreamMsg) usage.Message {
	return usage.Message{Subject: m.Subject, Header: m.Header.Get, Body: m.Data, Sequence: m.Sequence, Epoch: "e7", StoredAt: m.Time}
}
