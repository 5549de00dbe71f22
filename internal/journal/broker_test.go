package journal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/natstest"
)

// within bounds what waits for a real server; no test waits for it to pass.
const within = time.Minute

// broker is a real server, every write synced, that can be restarted.
type broker struct {
	*natstest.Server

	t *testing.T
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	return &broker{natstest.Start(t, natstest.Synced), t}
}

// connect returns a connection of its own, with the journal's stream as package
// outbox makes it.
func (b *broker) connect() jetstream.JetStream {
	b.t.Helper()
	js := b.Connect()
	_, err := js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{
		Name: journal.StreamName, Subjects: []string{journal.StreamSubjects}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Replicas: 1, MaxBytes: -1, MaxMsgs: -1,
		MaxAge: window, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return js
}

func (b *broker) store() *journal.JetStream {
	b.t.Helper()
	return journal.NewJetStream(b.connect(), func() {})
}

// take claims the partition for real, however often somebody is faster.
func take(t *testing.T, store journal.Store) *owner {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	p, err := journal.Claim(ctx, store, config(), number)
	for errors.Is(err, journal.ErrLost) {
		p, err = journal.Claim(ctx, store, config(), number)
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	o := &owner{Partition: p, t: t}
	t.Cleanup(o.leave)
	return o
}

// leave ends the ownership; nothing is queued any more.
func (o *owner) leave() { _ = o.Close(context.Background()) }
