package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
)

// DurableBucket is the key-value bucket, on file, of what people have ordered and what
// must be known of the streams although they are gone: see [Continuity].
const DurableBucket = "usage_control_durable"

// durableStream is the stream behind the bucket.
const durableStream = "KV_" + DurableBucket

// metaDurable is on a USAGE stream whose durable bucket has been there: from then on its
// absence is a loss, and not the first start of this version.
const metaDurable = "durable"

// Durable returns the bucket. The error is a [Refused] when it is gone or cannot be
// worked with as it is.
func (s *Streams) Durable(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := s.js.KeyValue(ctx, DurableBucket)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return nil, &Refused{[]string{fmt.Sprintf("key-value bucket %s does not exist; %s", DurableBucket, durableRemedy)}}
	case err != nil:
		return nil, fmt.Errorf("key-value bucket %s: %w", DurableBucket, err)
	}
	return kv, nil
}

const durableRemedy = "restore it, or declare it lost (meterworker accept-restored --stream " + DurableBucket + "): pause orders and declarations were kept there"

// openDurable creates the bucket where there has never been one, and checks it.
func (s *Streams) openDurable(ctx context.Context) error {
	if s.usage == nil {
		return nil // its absence is named already
	}
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, durableStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.createDurable(ctx)
	}
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return fmt.Errorf("key-value bucket %s: %w", DurableBucket, err)
	}
	if problems := s.checkDurable(stream.CachedInfo()); len(problems) > 0 {
		return &Refused{problems}
	}
	return s.stampDurable(ctx)
}

func (s *Streams) createDurable(ctx context.Context) (jetstream.Stream, error) {
	if s.usage.CachedInfo().Config.Metadata[metaDurable] != "" {
		return nil, &Refused{[]string{fmt.Sprintf("key-value bucket %s does not exist although it did; %s", DurableBucket, durableRemedy)}}
	}
	if !s.settings.Manage {
		return nil, &Refused{[]string{fmt.Sprintf("key-value bucket %s does not exist; create it on file storage, or set METERWORKER_MANAGE_STREAMS=true", DurableBucket)}}
	}
	return s.newDurable(ctx)
}

func (s *Streams) newDurable(ctx context.Context) (jetstream.Stream, error) {
	_, err := s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: DurableBucket, Storage: jetstream.FileStorage, History: 1, Replicas: s.settings.Replicas,
		Description: "meterworker: what people have ordered, and what the streams are known to hold",
		Metadata:    s.metadata(),
	})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) { // another replica was faster
		return nil, err
	}
	return s.js.Stream(ctx, durableStream)
}

// checkDurable refuses what would let an order or a declaration be forgotten.
func (s *Streams) checkDurable(info *jetstream.StreamInfo) []string {
	c := &checker{name: "key-value bucket " + DurableBucket}
	have, want := info.Config, jetstream.StreamConfig{Metadata: s.metadata()}
	c.refuse(have.Storage != jetstream.FileStorage, "storage", have.Storage, "recreate the bucket on file storage")
	c.refuse(have.MaxAge != 0, "ttl", have.MaxAge, "set it to 0: orders and declarations must not expire")
	c.refuse(have.Discard != jetstream.DiscardNew, "discard", have.Discard, "set it to new: discarding old keys forgets orders")
	c.refuse(have.PersistMode != jetstream.DefaultPersistMode, "persist_mode", "async", "recreate the bucket with the default mode")
	c.refuse(have.Replicas < s.settings.Replicas, "num_replicas", have.Replicas,
		fmt.Sprintf("raise it to %d, or set METERWORKER_STREAM_REPLICAS=%d", s.settings.Replicas, have.Replicas))
	c.metadata(have, want)
	return c.problems
}

// stampDurable notes on USAGE that the bucket is there.
func (s *Streams) stampDurable(ctx context.Context) error {
	have := s.usage.CachedInfo().Config
	if !s.settings.Manage || have.Metadata[metaDurable] != "" {
		return nil
	}
	have.Metadata = maps.Clone(have.Metadata)
	have.Metadata[metaDurable] = formatVersion
	usage, err := s.js.UpdateStream(ctx, have)
	if err != nil {
		return fmt.Errorf("stamp stream %s: %w", UsageStream, err)
	}
	s.usage = usage
	return nil
}
