package outbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of the streams.
const (
	UsageStream   = "USAGE"
	JournalStream = "USAGE_JOURNAL"
	DLQStream     = "USAGE_DLQ"
)

// Metadata keys of every stream.
const (
	metaMode       = "mode"       // live or test
	metaPartitions = "partitions" // fixed at creation
	metaFormat     = "format"     // version of subjects, headers and journal entries
	metaEpoch      = "epoch"      // drawn when USAGE was created; part of ids that must not repeat
)

const formatVersion = "1"

// Bounds of the streams.
const (
	duplicateWindow = 2 * time.Minute
	leastUsageAge   = 40 * 24 * time.Hour // an age limit of USAGE below it would drop what is not delivered yet
	journalAge      = 36 * 24 * time.Hour // 35 days until Stripe refuses by timestamp, and a margin
	headerRoom      = 16 << 10            // what a dead letter's headers may add to a message
	usageMaxBytes   = 16 << 30            // wanted; halved until it fits and leaves the other streams room
	usageLeastBytes = 64 << 20
	callTimeout     = 5 * time.Second
)

// Settings are what the streams depend on.
type Settings struct {
	Mode       string // live or test
	Partitions int
	Replicas   int
	Manage     bool // create what is missing; else only check
	AckWait    time.Duration
}

// Streams is the set of streams, open and checked.
type Streams struct {
	js       jetstream.JetStream
	settings Settings
	usage    jetstream.Stream
	journal  jetstream.Stream
	dlq      jetstream.Stream
	epoch    string
}

// Refused says that a stream cannot be worked with as it is. It is a fault of the
// set-up: trying again does not help.
type Refused struct{ Problems []string }

func (e *Refused) Error() string { return strings.Join(e.Problems, "\n") }

// Open creates the streams that are missing and checks the others.
func Open(ctx context.Context, js jetstream.JetStream, settings Settings) (*Streams, error) {
	s := &Streams{js: js, settings: settings}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Streams) open(ctx context.Context) (err error) {
	if s.usage, err = s.ensure(ctx, s.usageConfig()); err != nil {
		return err
	}
	s.epoch = s.usage.CachedInfo().Config.Metadata[metaEpoch]
	if s.epoch == "" {
		s.epoch = strconv.FormatInt(s.usage.CachedInfo().Created.UnixNano(), 36)
	}
	if s.journal, err = s.ensure(ctx, s.journalConfig()); err != nil {
		return err
	}
	if s.dlq, err = s.ensure(ctx, s.dlqConfig()); err != nil {
		return err
	}
	return s.consumers(ctx)
}

// Epoch is the stamp of the USAGE stream.
func (s *Streams) Epoch() string { return s.epoch }

// JetStream is what the streams were opened with.
func (s *Streams) JetStream() jetstream.JetStream { return s.js }

// NotBehind refuses an outbox whose last sequence is below one that the journal
// mentions: one of the two was restored from an old copy.
func (s *Streams) NotBehind(ctx context.Context, newest uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := s.usage.Info(ctx)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	if last := info.State.LastSeq; last < newest {
		return &Refused{[]string{fmt.Sprintf(
			"stream %s ends at sequence %d but %s mentions %d: a copy of before was restored; restore both streams from the same moment",
			UsageStream, last, JournalStream, newest)}}
	}
	return nil
}

// Partitions is their number.
func (s *Streams) Partitions() int { return s.settings.Partitions }

func (s *Streams) usageConfig() jetstream.StreamConfig {
	cfg := s.config(UsageStream, "usage.events.*.*", "usage.replay.*.*")
	cfg.Description = "meterworker: usage to be billed"
	cfg.Duplicates = duplicateWindow
	cfg.MaxBytes = usageMaxBytes
	cfg.SubjectTransform = &jetstream.SubjectTransformConfig{
		Source:      "usage.*.*.*",
		Destination: fmt.Sprintf("usage.part.{{partition(%d,2,3)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}", s.settings.Partitions),
	}
	if limit := s.js.Conn().MaxPayload(); limit > 2*headerRoom {
		cfg.MaxMsgSize = int32(min(limit-headerRoom, 1<<30)) //nolint:gosec // bounded by the constant
	}
	return cfg
}

func (s *Streams) journalConfig() jetstream.StreamConfig {
	cfg := s.config(JournalStream, "usage.journal.*.*")
	cfg.Description = "meterworker: who owns which partition, what may have been sent, what became of it"
	cfg.MaxAge = journalAge
	cfg.Duplicates = duplicateWindow
	return cfg
}

func (s *Streams) dlqConfig() jetstream.StreamConfig {
	cfg := s.config(DLQStream, "usage.dlq.*.*")
	cfg.Description = "meterworker: dead letters, for people"
	cfg.Duplicates = duplicateWindow
	return cfg
}

func (s *Streams) config(name string, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, Replicas: s.settings.Replicas, MaxBytes: -1, MaxMsgs: -1,
		Metadata: map[string]string{
			metaMode: s.settings.Mode, metaPartitions: strconv.Itoa(s.settings.Partitions),
			metaFormat: formatVersion, metaEpoch: s.epoch,
		},
	}
}

// ensure returns the stream, created or checked.
func (s *Streams) ensure(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && s.settings.Manage:
		stream, err := s.create(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return s.ensure(ctx, want) // another replica was faster
		}
		return stream, err
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, &Refused{[]string{fmt.Sprintf("stream %s does not exist; create it, or set METERWORKER_MANAGE_STREAMS=true", want.Name)}}
	case err != nil:
		return nil, fmt.Errorf("look up stream %s: %w", want.Name, err)
	}
	if problems := check(stream.CachedInfo(), want); len(problems) > 0 {
		return nil, &Refused{problems}
	}
	return s.stamp(ctx, stream, want)
}

func (s *Streams) create(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if want.Name == UsageStream {
		return s.createUsage(ctx, want)
	}
	stream, err := s.js.CreateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", want.Name, err)
	}
	return stream, nil
}

// createUsage finds the largest size limit that leaves half of it again for the
// journal and the dead letters: those must be able to write when USAGE is full.
func (s *Streams) createUsage(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	want.Metadata[metaEpoch] = newEpoch()
	for size := int64(usageMaxBytes); ; size /= 2 {
		want.MaxBytes = size + size/2
		_, err := s.js.CreateStream(ctx, want)
		if err == nil {
			want.MaxBytes = size
			return s.shrink(ctx, want)
		}
		if !isNoRoom(err) || size/2 < usageLeastBytes {
			return nil, fmt.Errorf("create stream %s with room for %d MiB: %w", want.Name, size>>20, err)
		}
	}
}

func (s *Streams) shrink(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	stream, err := s.js.UpdateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("set the size limit of stream %s: %w", want.Name, err)
	}
	return stream, nil
}

// Error codes of JetStream for a limit that does not fit.
const (
	codeNoStorage     = 10047
	codeAccountLimits = 10002
	codeNoPeers       = 10005
)

func isNoRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == codeNoStorage || api.ErrorCode == codeAccountLimits || api.ErrorCode == codeNoPeers)
}

func newEpoch() string {
	var b [5]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// stamp adds our metadata, and to USAGE the bound on a message's size, where a
// stream was made by somebody else.
func (s *Streams) stamp(ctx context.Context, stream jetstream.Stream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	have := stream.CachedInfo().Config
	missing := false
	if have.Metadata == nil {
		have.Metadata = map[string]string{}
	}
	for _, key := range slices.Sorted(maps.Keys(want.Metadata)) {
		if have.Metadata[key] == "" && want.Metadata[key] != "" {
			have.Metadata[key], missing = want.Metadata[key], true
		}
	}
	if want.Name == UsageStream && have.Metadata[metaEpoch] == "" {
		have.Metadata[metaEpoch], missing = newEpoch(), true
	}
	if want.MaxMsgSize > 0 && (have.MaxMsgSize <= 0 || have.MaxMsgSize > want.MaxMsgSize) {
		have.MaxMsgSize, missing = want.MaxMsgSize, true
	}
	if !missing || !s.settings.Manage {
		return stream, nil
	}
	stream, err := s.js.UpdateStream(ctx, have)
	if err != nil {
		return nil, fmt.Errorf("stamp stream %s: %w", want.Name, err)
	}
	return stream, nil
}
