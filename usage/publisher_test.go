package usage_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
)

// startServer runs a server with JetStream on 127.0.0.1 until the test ends.
func startServer(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{
		ServerName: "usage-test", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}
	if change != nil {
		change(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stopServer(s) })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not answer")
	}
	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func connect(t testing.TB, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// startStream returns a connection's JetStream with the stream of a worker, as
// far as producers see it.
func startStream(t testing.TB, nc *nats.Conn, change func(*jetstream.StreamConfig)) (jetstream.JetStream, jetstream.Stream) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{
		Name: "USAGE", Subjects: []string{"usage.events.*.*", "usage.replay.*.*"},
		Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute,
	}
	if change != nil {
		change(&config)
	}
	stream, err := js.CreateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return js, stream
}

func newEvent(t testing.TB, identifier string, value int64) usage.Event {
	t.Helper()
	e, err := usage.New(usage.Params{EventName: "api.calls", Identifier: identifier, Customer: "cus_123", Value: value})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPublishStores(t *testing.T) {
	js, stream := startStream(t, connect(t, startServer(t, nil)), nil)
	e := newEvent(t, "req-1", 3)
	receipt, err := usage.NewPublisher(js).Publish(t.Context(), e)
	if err != nil || receipt != (usage.Receipt{Sequence: 1}) {
		t.Fatalf("Publish: %+v %v, want sequence 1", receipt, err)
	}
	stored, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := e.MarshalJSON()
	if stored.Subject != "usage.events.api=2Ecalls.cus_123" || string(stored.Data) != string(body) {
		t.Errorf("stored %s %s, want the subject of the event and %s", stored.Subject, stored.Data, body)
	}
	sum := sha256.Sum256([]byte(stored.Subject + "\x00" + string(body)))
	if got, want := stored.Header.Get("Nats-Msg-Id"), hex.EncodeToString(sum[:16]); got != want {
		t.Errorf("message id %q, want %q", got, want)
	}
	back, err := usage.Parse(usage.Message{Subject: stored.Subject, Header: stored.Header.Get, Body: stored.Data}, time.Now())
	if err != nil || back.Key() != e.Key() || back.Fingerprint() != e.Fingerprint() {
		t.Errorf("the stored message is %+v %v, want %+v", back, err, e)
	}
}

func TestPublishTwice(t *testing.T) {
	js, stream := startStream(t, connect(t, startServer(t, nil)), nil)
	publisher := usage.NewPublisher(js)
	e := newEvent(t, "req-1", 3)
	for _, want := range []usage.Receipt{{Sequence: 1}, {Sequence: 1, Duplicate: true}} {
		if receipt, err := publisher.Publish(t.Context(), e); err != nil || receipt != want {
			t.Fatalf("Publish: %+v %v, want %+v", receipt, err, want)
		}
	}
	// Other content under the same identifier must reach the worker, and a person.
	receipt, err := publisher.Publish(t.Context(), newEvent(t, "req-1", 4))
	if want := (usage.Receipt{Sequence: 2}); err != nil || receipt != want {
		t.Errorf("Publish of a conflict: %+v %v, want %+v", receipt, err, want)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 2 {
		t.Errorf("the stream has %+v %v, want 2 messages", info, err)
	}
}

func TestPublishToFullStream(t *testing.T) {
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"messages": func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 },
		"bytes":    func(c *jetstream.StreamConfig) { c.MaxBytes = 300 },
	} {
		t.Run(name, func(t *testing.T) {
			js, stream := startStream(t, connect(t, startServer(t, nil)), change)
			publisher := usage.NewPublisher(js)
			if _, err := publisher.Publish(t.Context(), newEvent(t, "req-1", 1)); err != nil {
				t.Fatal(err)
			}
			_, err := publisher.Publish(t.Context(), newEvent(t, "req-2", 1))
			if !errors.Is(err, usage.ErrRefused) || !strings.Contains(err.Error(), "the stream is full") {
				t.Errorf("Publish: %v, want ErrRefused that says that the stream is full", err)
			}
			if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 1 {
				t.Errorf("the stream has %+v %v, want 1 message", info, err)
			}
		})
	}
}

func TestPublishTooLarge(t *testing.T) {
	e, err := usage.New(usage.Params{EventName: "a", Customer: "c", Dimensions: manyDimensions(20)})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("for the stream", func(t *testing.T) {
		js, _ := startStream(t, connect(t, startServer(t, nil)), func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
		if _, err := usage.NewPublisher(js).Publish(t.Context(), e); !errors.Is(err, usage.ErrRefused) || !strings.Contains(err.Error(), "max_msg_size") {
			t.Errorf("Publish: %v, want ErrRefused that names max_msg_size", err)
		}
	})
	t.Run("for the server", func(t *testing.T) {
		js, _ := startStream(t, connect(t, startServer(t, func(o *server.Options) { o.MaxPayload = 1000 })), nil)
		if _, err := usage.NewPublisher(js).Publish(t.Context(), e); !errors.Is(err, usage.ErrRefused) || !strings.Contains(err.Error(), "max_payload") {
			t.Errorf("Publish: %v, want ErrRefused that names max_payload", err)
		}
	})
}

func TestPublishOnClosedConnection(t *testing.T) {
	nc := connect(t, startServer(t, nil))
	js, _ := startStream(t, nc, nil)
	nc.Close()
	if _, err := usage.NewPublisher(js).Publish(t.Context(), newEvent(t, "req-1", 1)); !errors.Is(err, usage.ErrRefused) || !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Publish: %v, want ErrRefused because the connection is closed", err)
	}
}

// observed closes began when the first try is about to be made.
type observed struct {
	jetstream.JetStream
	once  sync.Once
	began chan struct{}
}

func (o *observed) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	o.once.Do(func() { close(o.began) })
	return o.JetStream.PublishMsg(ctx, m, options...)
}

// The server goes away with the producer connected, and comes back on its port
// with its store while Publish is at it.
func TestPublishOutlastsServer(t *testing.T) {
	store := t.TempDir()
	first := startServer(t, func(o *server.Options) { o.StoreDir = store })
	lost := make(chan struct{}, 1)
	nc := connect(t, first, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- struct{}{} }))
	js, _ := startStream(t, nc, nil)
	if _, err := usage.NewPublisher(js).Publish(t.Context(), newEvent(t, "req-1", 1)); err != nil {
		t.Fatal(err)
	}

	port := first.Addr().(*net.TCPAddr).Port
	stopServer(first)
	<-lost
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type result struct {
		usage.Receipt
		error
	}
	results := make(chan result, 1)
	absent := &observed{JetStream: js, began: make(chan struct{})}
	event := newEvent(t, "req-2", 1)
	go func() {
		receipt, err := usage.NewPublisher(absent).Publish(ctx, event)
		results <- result{receipt, err}
	}()
	<-absent.began
	startServer(t, func(o *server.Options) { o.StoreDir, o.Port = store, port })
	if got := <-results; got.error != nil || got.Sequence != 2 {
		t.Errorf("Publish over the restart: %+v, want sequence 2", got)
	}
}
