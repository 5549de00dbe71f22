package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/internal/outbox"
)

// testOutbox is a NATS server with the worker's streams.
type testOutbox struct {
	t       *testing.T
	url     string
	js      jetstream.JetStream
	streams *outbox.Streams
	serial  uint64
}

func newTestOutbox(t *testing.T) *testOutbox {
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
	o := &testOutbox{t: t, url: server.ClientURL()}
	if o.js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	o.streams, err = outbox.Open(t.Context(), o.js, outbox.Settings{
		Mode: "test", Partitions: 4, Replicas: 1, Manage: true, AckWait: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// run runs one command line against the outbox.
func (o *testOutbox) run(in io.Reader, args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	var out, errs bytes.Buffer
	code = execute(o.t.Context(), args, &process{In: in, Out: &out, Err: &errs, Env: environment{"NATS_URL": o.url}})
	return code, out.String(), errs.String()
}

// until runs a command line that is interrupted by ctx, with its output to out.
func (o *testOutbox) until(ctx context.Context, in io.Reader, out io.Writer, args ...string) (code int, stderr string) {
	o.t.Helper()
	var errs bytes.Buffer
	code = execute(ctx, args, &process{In: in, Out: out, Err: &errs, Env: environment{"NATS_URL": o.url}})
	return code, errs.String()
}

// deadLetter is a letter that may be replayed as it stands.
func deadLetter(reason deadletter.Reason) deadletter.Letter {
	now := time.Now().UTC()
	return deadletter.Letter{
		Reason: reason, Outcome: deadletter.Refused, DeadAt: now, StoredAt: now.Add(-time.Minute),
		Subject: "usage.events.api_calls.cus_1", Identifier: "req-1", Timestamp: now.Unix() - 60,
	}
}

const eventBody = `{"event_name":"api_calls","identifier":"req-1","payload":{"stripe_customer_id":"cus_1","value":3}}`

// bury stores a letter; ids count up from 1.
func (o *testOutbox) bury(l deadletter.Letter, body string) {
	o.t.Helper()
	o.serial++
	if l.Sequence == 0 {
		l.Sequence = o.serial
	}
	if err := o.streams.DeadLetters().Publish(o.t.Context(), l, l.Header(), []byte(body)); err != nil {
		o.t.Fatal(err)
	}
}

// stored is the number of messages in a stream.
func (o *testOutbox) stored(stream string) uint64 {
	o.t.Helper()
	s, err := o.js.Stream(o.t.Context(), stream)
	if err != nil {
		o.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// holds fails the test unless the outbox and the dead letters hold so many.
func (o *testOutbox) holds(usage, letters uint64) {
	o.t.Helper()
	if u, d := o.stored(outbox.UsageStream), o.stored(outbox.DLQStream); u != usage || d != letters {
		o.t.Errorf("%d messages and %d dead letters, want %d and %d", u, d, usage, letters)
	}
}

// message is a message of USAGE.
func (o *testOutbox) message(sequence uint64) *jetstream.RawStreamMsg {
	o.t.Helper()
	s, err := o.js.Stream(o.t.Context(), outbox.UsageStream)
	if err != nil {
		o.t.Fatal(err)
	}
	m, err := s.GetMsg(o.t.Context(), sequence)
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

// Client commands never start a server: they say that there is none, and what to do.
func TestNoServer(t *testing.T) {
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	for _, line := range []string{"publish", "dlq list", "dlq show 1", "dlq replay 1"} {
		code, _, stderr := runCommand(t, environment{"NATS_URL": "nats://user:hunter2@" + addr}, strings.Fields(line)...)
		if code != exitFailed || !strings.Contains(stderr, "start `meterworker run`") || !strings.Contains(stderr, "set NATS_URL") {
			t.Errorf("%s: exit %d, %q", line, code, stderr)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("%s shows the password", line)
		}
	}
}

// A client reads the settings of the connection, not the worker's.
func TestClientConfig(t *testing.T) {
	env := environment{"METERWORKER_RATE": "NaN", "STRIPE_API_KEY": "nonsense", "NATS_URL": "nats://a:1"}
	cfg, err := clientConfig(&DLQListCmd{}, env)
	if err != nil || cfg.NATSURL != "nats://a:1" {
		t.Errorf("%q, %v", cfg.NATSURL, err)
	}
	given := "nats://b:2"
	if cfg, err = clientConfig(&DLQListCmd{ClientSettings: ClientSettings{NATSURL: &given}}, env); err != nil || cfg.NATSURL != given {
		t.Errorf("%q, %v, want the flag's", cfg.NATSURL, err)
	}
	code, _, stderr := runCommand(t, environment{"NATS_URL": "http://a"}, "dlq", "list")
	if code != exitUsage || !strings.Contains(stderr, `has the scheme "http"`) {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
