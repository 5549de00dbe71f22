package outbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ensure returns the stream, created or checked.
func (s *Streams) ensure(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	stream, err := s.lookUp(ctx, want.Name)
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
	problems := check(stream.CachedInfo(), want)
	if !s.settings.Manage {
		problems = append(problems, unstamped(stream.CachedInfo(), want)...)
	}
	if len(problems) > 0 {
		return nil, &Refused{problems}
	}
	return s.stamp(ctx, stream, want)
}

// lookUp asks with a bound of its own: a cluster that has no leader yet does not answer.
func (s *Streams) lookUp(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.js.Stream(ctx, name) // the callers wrap
}

func (s *Streams) create(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	var stream jetstream.Stream
	var err error
	switch want.Name {
	case UsageStream:
		stream, err = s.createUsage(ctx, want)
	case JournalStream:
		stream, err = s.createJournal(ctx, want)
	default:
		stream, err = s.js.CreateStream(ctx, want)
	}
	var refused *Refused
	switch {
	case err == nil:
		return stream, nil
	case errors.As(err, &refused):
		return nil, err
	case apiCode(err) == codeNotClustered:
		return nil, &Refused{[]string{fmt.Sprintf("stream %s: num_replicas is %d but the server is no cluster: set METERWORKER_STREAM_REPLICAS=1, or run a JetStream cluster", want.Name, want.Replicas)}}
	default:
		return nil, fmt.Errorf("create stream %s: %w", want.Name, err)
	}
}

// createUsage finds the largest size limit that leaves half of it again for the
// journal and the dead letters: those must be able to write when USAGE is full. The
// stream is first created half as large again; should we die before it has
// shrunk, [Streams.stamp] finishes that.
func (s *Streams) createUsage(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	want.Metadata = maps.Clone(want.Metadata) // the caller checks against its own, should another replica be faster
	want.Metadata[metaEpoch] = newEpoch()
	for size := int64(usageMaxBytes); ; size /= 2 {
		want.MaxBytes = size + size/2
		want.Metadata[metaShrink] = strconv.FormatInt(size, 10)
		stream, err := s.js.CreateStream(ctx, want)
		if err == nil {
			return s.stamp(ctx, stream, want)
		}
		if !isNoRoom(err) {
			return nil, err
		}
		if size/2 < usageLeastBytes {
			return nil, fmt.Errorf("it needs room for %d MiB; free some, or raise the JetStream limit (max_file_store) of the server or account: %w", want.MaxBytes>>20, err)
		}
	}
}

// createJournal refuses to begin a journal where there must have been one:
// consumers are created after it, and what was delivered without a journal could be
// billed again.
func (s *Streams) createJournal(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	served, err := s.served(ctx)
	if err != nil {
		return nil, err
	}
	if !served {
		return s.js.CreateStream(ctx, want)
	}
	stream, err := s.js.Stream(ctx, want.Name) // another replica may have created it and begun, just now
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, &Refused{[]string{fmt.Sprintf(
			"stream %s does not exist although messages of %s were delivered: it knew what must not be billed again; restore it, or declare it lost (meterworker accept-restored --stream %s)",
			want.Name, UsageStream, want.Name)}}
	}
	if err == nil {
		err = fmt.Errorf("%s: %w", stream.CachedInfo().Config.Name, jetstream.ErrStreamNameAlreadyInUse)
	}
	return nil, err
}

// served reports whether a worker has ever been given a message.
func (s *Streams) served(ctx context.Context) (bool, error) {
	for p := range s.settings.Partitions {
		consumer, err := s.usage.Consumer(ctx, s.consumerConfig(p).Durable)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrNotPullConsumer):
		case err != nil:
			return false, err
		case consumer.CachedInfo().Delivered.Consumer > 0:
			return true, nil
		}
	}
	return false, nil
}

// Error codes of JetStream.
const (
	codeAccountLimits = 10002
	codeNoPeers       = 10005
	codeNoStorage     = 10047
	codeNotClustered  = 10074
	codeStreamLimit   = 10122
)

// apiCode is JetStream's code of an error, 0 without one.
func apiCode(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	return 0
}

// isNoRoom reports that a smaller stream could be created. A cluster finds no place for one
// also while servers are missing, at its own start for one: that is no reason to make USAGE
// small for good.
func isNoRoom(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case codeNoStorage, codeAccountLimits, codeStreamLimit:
		return true
	case codeNoPeers:
		return strings.Contains(api.Description, "insufficient storage")
	default:
		return false
	}
}

func newEpoch() string {
	var b [5]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// stamp adds our metadata, and to USAGE the bound on a message's size, where a
// stream was made by somebody else; and it gives back the room that a creation
// reserved.
func (s *Streams) stamp(ctx context.Context, stream jetstream.Stream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if !s.settings.Manage {
		return stream, nil
	}
	have := stream.CachedInfo().Config
	changed := false
	if have.Metadata == nil {
		have.Metadata = map[string]string{}
	}
	if want.Name == UsageStream {
		want.Metadata = maps.Clone(want.Metadata)
		want.Metadata[metaEpoch] = epochOf(stream.CachedInfo())
	}
	for key, value := range want.Metadata {
		if have.Metadata[key] == "" && value != "" {
			have.Metadata[key], changed = value, true
		}
	}
	if unbounded(have, want) {
		have.MaxMsgSize, changed = want.MaxMsgSize, true
	}
	if size, err := strconv.ParseInt(have.Metadata[metaShrink], 10, 64); err == nil {
		have.MaxBytes, changed = size, true
		delete(have.Metadata, metaShrink)
	}
	if !changed {
		return stream, nil
	}
	stream, err := s.js.UpdateStream(ctx, have)
	if err != nil {
		return nil, fmt.Errorf("stamp stream %s: %w", want.Name, err)
	}
	return stream, nil
}

// unbounded reports whether the stream takes messages that are too large to become
// dead letters.
func unbounded(have, want jetstream.StreamConfig) bool {
	return want.MaxMsgSize > 0 && (have.MaxMsgSize <= 0 || have.MaxMsgSize > want.MaxMsgSize)
}
