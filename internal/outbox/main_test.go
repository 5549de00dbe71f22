package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/internal/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait. It is never what a test measures.
const patience = 30 * time.Second

// world is a server and a connection to it.
type world struct {
	server *natstest.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

func newWorld(t *testing.T, change ...func(*natsserver.Options)) *world {
	t.Helper()
	server := natstest.Start(t, change...)
	js := server.Connect()
	return &world{server: server, conn: js.Conn(), js: js}
}

var usual = Settings{Mode: "test", Partitions: 3, Replicas: 1, Manage: true, AckWait: 30 * time.Second}

func (w *world) open(t *testing.T, settings Settings) *Streams {
	t.Helper()
	s, err := Open(t.Context(), w.js, settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) info(t *testing.T, stream string) *jetstream.StreamInfo {
	t.Helper()
	s, err := w.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo()
}

// update changes a stream's configuration.
func (w *world) update(t *testing.T, stream string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	cfg := w.info(t, stream).Config
	change(&cfg)
	if _, err := w.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func (w *world) publish(t *testing.T, subject, body string) uint64 {
	t.Helper()
	ack, err := w.js.Publish(t.Context(), subject, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// refusal demands that err is a [Refused] whose text has all the parts.
func refusal(t *testing.T, err error, parts ...string) {
	t.Helper()
	if _, ok := errors.AsType[*Refused](err); !ok {
		t.Fatalf("got %v, want a refusal", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("refusal %q does not say %q", err, part)
		}
	}
}

// eventually waits for what the server does on its own.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// fetch pulls until n messages have come.
func fetch(t *testing.T, p *Partition, n int) []*Message {
	t.Helper()
	var got []*Message
	eventually(t, fmt.Sprintf("%d messages", n), func() bool {
		if err := p.Fetch(n-len(got), func(m *Message) { got = append(got, m) }); err != nil {
			t.Fatal(err)
		}
		return len(got) >= n
	})
	return got
}

func partition(t *testing.T, s *Streams, number int) *Partition {
	t.Helper()
	p, err := s.Partition(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
