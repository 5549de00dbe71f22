package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// AnyPartition has [History.Read] read them all.
const AnyPartition = -1

// History reads what was recorded, for those who ask about the past and own nothing. What
// it yields may be out of date the moment it is yielded: nothing may be sent on its word.
type History struct {
	js   jetstream.JetStream
	name string
}

// NewHistory returns a reader of the journal's stream.
func NewHistory(js jetstream.JetStream) *History { return &History{js: js} }

// As has the reader's consumers go by one name, so that the right to read is none over the
// consumers of others. Such a reader reads one at a time.
func (h *History) As(name string) *History { return &History{js: h.js, name: name} }

// Line is one entry, and where and when it was stored.
type Line struct {
	Entry

	Partition int
	At        time.Time // by the server's clock
}

// Read yields the entries of intents and records that were stored between two times, in
// order, up to what was the end of the journal when it began; each returns false to stop. Intents
// whose outcome is recorded may be purged already.
func (h *History) Read(ctx context.Context, partition int, from, until time.Time, each func(Line) bool) error {
	filter := "usage.journal.*.*"
	if partition != AnyPartition {
		filter = fmt.Sprintf("usage.journal.%d.*", partition)
	}
	end, err := h.end(ctx, filter)
	if err != nil || end == nil || end.Time.Before(from) {
		return err
	}
	r := recall{history: h, filter: filter, from: from, until: until, end: end.Sequence, each: each}
	for idle := 0; !r.done; idle++ {
		before := r.last
		if err := r.consume(ctx); err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		if r.last != before {
			idle = 0
		}
		if idle > mostIdle {
			return fmt.Errorf("read journal: nothing comes after message %d, and it goes on to %d", r.last, r.end)
		}
	}
	return nil
}

// mostIdle is how many consumers may end without a message, each after half a second: a busy
// server, or one that lags, may take as long.
const mostIdle = 20

// end is the last message there is to read, by the stream's leader: a consumer may be on a
// server that lags. nil: there is none.
func (h *History) end(ctx context.Context, filter string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	stream, err := h.js.Stream(ctx, StreamName)
	if err == nil {
		var end *jetstream.RawStreamMsg
		if end, err = stream.GetLastMsgForSubject(ctx, filter); err == nil {
			return end, nil
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // an empty journal is no error
	}
	return nil, fmt.Errorf("read journal: %w", err)
}

// recall is one reading.
type recall struct {
	history     *History
	filter      string
	from, until time.Time
	end         uint64 // the last message to be read
	each        func(Line) bool

	last uint64 // read last
	done bool
}

// consume reads from one consumer until the reading is done or the consumer is of no use
// any more.
func (r *recall) consume(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{
		Name: r.history.name, FilterSubject: r.filter, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &r.from,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
	}
	if r.last > 0 {
		cfg.DeliverPolicy, cfg.OptStartTime, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, nil, r.last+1
	}
	consumer, err := r.history.js.CreateConsumer(ctx, StreamName, cfg)
	if err != nil {
		return err
	}
	defer func() {
		forget, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
		defer cancel()
		_ = r.history.js.DeleteConsumer(forget, StreamName, consumer.CachedInfo().Name) // it goes by itself after 30 s
	}()
	delivered := uint64(0)
	for !r.done && ctx.Err() == nil {
		intact, err := r.fetch(consumer, &delivered)
		if err != nil || !intact {
			return err
		}
	}
	return ctx.Err()
}

// fetch takes one batch; a consumer is intact while it shows no gap and gives anything.
func (r *recall) fetch(consumer jetstream.Consumer, delivered *uint64) (intact bool, err error) {
	batch, err := consumer.Fetch(readBatch, jetstream.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return false, err
	}
	before := *delivered
	for m := range batch.Messages() {
		*delivered++
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if meta.Sequence.Consumer != *delivered {
			return false, nil
		}
		if err := r.message(m, meta); err != nil || r.done {
			return true, err
		}
	}
	if err := batch.Error(); err != nil {
		return false, nil //nolint:nilerr // another consumer goes on from here; without progress Read gives up
	}
	return *delivered > before, nil
}

func (r *recall) message(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	if meta.Sequence.Stream > r.end || meta.Timestamp.After(r.until) {
		r.done = true
		return nil
	}
	r.last, r.done = meta.Sequence.Stream, meta.Sequence.Stream == r.end
	tokens := strings.Split(m.Subject(), ".")
	partition, err := strconv.Atoi(tokens[2])
	if err != nil || kindOf(m.Subject()) == OwnerKind {
		return nil //nolint:nilerr // no entries in it
	}
	content, err := unpack(m.Data())
	if err != nil {
		return fmt.Errorf("message %d: %w", meta.Sequence.Stream, err)
	}
	for _, e := range content.entries {
		if !r.each(Line{Entry: e, Partition: partition, At: meta.Timestamp}) {
			r.done = true
			return nil
		}
	}
	return nil
}
