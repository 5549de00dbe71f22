package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Finished visits what came of the reports that were worked off since a time, as
// [Reports.Finish] stored it. Without the stream, where nothing receives webhooks, there
// is none, and received is false.
func (s *Streams) Finished(ctx context.Context, since time.Time, each func(result []byte) error) (received bool, err error) {
	stream, err := s.reports(ctx)
	if err != nil || stream == nil {
		return false, err
	}
	for next := uint64(1); ; {
		m, err := nextResult(ctx, stream, next)
		if err != nil || m == nil {
			return true, err
		}
		next = m.Sequence + 1
		if m.Time.Before(since) {
			continue
		}
		if err := each(m.Data); err != nil {
			return true, err
		}
	}
}

func (s *Streams) reports(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, ReportsStream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil //nolint:nilnil // its absence is no error
	case err != nil:
		return nil, fmt.Errorf("look up stream %s: %w", ReportsStream, err)
	}
	return stream, nil
}

// nextResult is the first result from a sequence on; nil behind the last.
func nextResult(ctx context.Context, stream jetstream.Stream, from uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(donePrefix+"*"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil //nolint:nilnil // the end is no error
	case err != nil:
		return nil, fmt.Errorf("read stream %s: %w", ReportsStream, err)
	}
	return m, nil
}
