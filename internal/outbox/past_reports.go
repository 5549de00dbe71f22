package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Finished visits what came of the reports that were worked off since a time, as
// [Reports.Finish] stored it, and counts those of that time that were not. Without the stream,
// where nothing receives webhooks, there is none, and received is false.
func (s *Streams) Finished(ctx context.Context, since time.Time, each func(result []byte) error) (open int, received bool, err error) {
	stream, err := s.reports(ctx)
	if err != nil || stream == nil {
		return 0, false, err
	}
	unfinished := map[string]bool{} // by id
	err = visit(ctx, stream, reportPrefix+"*", since, func(m *jetstream.RawStreamMsg) error {
		unfinished[strings.TrimPrefix(m.Header.Get(jetstream.MsgIDHeader), reportID)] = true
		return nil
	})
	if err != nil {
		return 0, true, err
	}
	err = visit(ctx, stream, donePrefix+"*", time.Time{}, func(m *jetstream.RawStreamMsg) error {
		delete(unfinished, strings.TrimPrefix(m.Subject, donePrefix))
		if m.Time.Before(since) {
			return nil
		}
		return each(m.Data)
	})
	return len(unfinished), true, err
}

// visit reads one message after the other, which needs no right to create a reader.
func visit(ctx context.Context, stream jetstream.Stream, subject string, since time.Time, each func(*jetstream.RawStreamMsg) error) error {
	for next := uint64(1); ; {
		m, err := nextMessage(ctx, stream, subject, next)
		if err != nil || m == nil {
			return err
		}
		next = m.Sequence + 1
		if m.Time.Before(since) {
			continue
		}
		if err := each(m); err != nil {
			return err
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

// nextMessage is the first with the subject from a sequence on; nil behind the last.
func nextMessage(ctx context.Context, stream jetstream.Stream, subject string, from uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil //nolint:nilnil // the end is no error
	case err != nil:
		return nil, fmt.Errorf("read stream %s: %w", ReportsStream, err)
	}
	return m, nil
}
