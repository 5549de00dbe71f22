package examples

import (
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/natstest"
)

// stream is that of a worker as far as producers see it.
func stream(t *testing.T, js jetstream.JetStream, change func(*jetstream.StreamConfig)) jetstream.StreamConfig {
	t.Helper()
	config := jetstream.StreamConfig{
		Name: "USAGE", Subjects: []string{"usage.events.*.*"}, Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute,
	}
	change(&config)
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return config
}

func storedIn(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), "USAGE")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// The PubAck is lost: the event is stored, and the producer does not know. It publishes the
// same bytes under the same id again, and one message is stored.
func TestALostPubAckIsAskedForAgain(t *testing.T) {
	for _, p := range producers(t) {
		t.Run(p.name, func(t *testing.T) {
			server := natstest.Start(t)
			js := server.Connect()
			config := stream(t, js, func(c *jetstream.StreamConfig) { c.NoAck = true })
			wait := start(t, server.ClientURL(), p.command, line(t, map[string]any{"request": "req-1"}))
			until(t, "the event to be stored", func() bool { return storedIn(t, js) == 1 })
			config.NoAck = false
			if _, err := js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			got := wait()
			if got.code != 0 || len(got.lines) != 1 || got.lines[0] != "line 1: duplicate of sequence 1" {
				t.Errorf("exit %d, %q, want the duplicate of sequence 1\n%s", got.code, got.lines, got.stderr)
			}
			if n := storedIn(t, js); n != 1 {
				t.Errorf("%d messages are stored, want 1", n)
			}
		})
	}
}

// A full stream refuses: the producer says so at once and goes on; when there is room again the
// same log is stored in full.
func TestAFullStreamRefuses(t *testing.T) {
	for _, p := range producers(t) {
		t.Run(p.name, func(t *testing.T) {
			server := natstest.Start(t)
			js := server.Connect()
			config := stream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
			log := line(t, map[string]any{"request": "req-1"}) + line(t, map[string]any{"request": "req-2"})
			got := run(t, server.ClientURL(), p.command, log)
			if got.code != 1 || len(got.lines) != 2 || !strings.HasPrefix(got.lines[0], "line 1: stored sequence=1") ||
				!strings.HasPrefix(got.lines[1], "line 2: error: the event was refused and nothing was stored") || !strings.Contains(got.lines[1], "the stream is full") {
				t.Errorf("exit %d, %q, want one stored and one refused for the full stream\n%s", got.code, got.lines, got.stderr)
			}
			config.MaxMsgs = -1
			if _, err := js.UpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			got = run(t, server.ClientURL(), p.command, log)
			if got.code != 0 || len(got.lines) != 2 || got.lines[0] != "line 1: duplicate of sequence 1" || !strings.HasPrefix(got.lines[1], "line 2: stored sequence=2") {
				t.Errorf("exit %d, %q, want the other one stored\n%s", got.code, got.lines, got.stderr)
			}
		})
	}
}

// A producer that may not publish on a meter says so instead of waiting in silence.
func TestADeniedProducerSaysSo(t *testing.T) {
	for _, p := range producers(t) {
		t.Run(p.name, func(t *testing.T) {
			server := natstest.Start(t, permissions)
			conn, err := nats.Connect(server.ClientURL(), nats.UserInfo("worker", "w"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			stream(t, js, func(*jetstream.StreamConfig) {})
			url := strings.Replace(server.ClientURL(), "nats://", "nats://producer:p@", 1)
			got := run(t, url, "export NATS_INBOX_PREFIX=_INBOX_producer\n"+p.command,
				line(t, map[string]any{"request": "req-1", "meter": "storage"})+line(t, map[string]any{"request": "req-2"}))
			if got.code != 1 || len(got.lines) != 2 || !strings.HasPrefix(got.lines[0], "line 1: stored sequence=1") ||
				!strings.HasPrefix(got.lines[1], "line 2: error: the event was refused and nothing was stored") ||
				!strings.Contains(strings.ToLower(got.lines[1]), "permissions violation") {
				t.Errorf("exit %d, %q, %s, want one stored and one denied", got.code, got.lines, got.stderr)
			}
			if n := storedIn(t, js); n != 1 {
				t.Errorf("%d messages are stored, want 1", n)
			}
		})
	}
}

// permissions let the producer report storage and nothing else, with inboxes of its own.
func permissions(o *natsserver.Options) {
	o.Users = []*natsserver.User{
		{Username: "worker", Password: "w"},
		{Username: "producer", Password: "p", Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: []string{"usage.events.storage.*"}},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX_producer.>"}},
		}},
	}
}
