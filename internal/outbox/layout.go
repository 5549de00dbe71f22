package outbox

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of the streams.
const (
	UsageStream   = "USAGE"
	JournalStream = "USAGE_JOURNAL"
	DLQStream     = "USAGE_DLQ"
	AuditStream   = "USAGE_AUDIT"
)

// Metadata keys of every stream.
const (
	metaMode       = "mode"       // live or test
	metaPartitions = "partitions" // fixed at creation
	metaFormat     = "format"     // version of subjects, headers and journal entries
	metaEpoch      = "epoch"      // drawn when USAGE was created; part of ids that must not repeat

	// metaShrink is on a USAGE stream that is still reserving the room of the other
	// streams: the size limit, in bytes, that it must get.
	metaShrink = "shrink_to"
)

const formatVersion = "1"

// Bounds of the streams.
const (
	duplicateWindow = 2 * time.Minute
	leastUsageAge   = 40 * 24 * time.Hour // an age limit of USAGE below it would drop what is not delivered yet
	journalAge      = 36 * 24 * time.Hour // 35 days until Stripe refuses by timestamp, and a margin
	headerRoom      = 16 << 10            // what a dead letter's headers may add to a message
	leastPayload    = 64<<10 + headerRoom // the largest event, as a dead letter
	usageMaxBytes   = 16 << 30            // wanted; halved until it fits and leaves the other streams room
	usageLeastBytes = 64 << 20
)

func (s *Streams) usageConfig() jetstream.StreamConfig {
	cfg := s.config(UsageStream, "usage.events.*.*", "usage.replay.*.*")
	cfg.Description = "meterworker: usage to be billed"
	cfg.SubjectTransform = &jetstream.SubjectTransformConfig{
		Source:      "usage.*.*.*",
		Destination: fmt.Sprintf("usage.part.{{partition(%d,2,3)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}", s.settings.Partitions),
	}
	// A larger message could be stored, but not as a dead letter.
	cfg.MaxMsgSize = int32(min(s.js.Conn().MaxPayload()-headerRoom, 1<<30))
	return cfg
}

func (s *Streams) journalConfig() jetstream.StreamConfig {
	cfg := s.config(JournalStream, "usage.journal.*.*")
	cfg.Description = "meterworker: who owns which partition, what may have been sent, what became of it"
	cfg.MaxAge = journalAge
	return cfg
}

func (s *Streams) dlqConfig() jetstream.StreamConfig {
	cfg := s.config(DLQStream, "usage.dlq.*.*")
	cfg.Description = "meterworker: dead letters, for people"
	return cfg
}

func (s *Streams) auditConfig() jetstream.StreamConfig {
	cfg := s.config(AuditStream, "usage.audit.*")
	cfg.Description = "meterworker: what people did by hand"
	return cfg
}

func (s *Streams) config(name string, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, Replicas: s.settings.Replicas, MaxBytes: -1, MaxMsgs: -1,
		Duplicates: duplicateWindow,
		Metadata:   s.metadata(),
	}
}

// metadata is the stamp of every stream.
func (s *Streams) metadata() map[string]string {
	return map[string]string{
		metaMode: s.settings.Mode, metaPartitions: strconv.Itoa(s.settings.Partitions),
		metaFormat: formatVersion, metaEpoch: s.epoch,
	}
}
