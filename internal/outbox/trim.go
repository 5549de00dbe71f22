package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Trim deletes the partition's messages that are acked, lie below the sequence
// `resolved` (nothing at or above it may go; 0: no further bound) and were stored
// before cutoff.
func (s *Streams) Trim(ctx context.Context, p *Partition, resolved uint64, cutoff time.Time) error {
	backlog, err := p.Backlog(ctx)
	if err != nil {
		return err
	}
	below := backlog.Floor + 1
	if resolved > 0 {
		below = min(below, resolved)
	}
	if first, err := s.firstSince(ctx, p.number, cutoff); err != nil {
		return err
	} else if first > 0 {
		below = min(below, first)
	}
	if below <= 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.usage.Purge(ctx, jetstream.WithPurgeSubject(partitionSubjects(p.number)), jetstream.WithPurgeSequence(below))
	if err != nil {
		return fmt.Errorf("trim partition %d: %w", p.number, err)
	}
	return nil
}

// firstSince is the sequence of the partition's first message that was stored at
// or after t, 0 if there is none.
func (s *Streams) firstSince(ctx context.Context, partition int, t time.Time) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	first, err := s.first(ctx, lookup{Since: &t, Subject: partitionSubjects(partition)})
	if err != nil {
		return 0, fmt.Errorf("find where to trim partition %d: %w", partition, err)
	}
	return first.Sequence, nil
}
