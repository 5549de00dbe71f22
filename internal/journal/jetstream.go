package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// StreamName is the journal's stream.
const StreamName = "USAGE_JOURNAL"

// StreamSubjects are the subjects of the stream.
const StreamSubjects = "usage.journal.*.*"

// tryTimeout bounds one call; the same call is made again after it. A publish in
// flight during a change of leader may get no answer at all.
const tryTimeout = 2 * time.Second

// readBatch is how many messages one fetch of the reading asks for.
const readBatch = 500

// JetStream is the [Store] in a JetStream stream.
type JetStream struct {
	js       jetstream.JetStream
	refusals func() // called for each write that the fence refused
}

// NewJetStream returns the store; refused is called for each write that the
// fence refused.
func NewJetStream(js jetstream.JetStream, refused func()) *JetStream {
	return &JetStream{js: js, refusals: refused}
}

func subject(partition int, kind Kind) string {
	return fmt.Sprintf("usage.journal.%d.%s", partition, kind)
}

// Mark implements [Store].
func (s *JetStream) Mark(ctx context.Context, partition int, id string, data []byte) (uint64, error) {
	ack, err := s.publish(ctx, subject(partition, OwnerKind), id, data)
	if err != nil {
		return 0, fmt.Errorf("append owner marker: %w", err)
	}
	return ack.Sequence, nil
}

// Append implements [Store].
func (s *JetStream) Append(ctx context.Context, partition int, kind Kind, marker uint64, id string, data []byte) (Appended, error) {
	if err := faultpoint.At(before[kind]); err != nil {
		return Appended{}, err
	}
	fence := []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(marker, subject(partition, OwnerKind))}
	if faultpoint.Seeded(faultpoint.Unfenced) {
		fence = nil
	}
	ack, err := s.publish(ctx, subject(partition, kind), id, data, fence...)
	if err == nil {
		err = faultpoint.At(after[kind])
	}
	if err == nil {
		return Appended{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
	}
	if isFence(err) {
		return Appended{}, s.refused(ctx, partition, marker)
	}
	return Appended{}, fmt.Errorf("append %s: %w", kind, err)
}

// The points before and after a write; a renewed marker has none.
var (
	before = map[Kind]faultpoint.Point{IntentKind: faultpoint.IntentUnstored, DoneKind: faultpoint.RecordUnstored}
	after  = map[Kind]faultpoint.Point{IntentKind: faultpoint.IntentStored, DoneKind: faultpoint.RecordStored}
)

// codeWrongLastSequence is JetStream's refusal of an expected last sequence.
const codeWrongLastSequence = 10071

func isFence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeWrongLastSequence
}

// refused finds out whether the fence's refusal means a later marker. A lagging
// server refuses too, although our marker is the last one; then the write is
// tried again.
func (s *JetStream) refused(ctx context.Context, partition int, marker uint64) error {
	err := s.owned(ctx, partition, marker)
	if errors.Is(err, ErrLost) {
		s.refusals()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("append refused although marker %d is the last one: a server lags", marker)
}

// owned returns ErrLost when marker is not the last one of the partition: another
// one came after it, or it is gone (its age, or a restored stream).
func (s *JetStream) owned(parent context.Context, partition int, marker uint64) error {
	ctx, cancel := context.WithTimeout(parent, tryTimeout)
	defer cancel()
	for {
		last, err := s.lastMarker(ctx, partition)
		switch {
		case err != nil:
			return err
		case last == marker:
			return nil
		case last > marker:
			return fmt.Errorf("%w: marker %d came after ours, %d", ErrLost, last, marker)
		}
		select { // a server that lags catches up in less
		case <-time.After(tryTimeout / 10):
		case <-ctx.Done():
			if parent.Err() != nil {
				return fmt.Errorf("read owner marker: %w", parent.Err())
			}
			return fmt.Errorf("%w: our marker %d is gone, the last one is %d", ErrLost, marker, last)
		}
	}
}

// lastMarker is the sequence of the partition's last marker, 0 without one.
func (s *JetStream) lastMarker(ctx context.Context, partition int) (uint64, error) {
	stream, err := s.js.Stream(ctx, StreamName)
	if err != nil {
		return 0, fmt.Errorf("read owner marker: %w", err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, subject(partition, OwnerKind))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read owner marker: %w", err)
	}
	return last.Sequence, nil
}

func (s *JetStream) publish(ctx context.Context, subject, id string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	message := &nats.Msg{Subject: subject, Data: data}
	opts = append(opts, jetstream.WithMsgID(id), jetstream.WithExpectStream(StreamName))
	return s.js.PublishMsg(ctx, message, opts...) // the callers wrap, after looking at the code
}

// PurgeIntents implements [Store].
func (s *JetStream) PurgeIntents(ctx context.Context, partition int, below uint64) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, StreamName)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(subject(partition, IntentKind)), jetstream.WithPurgeSequence(below))
	}
	if err != nil {
		return fmt.Errorf("purge intents: %w", err)
	}
	return nil
}

// Read implements [Store]. It reads with short fetches from a consumer without
// acks and starts a new consumer where the last one left off when it sees a gap.
func (s *JetStream) Read(ctx context.Context, partition int, marker uint64, each func(Stored) error) error {
	r := reading{store: s, partition: partition, marker: marker, each: each}
	for {
		before := r.last
		done, err := r.consume(ctx)
		if done || err != nil {
			return err
		}
		if r.last == before {
			return errors.New("read journal: a consumer ended without a message")
		}
	}
}

type reading struct {
	store     *JetStream
	partition int
	marker    uint64
	each      func(Stored) error
	last      uint64 // last sequence that was yielded
}

// consume reads from one consumer until the marker came by (done) or the consumer
// is of no use any more.
func (r *reading) consume(ctx context.Context) (done bool, err error) {
	consumer, err := r.store.js.CreateConsumer(ctx, StreamName, jetstream.ConsumerConfig{
		FilterSubject: fmt.Sprintf("usage.journal.%d.*", r.partition),
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.last + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return false, fmt.Errorf("read journal: %w", err)
	}
	defer r.forget(ctx, consumer.CachedInfo().Name)
	delivered := uint64(0)
	for {
		before := delivered
		usable, done, err := r.fetch(consumer, &delivered)
		if done || err != nil || !usable {
			return done, err
		}
		if ctx.Err() != nil {
			return false, fmt.Errorf("read journal: %w", ctx.Err())
		}
		if delivered == before { // the marker may never come
			if err := r.store.owned(ctx, r.partition, r.marker); err != nil {
				return false, err
			}
		}
	}
}

func (r *reading) forget(ctx context.Context, consumer string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
	defer cancel()
	_ = r.store.js.DeleteConsumer(ctx, StreamName, consumer) // it goes by itself after 30 s
}

// fetch takes one batch. A consumer is usable while it shows no gap and no error;
// else a new one goes on from where it stopped.
func (r *reading) fetch(consumer jetstream.Consumer, delivered *uint64) (usable, done bool, err error) {
	batch, err := consumer.Fetch(readBatch, jetstream.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return false, false, fmt.Errorf("read journal: %w", err)
	}
	for m := range batch.Messages() {
		*delivered++
		intact, done, err := r.message(m, *delivered)
		if done || err != nil || !intact {
			return intact, done, err
		}
	}
	return batch.Error() == nil, false, nil
}

func (r *reading) message(m jetstream.Msg, expected uint64) (intact, done bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, false, fmt.Errorf("read journal: %w", err)
	}
	if meta.Sequence.Consumer != expected {
		return false, false, nil
	}
	if meta.Sequence.Stream > r.marker {
		return false, false, fmt.Errorf("%w: our marker %d is gone", ErrLost, r.marker)
	}
	stored := Stored{Kind: kindOf(m.Subject()), Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Data: m.Data()}
	if err := r.each(stored); err != nil {
		return true, false, err
	}
	r.last = stored.Sequence
	return true, stored.Sequence == r.marker, nil
}

func kindOf(subject string) Kind {
	return Kind(subject[strings.LastIndexByte(subject, '.')+1:])
}
