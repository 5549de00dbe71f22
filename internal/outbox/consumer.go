package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// maxAckPending bounds what one partition has handed out or handed back with a
// delay. Delayed messages of a hot customer count, so it is large: 50,000 of
// them cost the server 0.2 % of a core.
const maxAckPending = 50_000

func (s *Streams) consumerConfig(partition int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       "worker-" + strconv.Itoa(partition),
		FilterSubject: fmt.Sprintf("usage.part.%d.>", partition),
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: s.settings.AckWait, MaxDeliver: -1, MaxAckPending: maxAckPending,
		Metadata: map[string]string{metaFormat: formatVersion},
	}
}

// consumers creates the missing ones, and brings AckWait up to date.
func (s *Streams) consumers(ctx context.Context) error {
	for p := range s.settings.Partitions {
		if err := s.ensureConsumer(ctx, s.consumerConfig(p)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Streams) ensureConsumer(ctx context.Context, want jetstream.ConsumerConfig) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := s.usage.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if !s.settings.Manage {
			return &Refused{[]string{fmt.Sprintf("consumer %s does not exist; create it, or set METERWORKER_MANAGE_STREAMS=true", want.Durable)}}
		}
		_, err = s.usage.CreateConsumer(ctx, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another replica was faster
		}
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", want.Durable, err)
	}
	if consumer == nil {
		return nil
	}
	have := consumer.CachedInfo().Config
	if problems := checkConsumer(have, want); len(problems) > 0 {
		return &Refused{problems}
	}
	if have.AckWait == want.AckWait || !s.settings.Manage {
		return nil
	}
	have.AckWait = want.AckWait
	if _, err := s.usage.UpdateConsumer(ctx, have); err != nil {
		return fmt.Errorf("consumer %s: set ack_wait: %w", want.Durable, err)
	}
	return nil
}
