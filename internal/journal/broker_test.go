package journal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/journal"
)

// within bounds what waits for a real server; no test waits for it to pass.
const within = time.Minute

// broker is a real server on the loopback, every write synced, that can be restarted.
type broker struct {
	t      *testing.T
	opts   natsserver.Options
	server *natsserver.Server
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{t: t, opts: natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
	}}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	opts := b.opts
	server, err := natsserver.NewServer(&opts)
	if err != nil {
		b.t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(within) {
		b.t.Fatal("the server does not start")
	}
	b.server = server
	b.opts.Port = opts.Port // the same one after a restart
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

func (b *broker) restart() {
	b.t.Helper()
	b.stop()
	b.start()
}

// connect returns a connection of its own, with the journal's stream as package
// outbox makes it.
func (b *broker) connect() jetstream.JetStream {
	b.t.Helper()
	conn, err := nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{
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
