package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// Kept is a letter that was exported.
type Kept struct {
	Letter deadletter.Letter
	Body   []byte

	messageID string
}

// Keep reads the headers of an exported letter, and refuses what is no letter of this
// outbox: a letter of another one names messages and identifiers that mean something else
// here.
func (l *Letters) Keep(header map[string][]string, body []byte) (Kept, error) {
	get := func(name string) string {
		if values := header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	letter, err := deadletter.Read(get)
	if err != nil {
		return Kept{}, fmt.Errorf("it is no dead letter: %w", err)
	}
	k := Kept{Letter: letter, Body: body, messageID: get(jetstream.MsgIDHeader)}
	if _, _, ok := tokensOf(letter.Subject); letter.Subject != "" && !ok {
		return Kept{}, errors.New("it is no dead letter: header " + deadletter.HeaderSubject + " is not a subject of usage")
	}
	switch want := letter.MessageID(l.epoch); {
	case k.messageID == want:
		return k, nil
	case strings.HasPrefix(k.messageID, "dlq-") && strings.HasSuffix(k.messageID, strings.TrimPrefix(want, "dlq-"+l.epoch)):
		return Kept{}, fmt.Errorf("it belongs to another outbox (message id %s, this one is %s); publish its usage as new events", k.messageID, l.epoch)
	default:
		return Kept{}, fmt.Errorf("it is no dead letter: its message id is %q, not %q", k.messageID, want)
	}
}

// Index is the message ids of the letters that wait, as hashes.
type Index map[[16]byte]struct{}

func hashed(messageID string) [16]byte {
	sum := sha256.Sum256([]byte(messageID))
	return [16]byte(sum[:16])
}

// Index reads which letters there are.
func (l *Letters) Index(ctx context.Context) (Index, error) {
	index := Index{}
	err := l.headers(ctx, Filter{}, func(letter Letter) error {
		if ids := letter.Header[jetstream.MsgIDHeader]; len(ids) > 0 {
			index[hashed(ids[0])] = struct{}{}
		}
		return nil
	})
	return index, err
}

// Has tells whether the letter waits.
func (i Index) Has(k Kept) bool {
	_, has := i[hashed(k.messageID)]
	return has
}

// Restore stores the letter again, with its own headers and no other.
func (l *Letters) Restore(ctx context.Context, index Index, k Kept) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	result := Result{Outcome: Failed, Identifier: k.Letter.Identifier}
	if index.Has(k) {
		result.Outcome = Present
		return result
	}
	m := &nats.Msg{Subject: k.Letter.StreamSubject(), Data: k.Body, Header: nats.Header{jetstream.MsgIDHeader: {k.messageID}}}
	for name, value := range k.Letter.Header() {
		m.Header[name] = []string{value}
	}
	ack, err := l.js.PublishMsg(ctx, m)
	switch {
	case err != nil:
		result.Detail = "publish: " + err.Error()
		return result
	case ack.Stream != outbox.DLQStream:
		result.Detail = fmt.Sprintf("stream %s took it instead of %s", ack.Stream, outbox.DLQStream)
		return result
	}
	result.ID = ack.Sequence
	if ack.Duplicate {
		return l.twice(ctx, result)
	}
	index[hashed(k.messageID)] = struct{}{}
	result.Outcome = Restored
	return result
}

// twice looks at what the server took the letter to be a duplicate of: one that waits, or
// one that was taken out so short ago that its message id is still remembered.
func (l *Letters) twice(ctx context.Context, result Result) Result {
	_, err := l.Get(ctx, result.ID)
	switch {
	case err == nil:
		result.Outcome = Present
	case errors.Is(err, ErrNotFound):
		result.Detail = "it was taken out within the last 2 minutes, and the server still takes it for a duplicate; import it again in 2 minutes"
	default:
		result.Detail = err.Error()
	}
	return result
}
