package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// maxAckPending bounds what one partition has handed out or handed back with a
// delay. Delayed messages of a hot customer count, and when there are as many as this
// the partition stands still until some are settled, so it is large. 300,000 that come
// again at 200 a second cost the server a sixth of a core and 120 MB.
const maxAckPending = 300_000

func (s *Streams) consumerConfig(partition int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       "worker-" + strconv.Itoa(partition),
		FilterSubject: partitionSubjects(partition),
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: s.settings.AckWait, MaxDeliver: -1, MaxAckPending: maxAckPending,
		Metadata: map[string]string{metaFormat: formatVersion},
	}
}

// partitionSubjects are the stored subjects of one partition.
func partitionSubjects(partition int) string { return fmt.Sprintf("usage.part.%d.>", partition) }

// openConsumers creates the missing ones, and brings AckWait up to date.
func (s *Streams) openConsumers(ctx context.Context) error {
	if s.usage == nil {
		return nil // its absence is named already
	}
	var wrong []string
	for p := range s.settings.Partitions {
		_, err := s.consumer(ctx, p)
		var refused *Refused
		switch {
		case errors.As(err, &refused):
			wrong = append(wrong, refused.Problems...)
		case err != nil:
			return err
		}
	}
	if len(wrong) > 0 {
		return &Refused{wrong}
	}
	return nil
}

// consumer returns the partition's consumer, created or checked.
func (s *Streams) consumer(ctx context.Context, partition int) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	want := s.consumerConfig(partition)
	consumer, err := s.usage.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if !s.settings.Manage {
			return nil, &Refused{[]string{fmt.Sprintf("consumer %s does not exist; create it, or set METERWORKER_MANAGE_STREAMS=true", want.Durable)}}
		}
		consumer, err = s.usage.CreateConsumer(ctx, want)
		if errors.Is(err, jetstream.ErrConsumerExists) { // another replica was faster
			consumer, err = s.usage.Consumer(ctx, want.Durable)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		return nil, &Refused{[]string{fmt.Sprintf("consumer %s: deliver_subject is set: recreate the consumer without it, to be pulled from", want.Durable)}}
	case err != nil:
		return nil, fmt.Errorf("consumer %s: %w", want.Durable, err)
	}
	if problems := checkConsumer(consumer.CachedInfo().Config, want); len(problems) > 0 {
		return nil, &Refused{problems}
	}
	return s.adjust(ctx, consumer, want)
}

// adjust brings up to date what may change.
func (s *Streams) adjust(ctx context.Context, consumer jetstream.Consumer, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	have := consumer.CachedInfo().Config
	if have.AckWait == want.AckWait && have.MaxAckPending == want.MaxAckPending || !s.settings.Manage {
		return consumer, nil
	}
	have.AckWait, have.MaxAckPending = want.AckWait, want.MaxAckPending
	consumer, err := s.usage.UpdateConsumer(ctx, have)
	if err != nil {
		return nil, fmt.Errorf("consumer %s: set ack_wait and max_ack_pending: %w", want.Durable, err)
	}
	return consumer, nil
}
