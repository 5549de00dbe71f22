package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lookup asks for the first message of USAGE on the subjects, from a sequence or from a
// time on. It needs no consumer, and so no right to create and delete them.
type lookup struct {
	From    uint64     `json:"seq,omitempty"`
	Since   *time.Time `json:"start_time,omitempty"`
	Subject string     `json:"next_by_subj,omitempty"`
	Last    string     `json:"last_by_subj,omitempty"` // the last one instead
}

// storage is when a message was stored, and as which. Only that is read: a producer may store
// headers that the client refuses to decode, and one such message must not hide how
// much waits.
type storage struct {
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
}

// first answers a lookup; the zero value where there is no such message.
func (s *Streams) first(ctx context.Context, l lookup) (storage, error) {
	request, err := json.Marshal(l)
	if err != nil {
		return storage{}, err
	}
	reply, err := s.js.Conn().RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+UsageStream, request)
	if err != nil {
		return storage{}, err
	}
	var answer struct {
		Message storage             `json:"message"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return storage{}, fmt.Errorf("read a message: %w", err)
	}
	if answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return storage{}, nil
	}
	if answer.Error != nil {
		return storage{}, answer.Error
	}
	return answer.Message, nil
}

// oldest is when the partition's first message from a sequence on was stored; zero where
// there is none.
func (p *Partition) oldest(ctx context.Context, from uint64) (time.Time, error) {
	first, err := p.streams.first(ctx, lookup{From: from, Subject: partitionSubjects(p.number)})
	return first.Time, err
}
