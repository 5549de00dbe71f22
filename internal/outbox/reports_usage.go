package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Kept is one message of USAGE as it lies there, in nobody's hands.
type Kept struct {
	Subject   string // as published
	Sequence  uint64 // see [Message.Sequence]
	Partition int
	StoredAt  time.Time
	Body      []byte

	header nats.Header
}

// Header is the first value of a header, or "".
func (k Kept) Header(name string) string {
	if values := k.header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Kept reads the message of this number; found is false where it is trimmed, or never was.
func (s *Streams) Kept(ctx context.Context, sequence uint64) (kept Kept, found bool, err error) {
	physical, ok := s.physical(sequence)
	if !ok {
		return Kept{}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := s.usage.GetMsg(ctx, physical)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Kept{}, false, nil
	case err != nil:
		return Kept{}, false, fmt.Errorf("read message %d: %w", sequence, err)
	}
	tokens := strings.SplitN(m.Subject, ".", 4)
	if len(tokens) < 4 {
		return Kept{}, false, nil
	}
	partition, err := strconv.Atoi(tokens[2])
	if err != nil {
		return Kept{}, false, nil // not stored by our transform, so none of ours
	}
	return Kept{
		Subject: published(m.Subject), Sequence: sequence, Partition: partition,
		StoredAt: m.Time, Body: m.Data, header: m.Header,
	}, true, nil
}

// physical is the inverse of [Streams.logical]: where a message lies. false: it was lost
// with an old copy.
func (s *Streams) physical(sequence uint64) (uint64, bool) {
	doc := s.chronicle.Load()
	if doc == nil {
		return sequence, sequence > 0
	}
	shifts := []uint64{0}
	for _, d := range doc.Declarations {
		if d.Stream == UsageStream {
			shifts = append(shifts, d.Shift)
		}
	}
	for _, shift := range shifts {
		if sequence > shift && doc.logical(sequence-shift) == sequence {
			return sequence - shift, true
		}
	}
	return 0, false
}
