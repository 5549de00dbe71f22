package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// searchMargin is how far before the announcement of a letter the search for it
// begins: clocks of two streams' leaders may differ.
const searchMargin = time.Hour

// DeadLetters is the writing side of the dead-letter stream.
type DeadLetters struct{ streams *Streams }

// DeadLetters returns the writer of dead letters.
func (s *Streams) DeadLetters() *DeadLetters { return &DeadLetters{s} }

// Publish stores the letter and awaits the PubAck. An error means that the
// outcome is unknown. Header is the letter's header block.
func (d *DeadLetters) Publish(ctx context.Context, l deadletter.Letter, header map[string]string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m := &nats.Msg{Subject: l.StreamSubject(), Data: body, Header: nats.Header{}}
	for name, value := range header {
		m.Header[name] = []string{value}
	}
	_, err := d.streams.js.PublishMsg(ctx, m, jetstream.WithMsgID(l.MessageID(d.streams.epoch)))
	if err != nil {
		return fmt.Errorf("publish dead letter for %d: %w", l.Sequence, err)
	}
	return nil
}

// Stored looks for the letter among those that were stored since the given time.
// JetStream's memory of message ids is minutes long; this one is not.
func (d *DeadLetters) Stored(ctx context.Context, l deadletter.Letter, since time.Time) (bool, error) {
	start := since.Add(-searchMargin)
	consumer, err := d.streams.dlq.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: l.StreamSubject(), AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return false, fmt.Errorf("search dead letter for %d: %w", l.Sequence, err)
	}
	defer d.forget(ctx, consumer.CachedInfo().Name)
	return d.search(ctx, consumer, l)
}

func (d *DeadLetters) search(ctx context.Context, consumer jetstream.Consumer, l deadletter.Letter) (bool, error) {
	id := l.MessageID(d.streams.epoch)
	for left := consumer.CachedInfo().NumPending; left > 0; {
		batch, err := consumer.Fetch(int(min(left, 500)), jetstream.FetchMaxWait(callTimeout)) //nolint:gosec // at most 500
		if err != nil {
			return false, fmt.Errorf("search dead letter for %d: %w", l.Sequence, err)
		}
		read := uint64(0)
		for m := range batch.Messages() {
			read++
			if m.Headers().Get(jetstream.MsgIDHeader) == id {
				return true, nil
			}
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil || read == 0 {
			return false, fmt.Errorf("search dead letter for %d was cut short: %w", l.Sequence, err)
		}
		left -= min(read, left)
	}
	return false, nil
}

func (d *DeadLetters) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	_ = d.streams.dlq.DeleteConsumer(ctx, name) // it goes by itself after 30 s
}

// Counts is how many dead letters wait, by reason.
func (d *DeadLetters) Counts(ctx context.Context) (map[deadletter.Reason]int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := d.streams.dlq.Info(ctx, jetstream.WithSubjectFilter("usage.dlq.>"))
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	counts := map[deadletter.Reason]int{}
	for subject, n := range info.State.Subjects {
		counts[deadletter.ReasonOf(subject)] += int(n) //nolint:gosec // a count of stored messages
	}
	return counts, nil
}
