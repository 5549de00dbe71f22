package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const callTimeout = 5 * time.Second

// Settings are what the streams depend on.
type Settings struct {
	Mode       string // live or test
	Partitions int
	Replicas   int
	Manage     bool // create what is missing; else only check
	AckWait    time.Duration
}

// Streams is the set of streams, open and checked.
type Streams struct {
	js       jetstream.JetStream
	settings Settings
	usage    jetstream.Stream
	journal  jetstream.Stream
	dlq      jetstream.Stream
	epoch    string

	chronicle atomic.Pointer[chronicle] // as of the last look that found everything whole
	heard     heard
}

// Refused says that a stream cannot be worked with as it is. It is a fault of the
// set-up: trying again does not help.
type Refused struct{ Problems []string } // named so because it reads better beside errors.As, and the word is the field's

func (e *Refused) Error() string { return strings.Join(e.Problems, "\n") }

// Open creates the streams that are missing and checks the others. The error is a
// [Refused] when a person must act, and another one while the server is out of
// reach.
func Open(ctx context.Context, js jetstream.JetStream, settings Settings) (*Streams, error) {
	s := &Streams{js: js, settings: settings}
	if err := s.payload(); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// payload refuses a server whose messages are too small for usage. Before the
// first connection the size is not known.
func (s *Streams) payload() error {
	switch limit := s.js.Conn().MaxPayload(); {
	case limit <= 0:
		return errors.New("not connected to NATS yet")
	case limit < leastPayload:
		return &Refused{[]string{fmt.Sprintf("server: max_payload is %d: set it to at least %d, so that usage of 64 KiB and its dead letter fit", limit, leastPayload)}}
	default:
		return nil
	}
}

// open goes through the streams in the order in which they depend on each other:
// the epoch is that of USAGE, and consumers show that there was a journal. With
// nothing to be created it names everything that is wrong; else it stops at the
// first.
func (s *Streams) open(ctx context.Context) error {
	var wrong []string
	for _, step := range []func(context.Context) error{s.openUsage, s.openJournal, s.openDLQ, s.openAudit, s.openDurable, s.openConsumers} {
		err := step(ctx)
		var refused *Refused
		switch {
		case err == nil:
		case errors.As(err, &refused) && !s.settings.Manage:
			wrong = append(wrong, refused.Problems...)
		default:
			return err
		}
	}
	if len(wrong) > 0 {
		return &Refused{wrong}
	}
	return nil
}

func (s *Streams) openUsage(ctx context.Context) (err error) {
	if s.usage, err = s.ensure(ctx, s.usageConfig()); err != nil {
		return err
	}
	s.epoch = epochOf(s.usage.CachedInfo())
	return nil
}

func (s *Streams) openJournal(ctx context.Context) (err error) {
	s.journal, err = s.ensure(ctx, s.journalConfig())
	return err
}

func (s *Streams) openDLQ(ctx context.Context) (err error) {
	s.dlq, err = s.ensure(ctx, s.dlqConfig())
	return err
}

// openAudit only sees to it that the stream is there: workers write nothing to it.
func (s *Streams) openAudit(ctx context.Context) error {
	_, err := s.ensure(ctx, s.auditConfig())
	return err
}

// epochOf is the stamp of a USAGE stream. One that was made by somebody else gets
// it from the time of its creation, so that all workers agree, with and
// without the right to write it down.
func epochOf(info *jetstream.StreamInfo) string {
	if epoch := info.Config.Metadata[metaEpoch]; epoch != "" {
		return epoch
	}
	return strconv.FormatInt(info.Created.UnixNano(), 36)
}

// Epoch is the stamp of the USAGE stream.
func (s *Streams) Epoch() string { return s.epoch }

// JetStream is what the streams were opened with.
func (s *Streams) JetStream() jetstream.JetStream { return s.js }

// Partitions is their number.
func (s *Streams) Partitions() int { return s.settings.Partitions }

// NotBehind refuses an outbox whose last sequence is below one that the journal
// mentions: one of the two was restored from an old copy.
func (s *Streams) NotBehind(ctx context.Context, newest uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := s.usage.Info(ctx)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	if err := fromLeader(info); err != nil {
		return err
	}
	if last := s.logical(info.State.LastSeq+1) - 1; last < newest { // what will come counts on from beyond a restored copy
		if err := stillLeads(info); err != nil {
			return err
		}
		return &Refused{[]string{fmt.Sprintf(
			"stream %s ends at sequence %d but %s mentions %d: a copy of before was restored; restore both streams from the same moment",
			UsageStream, last, JournalStream, newest)}}
	}
	return nil
}

// unchanged refuses a USAGE stream that was deleted and made anew while we ran: its
// sequences start again, and the journal would take new messages for old ones.
func (s *Streams) unchanged(ctx context.Context) error {
	info, err := s.usage.Info(ctx)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	if epoch := epochOf(info); epoch != s.epoch {
		return &Refused{[]string{fmt.Sprintf("stream %s: metadata epoch is %s, it was %s when this worker started: the stream was recreated; recreate %s and %s too, and start again",
			UsageStream, epoch, s.epoch, JournalStream, DLQStream)}}
	}
	return nil
}
