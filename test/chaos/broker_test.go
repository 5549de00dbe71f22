package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// syncAlways is the setting that we ship and demand; syncDefault is the server's own, 2 min.
const (
	syncAlways  = "sync_interval: always"
	syncDefault = ""
)

// broker is one nats-server process on one store and one address, whatever number
// of times it is started.
type broker struct {
	t      testing.TB
	addr   string
	config string
	*process
}

// newBroker starts a server that stores in dir.
func newBroker(t testing.TB, dir, sync string) *broker {
	t.Helper()
	b := &broker{t: t, addr: freeAddress(t), config: filepath.Join(t.TempDir(), "nats.conf")}
	text := fmt.Sprintf("listen: %q\njetstream {\n  store_dir: %q\n  %s\n}\n", b.addr, dir, sync)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

// start runs the server and returns when JetStream answers.
func (b *broker) start() {
	b.t.Helper()
	b.process = launch(b.t, "nats-server", []string{"GOMAXPROCS=8"}, built(b.t, natsServer), "-c", b.config)
	until(b.t, "nats-server", func() bool { return b.ended() || b.said("Server is ready") })
	if b.ended() {
		b.t.Fatal("nats-server does not start")
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// client is a connection of the test's own.
type client struct {
	t  testing.TB
	js jetstream.JetStream
}

func dialNATS(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectBufSize(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, js}
}

// settled reports whether every stored message is acked.
func (c *client) settled() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE")
	if err != nil {
		return false
	}
	consumers, seen := stream.ListConsumers(ctx), 0
	for info := range consumers.Info() {
		if !strings.HasPrefix(info.Name, "worker-") {
			continue
		}
		seen++
		if info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return seen > 0 && consumers.Err() == nil
}

// letters reads the whole dead-letter stream.
func (c *client) letters() []jetstream.Msg {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE_DLQ")
	if err != nil {
		c.t.Fatal(err)
	}
	consumer, err := c.js.OrderedConsumer(ctx, "USAGE_DLQ", jetstream.OrderedConsumerConfig{})
	if err != nil {
		c.t.Fatal(err)
	}
	var all []jetstream.Msg
	for left := stream.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (c *client) letterCount() int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := c.js.Stream(ctx, "USAGE_DLQ")
	if err != nil {
		return 0
	}
	return int(stream.CachedInfo().State.Msgs)
}
