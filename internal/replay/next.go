package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Next reads the first letter from an id on, whatever was taken out in between. The error
// wraps [ErrNotFound] behind the last one. It needs no reader of its own, and so no right to
// create one: a worker may call it.
func (l *Letters) Next(ctx context.Context, from uint64) (Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := l.dlq.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject("usage.dlq.>"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, fmt.Errorf("dead letters from %d on: %w", from, ErrNotFound)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read the dead letter after %d: %w", from, err)
	}
	return newLetter(m.Sequence, l.epoch, m.Subject, m.Header, m.Data, m.Time), nil
}
