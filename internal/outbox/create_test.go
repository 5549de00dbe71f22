package outbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// TestSizeLimit: USAGE never takes the room in which journal and dead letters write.
func TestSizeLimit(t *testing.T) {
	for _, c := range []struct{ store, want int64 }{
		{100 << 20, 64 << 20},
		{256 << 20, 128 << 20},
		{1 << 30, 512 << 20},
		{10 << 30, 4 << 30},
		{24 << 30, 16 << 30},
		{1 << 40, 16 << 30},
	} {
		t.Run(fmt.Sprintf("%d MiB", c.store>>20), func(t *testing.T) {
			w := newWorld(t, func(o *natsserver.Options) { o.JetStreamMaxStore = c.store })
			w.open(t, usual)
			if got := w.info(t, UsageStream).Config.MaxBytes; got != c.want {
				t.Errorf("size limit %d MiB, want %d", got>>20, c.want>>20)
			}
		})
	}
	t.Run("too small", func(t *testing.T) {
		w := newWorld(t, func(o *natsserver.Options) { o.JetStreamMaxStore = 64 << 20 })
		_, err := Open(t.Context(), w.js, usual)
		if err == nil || !strings.Contains(err.Error(), "needs room for 96 MiB") {
			t.Errorf("got %v", err)
		}
	})
}

// TestNoRoom: USAGE is made smaller for want of room only, not since servers of a cluster
// that is just starting are missing.
func TestNoRoom(t *testing.T) {
	for description, want := range map[string]bool{
		"no suitable peers for placement":                                     false,
		"no suitable peers for placement, peer offline":                       false,
		"no suitable peers for placement, insufficient storage":               true,
		"no suitable peers for placement, peer offline, insufficient storage": true,
	} {
		err := fmt.Errorf("create: %w", &jetstream.APIError{ErrorCode: codeNoPeers, Description: description})
		if got := isNoRoom(err); got != want {
			t.Errorf("%s: %v, want %v", description, got, want)
		}
	}
	if isNoRoom(errors.New("insufficient storage")) {
		t.Error("not the server's word, and taken for it")
	}
}

// TestDiedWhileCreating: a creation that ended before it gave back the reserved room
// is finished by the next one.
func TestDiedWhileCreating(t *testing.T) {
	w := newWorld(t)
	w.open(t, usual)
	w.update(t, UsageStream, func(c *jetstream.StreamConfig) { c.MaxBytes, c.Metadata[metaShrink] = 96<<20, "67108864" })
	w.open(t, usual)
	if got := w.info(t, UsageStream).Config; got.MaxBytes != 64<<20 || got.Metadata[metaShrink] != "" {
		t.Errorf("size limit %d, metadata %v", got.MaxBytes, got.Metadata)
	}
}

// TestFull: a full USAGE refuses its producers and loses nothing, while journal and
// dead letters can still write, on a server as small as may be.
func TestFull(t *testing.T) {
	w := newWorld(t, func(o *natsserver.Options) { o.JetStreamMaxStore = 100 << 20 })
	s := w.open(t, usual)
	stored, body := uint64(0), strings.Repeat("x", 1<<20-20<<10)
	for {
		_, err := w.js.Publish(t.Context(), "usage.events.api_calls.cus_1", []byte(body))
		if err != nil {
			if apiCode(err) != 10077 {
				t.Fatalf("refused by %v, want error 10077", err)
			}
			break
		}
		if stored++; stored > 100 {
			t.Fatal("never full")
		}
	}
	state := w.info(t, UsageStream).State
	if state.Msgs != stored || state.FirstSeq != 1 || stored < 60 {
		t.Errorf("%d of %d messages are there, from %d on", state.Msgs, stored, state.FirstSeq)
	}
	for i := range 20 {
		w.publish(t, "usage.journal.1.done", body)
		if err := s.DeadLetters().Publish(t.Context(), letter(uint64(i+1)), nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.info(t, DLQStream).State.Msgs; n != 20 {
		t.Errorf("%d dead letters are stored, want 20", n)
	}
}

func letter(sequence uint64) deadletter.Letter {
	return deadletter.Letter{Reason: deadletter.Rejected, Outcome: deadletter.Refused, Subject: "usage.events.api_calls.cus_1", Sequence: sequence}
}

func TestNotBehind(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	for range 3 {
		w.publish(t, "usage.events.a.b", "x")
	}
	if err := s.usage.Purge(t.Context()); err != nil { // trimming does not set it back
		t.Fatal(err)
	}
	if err := s.NotBehind(t.Context(), 3); err != nil {
		t.Errorf("at its end: %v", err)
	}
	refusal(t, s.NotBehind(t.Context(), 4), "USAGE ends at sequence 3", "mentions 4", "restore both streams")
}

// TestRecreatedAlone: a USAGE that was deleted and made anew counts from 1 again;
// nobody goes on with the old journal.
func TestRecreatedAlone(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	p := partition(t, s, 0)
	if err := w.js.DeleteStream(t.Context(), UsageStream); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), w.js, usual)
	refusal(t, err, "stream USAGE_JOURNAL: metadata epoch is "+s.Epoch(), "restore both")
	_, err = s.Partition(t.Context(), 0)
	refusal(t, err, "stream USAGE: metadata epoch", "recreated")
	err = p.Fetch(1, func(*Message) { t.Error("a message of the new stream was handed out") })
	refusal(t, err, "recreated")
	if _, err := w.js.Consumer(t.Context(), UsageStream, "worker-0"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("consumer on the new stream: %v", err)
	}
}

// TestJournalGone: where messages were delivered there was a journal. Without it they
// could be billed again.
func TestJournalGone(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	if err := w.js.DeleteStream(t.Context(), JournalStream); err != nil {
		t.Fatal(err)
	}
	w.open(t, usual) // nothing was delivered yet
	w.publish(t, "usage.events.a.b", "x")
	for p := range 3 {
		if err := partition(t, s, p).Fetch(1, func(m *Message) { _ = m.Ack() }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.js.DeleteStream(t.Context(), JournalStream); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), w.js, usual)
	refusal(t, err, "stream USAGE_JOURNAL does not exist although messages of USAGE were delivered", "restore it")
	if _, there := streamNames(t, w)[JournalStream]; there {
		t.Error("an empty journal was created")
	}
	s.epoch = ""
	cfg := s.journalConfig() // by hand
	cfg.Metadata = nil
	if _, err := w.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.open(t, usual)
}

func TestServerIsNoCluster(t *testing.T) {
	w := newWorld(t)
	settings := usual
	settings.Replicas = 3
	_, err := Open(t.Context(), w.js, settings)
	refusal(t, err, "num_replicas is 3", "METERWORKER_STREAM_REPLICAS=1")
}

func TestPayload(t *testing.T) {
	w := newWorld(t, func(o *natsserver.Options) { o.MaxPayload = 64 << 10 })
	_, err := Open(t.Context(), w.js, usual)
	refusal(t, err, "max_payload is 65536", "at least 81920")
	conn, err := nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true), nats.ReconnectWait(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), js, usual)
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		t.Errorf("before the first connection: %v; want an error that passes", err)
	}
}
