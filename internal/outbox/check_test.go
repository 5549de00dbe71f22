package outbox

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// dangers has a row for each setting that can lose or double usage.
var dangers = []struct {
	name, stream string
	change       func(*jetstream.StreamConfig)
	says         []string // field, value, remedy
	byHand       bool     // no server that runs alone would take it
}{
	{"work queue", UsageStream, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, []string{"retention is WorkQueue", "limits"}, false},
	{"interest", DLQStream, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, []string{"retention is Interest", "limits"}, false},
	{"memory", UsageStream, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, []string{"storage is Memory", "file storage"}, false},
	{"memory journal", JournalStream, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, []string{"storage is Memory", "file storage"}, false},
	{"discard old", UsageStream, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, []string{"discard is DiscardOld", "set it to new"}, false},
	{"discard old letters", DLQStream, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, []string{"discard is DiscardOld", "set it to new"}, false},
	{"async", UsageStream, func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, []string{"persist_mode is async", "recreate"}, false},
	{"short age", UsageStream, func(c *jetstream.StreamConfig) { c.MaxAge = 40*24*time.Hour - time.Second }, []string{"max_age is 959h59m59s", "at least 960h"}, false},
	{"short journal age", JournalStream, func(c *jetstream.StreamConfig) { c.MaxAge = 35 * 24 * time.Hour }, []string{"max_age is 840h0m0s", "at least 864h"}, false},
	{"dead letters age", DLQStream, func(c *jetstream.StreamConfig) { c.MaxAge = 10 * 365 * 24 * time.Hour }, []string{"max_age is 87600h", "set it to 0"}, false},
	{"records age", AuditStream, func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }, []string{"max_age is 24h0m0s", "set it to 0"}, false},
	{"discard old records", AuditStream, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, []string{"discard is DiscardOld", "set it to new"}, false},
	{"window", JournalStream, func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, []string{"duplicate_window is 1m0s", "at least 2m0s"}, false},
	{"per subject", UsageStream, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 }, []string{"max_msgs_per_subject is 1000", "unlimited"}, false},
	{"roll-up", UsageStream, func(c *jetstream.StreamConfig) { c.AllowRollup = true }, []string{"allow_rollup_hdrs is true", "set it to false"}, false},
	{"ttl", UsageStream, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, []string{"allow_msg_ttl is true", "recreate"}, false},
	{"no acks", UsageStream, func(c *jetstream.StreamConfig) { c.NoAck = true }, []string{"no_ack is true", "set it to false"}, false},
	{"sealed", JournalStream, func(c *jetstream.StreamConfig) { c.Sealed = true }, []string{"sealed is true", "recreate"}, true},
	{"mirror", DLQStream, func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{Name: "OTHER"} }, []string{"mirror or sources is set", "without"}, true},
	{"sources", UsageStream, func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }, []string{"mirror or sources is set", "without"}, false},
	{"replicas", UsageStream, func(c *jetstream.StreamConfig) { c.Replicas = 0 }, []string{"num_replicas is 0", "raise it to 1", "METERWORKER_STREAM_REPLICAS=0"}, true},
	{"subjects", UsageStream, func(c *jetstream.StreamConfig) { c.Subjects = []string{"usage.events.*.*"} }, []string{"subjects is [usage.events.*.*]", "set them to [usage.events.*.* usage.replay.*.*]"}, false},
	{"more subjects", DLQStream, func(c *jetstream.StreamConfig) { c.Subjects = []string{"usage.dlq.*.*", "other.>"} }, []string{"subjects is [other.> usage.dlq.*.*]", "set them to [usage.dlq.*.*]"}, false},
	{"no transform", UsageStream, func(c *jetstream.StreamConfig) { c.SubjectTransform = nil }, []string{"subject_transform is missing", "recreate the stream with usage.part."}, false},
	{"partitions", UsageStream, func(c *jetstream.StreamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "usage.*.*.*", Destination: strings.Replace(c.SubjectTransform.Destination, "partition(3", "partition(4", 1)}
	}, []string{"subject_transform is usage.part.{{partition(4,2,3)}}", "it must be usage.part.{{partition(3,2,3)}}", "METERWORKER_PARTITIONS"}, false},
	{"journal transform", JournalStream, func(c *jetstream.StreamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "usage.journal.>", Destination: "elsewhere.>"}
	}, []string{"subject_transform is set", "remove it"}, false},
	{"mode", UsageStream, func(c *jetstream.StreamConfig) { c.Metadata["mode"] = "live" }, []string{"metadata mode is live", "key is for test mode", "other key"}, false},
	{"journal's mode", JournalStream, func(c *jetstream.StreamConfig) { c.Metadata["mode"] = "live" }, []string{"metadata mode is live"}, false},
	{"metadata partitions", JournalStream, func(c *jetstream.StreamConfig) { c.Metadata["partitions"] = "24" }, []string{"metadata partitions is 24", "METERWORKER_PARTITIONS"}, false},
	{"format", UsageStream, func(c *jetstream.StreamConfig) { c.Metadata["format"] = "2" }, []string{"metadata format is 2", "run the version"}, false},
	{"epoch", DLQStream, func(c *jetstream.StreamConfig) { c.Metadata["epoch"] = "other" }, []string{"metadata epoch is other", "restore both"}, false},
}

// TestDangers: each dangerous setting is refused by field, value and remedy, by the
// comparison alone and at the start against a real server.
func TestDangers(t *testing.T) {
	for _, c := range dangers {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.open(t, usual)
			cfg := w.info(t, c.stream).Config
			want := map[string]jetstream.StreamConfig{UsageStream: s.usageConfig(), JournalStream: s.journalConfig(), DLQStream: s.dlqConfig(), AuditStream: s.auditConfig()}[c.stream]
			if problems := check(&jetstream.StreamInfo{Config: cfg}, want); len(problems) > 0 {
				t.Fatalf("refused as it should be: %v", problems)
			}
			c.change(&cfg)
			problems := strings.Join(check(&jetstream.StreamInfo{Config: cfg}, want), "\n")
			for _, part := range append(c.says, "stream "+c.stream+": ") {
				if !strings.Contains(problems, part) {
					t.Errorf("%q does not say %q", problems, part)
				}
			}
			if c.byHand {
				return
			}
			if err := w.js.DeleteStream(t.Context(), c.stream); err != nil {
				t.Fatal(err)
			}
			if _, err := w.js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), w.js, usual)
			refusal(t, err, c.says...)
		})
	}
}

// TestHarmless: what can lose nothing is left to the stream's operator.
func TestHarmless(t *testing.T) {
	w := newWorld(t)
	w.open(t, usual)
	w.update(t, UsageStream, func(c *jetstream.StreamConfig) {
		c.MaxAge, c.MaxMsgs, c.MaxBytes, c.Description, c.AllowDirect = 40*24*time.Hour, 1_000_000, 1<<30, "ours", true
		c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 10, true
	})
	w.update(t, JournalStream, func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = 0, time.Hour })
	w.update(t, DLQStream, func(c *jetstream.StreamConfig) { c.MaxBytes, c.Metadata["team"] = 1<<30, "billing" })
	w.open(t, usual)
	if got := w.info(t, DLQStream).Config.Metadata["team"]; got != "billing" {
		t.Errorf("an operator's metadata is now %q", got)
	}
}

func TestConsumerDangers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*jetstream.ConsumerConfig)
		says   []string
	}{
		{"max_deliver", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }, []string{"max_deliver is 5", "set it to -1"}},
		{"backoff", func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{time.Second} }, []string{"backoff is [1s]", "remove it"}},
		{"ack none", func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckNonePolicy }, []string{"ack_policy is AckNone", "explicit"}},
		{"ack all", func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy }, []string{"ack_policy is AckAll", "explicit"}},
		{"filter", func(c *jetstream.ConsumerConfig) { c.FilterSubject = "usage.part.2.>" }, []string{"filter_subject is usage.part.2.>", "it must be usage.part.1.>"}},
		{"filters", func(c *jetstream.ConsumerConfig) {
			c.FilterSubject, c.FilterSubjects = "", []string{"usage.part.1.events.>", "usage.part.1.replay.>"}
		}, []string{"filter_subject is ", "it must be usage.part.1.>"}},
		{"new only", func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }, []string{"deliver_policy is new", "deliver all"}},
		{"memory", func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }, []string{"mem_storage is true", "file storage"}},
		{"headers only", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, []string{"headers_only is true", "set it to false"}},
		{"inactive", func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }, []string{"inactive_threshold is 1h0m0s", "set it to 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.open(t, usual)
			cfg := s.consumerConfig(1)
			if problems := checkConsumer(cfg, s.consumerConfig(1)); len(problems) > 0 {
				t.Fatalf("refused as it should be: %v", problems)
			}
			c.change(&cfg)
			if err := s.usage.DeleteConsumer(t.Context(), "worker-1"); err != nil {
				t.Fatal(err)
			}
			if c.name == "backoff" {
				cfg.MaxDeliver = 5
			}
			if _, err := s.usage.CreateConsumer(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), w.js, usual)
			refusal(t, err, append(c.says, "consumer worker-1: ")...)
			_, err = s.Partition(t.Context(), 1)
			refusal(t, err, c.says...)
		})
	}
	t.Run("push", func(t *testing.T) {
		w := newWorld(t)
		s := w.open(t, usual)
		if err := s.usage.DeleteConsumer(t.Context(), "worker-1"); err != nil {
			t.Fatal(err)
		}
		cfg := s.consumerConfig(1)
		cfg.DeliverSubject = "pushed.here"
		if _, err := w.js.CreatePushConsumer(t.Context(), UsageStream, cfg); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), w.js, usual)
		refusal(t, err, "consumer worker-1: deliver_subject is set", "recreate")
	})
}
