package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// oldest is when the partition's first message from a sequence on was stored; zero where
// there is none. Only the time is read: a producer may store headers that the client
// refuses to decode, and one such message must not hide how much waits.
func (p *Partition) oldest(ctx context.Context, from uint64) (time.Time, error) {
	request, err := json.Marshal(struct {
		From    uint64 `json:"seq"`
		Subject string `json:"next_by_subj"`
	}{from, partitionSubjects(p.number)})
	if err != nil {
		return time.Time{}, err
	}
	reply, err := p.streams.js.Conn().RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+UsageStream, request)
	if err != nil {
		return time.Time{}, err
	}
	var answer struct {
		Message struct {
			Time time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return time.Time{}, fmt.Errorf("read a message: %w", err)
	}
	if answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return time.Time{}, nil
	}
	if answer.Error != nil {
		return time.Time{}, answer.Error
	}
	return answer.Message.Time, nil
}
