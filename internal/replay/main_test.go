package replay

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/internal/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a server with the worker's streams, and the operator's view of them.
type bench struct {
	t       *testing.T
	js      jetstream.JetStream
	streams *outbox.Streams
	letters *Letters
	serial  uint64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{StoreDir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	conn, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	b := &bench{t: t}
	if b.js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	b.streams, err = outbox.Open(t.Context(), b.js, outbox.Settings{
		Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.letters, err = Open(t.Context(), b.js); err != nil {
		t.Fatal(err)
	}
	return b
}

// letter is a letter that may be replayed as it stands.
func letter(reason deadletter.Reason) deadletter.Letter {
	now := time.Now().UTC()
	return deadletter.Letter{
		Reason: reason, Outcome: deadletter.Refused, DeadAt: now, StoredAt: now.Add(-time.Minute),
		Subject: "usage.events.api_calls.cus_1", Identifier: "req-1", Timestamp: now.Unix() - 60,
	}
}

const body = `{"event_name":"api_calls","identifier":"req-1","payload":{"stripe_customer_id":"cus_1","value":3}}`

// bury stores a letter and returns its id.
func (b *bench) bury(l deadletter.Letter, text string, extra ...[2]string) uint64 {
	b.t.Helper()
	b.serial++
	l.Sequence = b.serial
	header := l.Header()
	for _, pair := range extra {
		header[pair[0]] = pair[1]
	}
	if err := b.streams.DeadLetters().Publish(b.t.Context(), l, header, []byte(text)); err != nil {
		b.t.Fatal(err)
	}
	id, err := b.letters.Last(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *bench) replay(id uint64, allowed Permission) Result {
	return b.letters.Replay(b.t.Context(), id, allowed, time.Now())
}

// stored is the number of messages in a stream.
func (b *bench) stored(stream string) uint64 {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// message is a message of USAGE.
func (b *bench) message(sequence uint64) *jetstream.RawStreamMsg {
	b.t.Helper()
	m, err := b.letters.usage.GetMsg(b.t.Context(), sequence)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// ids lists what the filter selects.
func (b *bench) ids(ctx context.Context, f Filter) []uint64 {
	b.t.Helper()
	ids := []uint64{}
	if err := b.letters.Each(ctx, f, func(l Letter) error { ids = append(ids, l.ID); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return ids
}

func numbered(i int) string { return fmt.Sprintf("req-%d", i) }
