package outbox

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// TestLayout: the streams are what the contract says, to the letter.
func TestLayout(t *testing.T) {
	w := newWorld(t)
	settings := usual
	settings.Partitions = 24
	s := w.open(t, settings)
	for name, subjects := range map[string][]string{
		"USAGE":         {"usage.events.*.*", "usage.replay.*.*"},
		"USAGE_JOURNAL": {"usage.journal.*.*"},
		"USAGE_DLQ":     {"usage.dlq.*.*"},
	} {
		cfg := w.info(t, name).Config
		if !slices.Equal(cfg.Subjects, subjects) {
			t.Errorf("%s has subjects %v, want %v", name, cfg.Subjects, subjects)
		}
		if cfg.Retention != jetstream.LimitsPolicy || cfg.Discard != jetstream.DiscardNew || cfg.Storage != jetstream.FileStorage || cfg.Replicas != 1 {
			t.Errorf("%s: retention %v, discard %v, storage %v, replicas %d", name, cfg.Retention, cfg.Discard, cfg.Storage, cfg.Replicas)
		}
		if cfg.Duplicates != 2*time.Minute {
			t.Errorf("%s: duplicate window %v", name, cfg.Duplicates)
		}
		if want := map[string]time.Duration{"USAGE_JOURNAL": 36 * 24 * time.Hour}[name]; cfg.MaxAge != want {
			t.Errorf("%s: age limit %v, want %v", name, cfg.MaxAge, want)
		}
		maps.DeleteFunc(cfg.Metadata, func(key, _ string) bool {
			return strings.HasPrefix(key, "_nats.") || name == UsageStream && key == metaDurable // see TestDurableBucket
		})
		if want := map[string]string{"mode": "test", "partitions": "24", "format": "1", "epoch": s.Epoch()}; !maps.Equal(cfg.Metadata, want) {
			t.Errorf("%s: metadata %v, want %v", name, cfg.Metadata, want)
		}
	}
	cfg := w.info(t, "USAGE").Config
	want := jetstream.SubjectTransformConfig{Source: "usage.*.*.*", Destination: "usage.part.{{partition(24,2,3)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}"}
	if cfg.SubjectTransform == nil || *cfg.SubjectTransform != want {
		t.Errorf("transform %v, want %v", cfg.SubjectTransform, want)
	}
	if cfg.MaxBytes <= 0 || cfg.MaxMsgSize != 1<<20-16<<10 {
		t.Errorf("USAGE: size limit %d, message limit %d", cfg.MaxBytes, cfg.MaxMsgSize)
	}
	if len(s.Epoch()) != 10 {
		t.Errorf("epoch %q", s.Epoch())
	}
}

func TestConsumers(t *testing.T) {
	w := newWorld(t)
	settings := usual
	settings.Partitions, settings.AckWait = 12, 17*time.Second
	w.open(t, settings)
	for p := range 12 {
		c, err := w.js.Consumer(t.Context(), "USAGE", fmt.Sprintf("worker-%d", p))
		if err != nil {
			t.Fatal(err)
		}
		cfg := c.CachedInfo().Config
		if cfg.FilterSubject != fmt.Sprintf("usage.part.%d.>", p) || cfg.AckPolicy != jetstream.AckExplicitPolicy || cfg.MaxDeliver != -1 ||
			cfg.AckWait != 17*time.Second || cfg.DeliverPolicy != jetstream.DeliverAllPolicy || cfg.MaxAckPending != 300_000 {
			t.Errorf("consumer %d: %+v", p, cfg)
		}
	}
	settings.AckWait = 45 * time.Second
	w.open(t, settings)
	c, err := w.js.Consumer(t.Context(), "USAGE", "worker-7")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.CachedInfo().Config.AckWait; got != 45*time.Second {
		t.Errorf("ack_wait %v after it was changed in the configuration", got)
	}
}

// TestStoredSubjects: producers never see partitions; a customer's events and replays
// share one, unpadded, and are spread over all.
func TestStoredSubjects(t *testing.T) {
	w := newWorld(t)
	settings := usual
	settings.Partitions = 24
	w.open(t, settings)
	stream, err := w.js.Stream(t.Context(), UsageStream)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int{}
	for i := range 200 {
		var at [2]string
		for j, kind := range []string{"events", "replay"} {
			seq := w.publish(t, fmt.Sprintf("usage.%s.api_calls.cus_%d", kind, i), "x")
			raw, err := stream.GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			tokens := strings.Split(raw.Subject, ".")
			if want := fmt.Sprintf("usage.part.%s.%s.api_calls.cus_%d", tokens[2], kind, i); raw.Subject != want {
				t.Fatalf("stored as %s, want %s", raw.Subject, want)
			}
			at[j] = tokens[2]
		}
		if at[0] != at[1] {
			t.Errorf("customer %d: events in partition %s, replays in %s", i, at[0], at[1])
		}
		used[at[0]]++
	}
	for p := range 24 {
		if used[fmt.Sprint(p)] == 0 {
			t.Errorf("none of 200 customers is in partition %d: %v", p, used)
		}
	}
}

// TestOpenAgain: what is there already stays as it is.
func TestOpenAgain(t *testing.T) {
	w := newWorld(t)
	first := w.open(t, usual)
	w.publish(t, "usage.events.a.b", "x")
	before := map[string]jetstream.StreamConfig{}
	for _, name := range []string{UsageStream, JournalStream, DLQStream, AuditStream} {
		before[name] = w.info(t, name).Config
	}
	for _, manage := range []bool{true, false} {
		settings := usual
		settings.Manage = manage
		if again := w.open(t, settings); again.Epoch() != first.Epoch() {
			t.Errorf("epoch %s, then %s", first.Epoch(), again.Epoch())
		}
	}
	for name, cfg := range before {
		if now := w.info(t, name).Config; !reflect.DeepEqual(now, cfg) {
			t.Errorf("%s was\n%+v, is\n%+v", name, cfg, now)
		}
	}
	if n := w.info(t, UsageStream).State.Msgs; n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

// TestOpenAtOnce: replicas that start together end with the same streams and one
// epoch.
func TestOpenAtOnce(t *testing.T) {
	for range 5 {
		w := newWorld(t, func(o *natsserver.Options) { o.JetStreamMaxStore = 1 << 30 })
		var all sync.WaitGroup
		epochs := make([]string, 6)
		for i := range epochs {
			all.Go(func() {
				s, err := Open(t.Context(), w.js, usual)
				if err != nil {
					t.Error(err)
					return
				}
				epochs[i] = s.Epoch()
			})
		}
		all.Wait()
		for _, epoch := range epochs {
			if epoch == "" || epoch != epochs[0] {
				t.Fatalf("epochs %q", epochs)
			}
		}
		for _, name := range []string{UsageStream, JournalStream, DLQStream, AuditStream} {
			if got := w.info(t, name).Config.Metadata["epoch"]; got != epochs[0] {
				t.Errorf("%s has epoch %s, the workers %s", name, got, epochs[0])
			}
		}
		if got := w.info(t, UsageStream).Config; got.MaxBytes != 512<<20 || got.Metadata[metaShrink] != "" {
			t.Errorf("size limit %d MiB, metadata %v", got.MaxBytes>>20, got.Metadata)
		}
	}
}

// TestNothingIsManaged: without the right to, nothing is created and everything
// that is missing is named.
func TestNothingIsManaged(t *testing.T) {
	w := newWorld(t)
	settings := usual
	settings.Manage = false
	_, err := Open(t.Context(), w.js, settings)
	refusal(t, err, "stream USAGE does not exist", "stream USAGE_JOURNAL does not exist", "stream USAGE_DLQ does not exist", "METERWORKER_MANAGE_STREAMS=true")
	if names := slices.Collect(maps.Values(streamNames(t, w))); len(names) > 0 {
		t.Errorf("streams %v were created", names)
	}
	s := w.open(t, usual)
	if err := s.usage.DeleteConsumer(t.Context(), "worker-1"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), w.js, settings)
	refusal(t, err, "consumer worker-1 does not exist; create it")
	if _, err := w.js.Consumer(t.Context(), UsageStream, "worker-1"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("consumer: %v", err)
	}
}

// TestTheBucketInMemoryComesBack: it goes with a server that runs alone, also where
// nothing else is created.
func TestTheBucketInMemoryComesBack(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	s.settings.Manage = false
	for range 2 {
		members, err := s.Members(t.Context(), "me")
		if err != nil {
			t.Fatal(err)
		}
		if err := members.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.js.DeleteKeyValue(t.Context(), ControlBucket); err != nil {
			t.Fatal(err)
		}
	}
}

func streamNames(t *testing.T, w *world) map[string]string {
	t.Helper()
	names := map[string]string{}
	lister := w.js.StreamNames(t.Context())
	for name := range lister.Name() {
		names[name] = name
	}
	if err := lister.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestUnmanagedStreamsMustSayWhoseTheyAre: by hand, the metadata must be right from
// the start, since nobody adds it.
func TestUnmanagedStreamsMustSayWhoseTheyAre(t *testing.T) {
	w := newWorld(t)
	w.open(t, usual)
	for _, name := range []string{UsageStream, JournalStream, DLQStream, AuditStream} {
		w.update(t, name, func(c *jetstream.StreamConfig) { c.Metadata, c.MaxMsgSize = nil, -1 })
	}
	settings := usual
	settings.Manage = false
	_, err := Open(t.Context(), w.js, settings)
	refusal(t, err, "stream USAGE: metadata mode is missing: set it to test", "stream USAGE_JOURNAL: metadata mode", "stream USAGE_DLQ: metadata mode",
		"stream USAGE: max_msg_size is -1: set it to at most 1032192")
}

// TestEpochOfForeignStream: a stream that was made by somebody else has the same
// epoch for all workers, with and without the right to write it down. Identifiers
// are made of it.
func TestEpochOfForeignStream(t *testing.T) {
	w := newWorld(t)
	w.open(t, usual)
	for _, name := range []string{UsageStream, JournalStream, DLQStream, AuditStream, durableStream} {
		w.update(t, name, func(c *jetstream.StreamConfig) { delete(c.Metadata, "epoch") })
	}
	settings := usual
	settings.Manage = false
	unmanaged := w.open(t, settings).Epoch()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			s, err := Open(t.Context(), w.js, usual)
			if err != nil {
				t.Error(err)
			} else if s.Epoch() != unmanaged {
				t.Errorf("epoch %s, for the others %s", s.Epoch(), unmanaged)
			}
		})
	}
	all.Wait()
	if got := w.info(t, UsageStream).Config.Metadata["epoch"]; got != unmanaged {
		t.Errorf("epoch %q is written down, want %q", got, unmanaged)
	}
}
