package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pastPage bounds the messages in memory: 500 of the largest have some 32 MB.
	pastPage = 500

	// pastName is the reader's, so that the right to read the past is none over the workers'
	// consumers. There is one at a time.
	pastName = "reconcile"

	// pastLife is how long the server keeps a reader that asks for nothing, as one whose
	// process was killed.
	pastLife = 10 * time.Second

	// pastTries bounds the attempts to go on at one place. Each that came to nothing is
	// followed by one more pastPause: a leader change is over by then.
	pastTries = 5
	pastPause = 300 * time.Millisecond
)

// PastFilter selects messages of USAGE; tokens are as in their subjects, and "" is any.
type PastFilter struct {
	From        time.Time // stored then or later, by the server's clock
	ReplaysOnly bool
	EventName   string
	Customer    string
}

func (f PastFilter) subject() string {
	kind, name, customer := "*", "*", "*"
	if f.ReplaysOnly {
		kind = "replay"
	}
	if f.EventName != "" {
		name = f.EventName
	}
	if f.Customer != "" {
		customer = f.Customer
	}
	return "usage.part.*." + kind + "." + name + "." + customer
}

// Past visits the messages that the filter selects, oldest first, up to the last there was
// when it began. It settles nothing, and disturbs no worker.
func (s *Streams) Past(ctx context.Context, f PastFilter, each func(Kept) error) error {
	doc, err := s.numbers(ctx)
	if err != nil {
		return err
	}
	end, err := s.pastEnd(ctx, f)
	if err != nil {
		return err
	}
	r := pastReader{streams: s, doc: doc, filter: f, end: end, each: each}
	for tries := 1; r.last < r.end; tries++ {
		before := r.last
		err := r.read(ctx)
		if r.over || ctx.Err() != nil {
			return errors.Join(ctx.Err(), r.refused)
		}
		if r.last > before {
			tries = 0
		}
		if tries >= pastTries || rest(ctx, time.Duration(tries)*pastPause) != nil {
			return fmt.Errorf("read %s from message %d on: %w", UsageStream, r.last+1, err)
		}
	}
	return nil
}

// pastEnd is the last message there is to read, 0 for none, by the stream's leader: a consumer
// may be on a server that lags.
func (s *Streams) pastEnd(ctx context.Context, f PastFilter) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	last, err := s.first(ctx, lookup{Last: f.subject()})
	if err != nil {
		return 0, fmt.Errorf("read the last message of %s: %w", UsageStream, err)
	}
	if last.Time.Before(f.From) {
		return 0, nil
	}
	return last.Sequence, nil
}

// numbers is the document that says by which number a message goes.
func (s *Streams) numbers(ctx context.Context) (*chronicle, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	doc, _, err := s.readChronicle(ctx)
	if err != nil {
		return nil, fmt.Errorf("marks of the streams: %w", err)
	}
	return &doc, nil
}

// Floors are the sequences, by partition, up to which every message is settled.
func (s *Streams) Floors(ctx context.Context) ([]uint64, error) {
	doc, err := s.numbers(ctx)
	if err != nil {
		return nil, err
	}
	floors := make([]uint64, s.settings.Partitions)
	for p := range floors {
		if floors[p], err = s.floor(ctx, p); err != nil {
			return nil, err
		}
		floors[p] = doc.logical(floors[p])
	}
	return floors, nil
}

// Front is the first message that USAGE keeps, and when it was stored. Where it keeps none it is the
// next to come, and when the last was stored.
func (s *Streams) Front(ctx context.Context) (sequence uint64, storedAt time.Time, err error) {
	doc, err := s.numbers(ctx)
	if err != nil {
		return 0, time.Time{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := s.usage.Info(ctx)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	if info.State.Msgs == 0 {
		return doc.logical(info.State.LastSeq + 1), info.State.LastTime, nil
	}
	return doc.logical(info.State.FirstSeq), info.State.FirstTime, nil
}

func (s *Streams) floor(ctx context.Context, partition int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := s.usage.Consumer(ctx, s.consumerConfig(partition).Durable)
	if err != nil {
		return 0, fmt.Errorf("backlog of partition %d: %w", partition, err)
	}
	return consumer.CachedInfo().AckFloor.Stream, nil
}

// pastReader is one reading. It goes on behind last with a new consumer when the old one is
// lost, or has left a gap.
type pastReader struct {
	streams *Streams
	doc     *chronicle
	filter  PastFilter
	end     uint64 // physical, as last
	last    uint64
	each    func(Kept) error

	over    bool  // by each, or at the end
	refused error // by each

	delivered uint64 // by the present consumer
}

var errPastGap = errors.New("messages got lost on the way")

func (r *pastReader) read(ctx context.Context) error {
	consumer, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	defer r.forget(ctx)
	r.delivered = 0
	for pending := consumer.CachedInfo().NumPending; !r.over; {
		if pending == 0 {
			return errPastGap // the end is not reached: the consumer's server lags
		}
		n := int(min(pending, pastPage))
		if pending, err = r.page(ctx, consumer.CachedInfo().Name, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *pastReader) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Name: pastName, FilterSubject: r.filter.subject(), DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &r.filter.From,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: pastLife,
	}
	if r.last > 0 {
		cfg.DeliverPolicy, cfg.OptStartTime, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, nil, r.last+1
	}
	consumer, err := r.streams.usage.CreateConsumer(ctx, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return nil, errors.New("another comparison is reading, or was killed a moment ago; try again when it has ended")
	}
	if err != nil {
		return nil, fmt.Errorf("create a reader: %w", err)
	}
	return consumer, nil
}

// forget deletes the reader, for the next one.
func (r *pastReader) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = r.streams.usage.DeleteConsumer(ctx, pastName) // it goes by itself after pastLife
}

// page pulls n messages; left is how many the server has after them.
func (r *pastReader) page(ctx context.Context, consumer string, n int) (left uint64, err error) {
	read := 0
	err = r.streams.pull(consumer, n, func(m *nats.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if r.delivered++; meta.Sequence.Consumer != r.delivered {
			return errPastGap
		}
		read, left = read+1, meta.NumPending
		return r.take(ctx, m, meta)
	})
	if err == nil && read < n && !r.over {
		err = errPastGap
	}
	return left, err
}

func (r *pastReader) take(ctx context.Context, m *nats.Msg, meta *nats.MsgMetadata) error {
	if meta.Sequence.Stream > r.end {
		r.over = true
		return errPullOver
	}
	r.last = meta.Sequence.Stream
	if tokens := strings.SplitN(m.Subject, ".", 4); len(tokens) == 4 {
		if partition, err := strconv.Atoi(tokens[2]); err == nil {
			r.refused = r.each(Kept{
				Subject: published(m.Subject), Sequence: r.doc.logical(meta.Sequence.Stream), Partition: partition,
				StoredAt: meta.Timestamp, Body: m.Data, header: m.Header,
			})
		}
	}
	if r.refused != nil || r.last == r.end {
		r.over = true
		return errPullOver
	}
	return ctx.Err()
}
