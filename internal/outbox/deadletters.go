package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
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
	if err := d.store(ctx, m, l.MessageID(d.streams.epoch)); err != nil {
		return fmt.Errorf("publish dead letter for %d: %w", l.Sequence, err)
	}
	return nil
}

func (d *DeadLetters) store(ctx context.Context, m *nats.Msg, id string) error {
	if err := faultpoint.At(faultpoint.LetterUnstored); err != nil {
		return err
	}
	ack, err := d.streams.js.PublishMsg(ctx, m, jetstream.WithMsgID(id))
	switch {
	case err != nil:
		return err
	case ack.Stream != DLQStream: // it had to be asked for in a header, which would stay on the letter
		return fmt.Errorf("stream %s took it instead of %s", ack.Stream, DLQStream)
	}
	d.streams.heard.raise(DLQStream, ack.Sequence)
	return faultpoint.At(faultpoint.LetterStored)
}

// Stored looks for the letter among those that were stored since the given time.
// JetStream's memory of message ids is minutes long; this one is not. An error
// means that it is not known.
func (d *DeadLetters) Stored(ctx context.Context, l deadletter.Letter, since time.Time) (bool, error) {
	stored, err := d.stored(ctx, l, since.Add(-searchMargin))
	if err != nil {
		return false, fmt.Errorf("search dead letter for %d: %w", l.Sequence, err)
	}
	return stored, nil
}

// stored asks the stream's leader how far there is to search: the consumer may be
// on a server that lags.
func (d *DeadLetters) stored(ctx context.Context, l deadletter.Letter, start time.Time) (bool, error) {
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	last, err := d.streams.dlq.GetLastMsgForSubject(asking, l.StreamSubject())
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, err
	case last.Time.Before(start):
		return false, nil
	}
	consumer, err := d.streams.dlq.CreateConsumer(asking, jetstream.ConsumerConfig{
		FilterSubject: l.StreamSubject(), AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return false, err
	}
	defer d.forget(ctx, consumer.CachedInfo().Name)
	s := search{consumer: consumer, id: l.MessageID(d.streams.epoch), last: last.Sequence}
	return s.run(ctx)
}

// search reads letters until it has found one or has come to the last.
type search struct {
	consumer jetstream.Consumer
	id       string // Nats-Msg-Id of the wanted letter
	last     uint64 // sequence of the last letter with the same subject
	read     uint64 // sequence read last
}

func (s *search) run(ctx context.Context) (bool, error) {
	for s.read < s.last {
		before := s.read
		found, err := s.batch()
		if found || err != nil {
			return found, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if s.read == before { // a lagging server, or the last letter was taken out meanwhile
			return false, fmt.Errorf("read up to sequence %d of %d", s.read, s.last)
		}
	}
	return false, nil
}

func (s *search) batch() (found bool, err error) {
	batch, err := s.consumer.Fetch(500, jetstream.FetchMaxWait(time.Second))
	if err != nil {
		return false, err
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		s.read = meta.Sequence.Stream
		found = found || m.Headers().Get(jetstream.MsgIDHeader) == s.id
		if found || s.read >= s.last {
			return found, nil
		}
	}
	return false, batch.Error()
}

func (d *DeadLetters) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	_ = d.streams.dlq.DeleteConsumer(ctx, name) // it goes by itself after 30 s
}

// Counts is how many dead letters wait, by reason.
func (d *DeadLetters) Counts(ctx context.Context) (map[deadletter.Reason]int, error) {
	return countLetters(ctx, d.streams.dlq)
}

func countLetters(ctx context.Context, dlq jetstream.Stream) (map[deadletter.Reason]int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := dlq.Info(ctx, jetstream.WithSubjectFilter("usage.dlq.>"))
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	counts := map[deadletter.Reason]int{}
	for subject, n := range info.State.Subjects {
		counts[deadletter.ReasonOf(subject)] += int(n)
	}
	return counts, nil
}
