package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
	"github.com/meterworker/meterworker/internal/outbox"
)

// Outcome is what became of one letter's replay. The list is closed.
type Outcome string

// The outcomes.
const (
	Replayed Outcome = "replayed"     // stored in USAGE, and the letter is gone
	Possible Outcome = "would_replay" // of a dry run
	Refused  Outcome = "refused"      // by the rules; nothing was published
	Missing  Outcome = "not_found"    // no such letter
	Failed   Outcome = "failed"       // the letter is still there; see Detail

	Discarded       Outcome = "discarded"     // deleted, and nothing was published
	PossibleDiscard Outcome = "would_discard" // of a dry run
	Restored        Outcome = "imported"      // put back
	PossibleRestore Outcome = "would_import"  // of a dry run
	Present         Outcome = "already_there" // a letter of that message id waits
)

// Result is what became of one letter.
type Result struct {
	ID         uint64
	Outcome    Outcome
	Identifier string // to be billed under; "" if it is not known or nothing was published
	Sequence   uint64 // of the replay in USAGE; 0 if it is not stored
	Duplicate  bool   // an earlier try had stored it
	Detail     string // why not, or what to expect; "" if there is nothing to say
}

// settleTimeout bounds one letter's way from its reading to its deletion, tries
// included.
const settleTimeout = 30 * time.Second

// Check says what Replay would do with a letter that was read, and does nothing.
func Check(letter Letter, allowed Permission, now time.Time) Result {
	_, result := weigh(letter, allowed, now)
	return result
}

// Replay publishes one letter again and then deletes it. It does not stop half-way
// when ctx ends, so that the caller can stop between letters; it takes at most
// 30 s.
func (l *Letters) Replay(ctx context.Context, id uint64, allowed Permission, now time.Time) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	// The letter is read right before it is published, however long ago it was
	// listed: somebody else may have replayed it since.
	p, result := l.prepare(ctx, id, allowed, now)
	if result.Outcome != Possible {
		return result
	}
	return l.carryOut(ctx, p, result)
}

// carryOut publishes, and deletes the letter once that is stored.
func (l *Letters) carryOut(ctx context.Context, p plan, result Result) Result {
	id := result.ID
	ack, err := l.publish(ctx, p)
	if err == nil {
		err = l.verify(ctx, p, ack)
	}
	if err != nil {
		result.Outcome, result.Detail = Failed, err.Error()
		return result
	}
	result.Outcome, result.Sequence, result.Duplicate = Replayed, ack.Sequence, ack.Duplicate
	err = faultpoint.At(faultpoint.ReplayStored)
	if err == nil {
		err = l.remove(ctx, id)
	}
	if err != nil {
		result.Outcome = Failed
		result.Detail = fmt.Sprintf("it is stored again as %d, but the letter could not be deleted: %v; replay it once more: the worker recognises the second one", ack.Sequence, err)
	}
	return result
}

func (l *Letters) prepare(ctx context.Context, id uint64, allowed Permission, now time.Time) (plan, Result) {
	letter, err := l.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return plan{}, Result{ID: id, Outcome: Missing, Detail: ErrNotFound.Error()}
	case err != nil:
		return plan{}, Result{ID: id, Outcome: Failed, Detail: err.Error()}
	}
	return weigh(letter, allowed, now)
}

func weigh(letter Letter, allowed Permission, now time.Time) (plan, Result) {
	p, refusal := judge(letter, allowed, now)
	if refusal != "" {
		return plan{}, Result{ID: letter.ID, Outcome: Refused, Identifier: letter.Identifier, Detail: refusal}
	}
	return p, Result{ID: letter.ID, Outcome: Possible, Identifier: p.identifier, Detail: p.warning}
}

// publish tries a few times with the same bytes and the same message id.
func (l *Letters) publish(ctx context.Context, p plan) (ack *jetstream.PubAck, err error) {
	const most = 3
	for try := 1; try <= most; try++ {
		ack, err = l.publishOnce(ctx, p)
		var refused *jetstream.APIError
		switch {
		case err == nil && ack.Stream != outbox.UsageStream:
			return nil, fmt.Errorf("stream %s took it instead of %s: let %s alone have the subjects usage.replay.*.*", ack.Stream, outbox.UsageStream, outbox.UsageStream)
		case err == nil:
			return ack, nil
		case errors.As(err, &refused) || ctx.Err() != nil:
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	return nil, fmt.Errorf("no answer, so it may be stored or not: %w; check that NATS is reachable and that these credentials may publish on %s, and replay it again", err, p.subject)
}

func (l *Letters) publishOnce(ctx context.Context, p plan) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.js.PublishMsg(ctx, &nats.Msg{Subject: p.subject, Header: p.headersOf(), Data: p.body}, jetstream.WithRetryAttempts(0)) // publish does
}

// verify looks at what a "duplicate" is a duplicate of. Message ids are free for
// every producer to choose: a letter must not go for somebody else's message.
func (l *Letters) verify(ctx context.Context, p plan, ack *jetstream.PubAck) error {
	if !ack.Duplicate {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := l.usage.GetMsg(ctx, ack.Sequence)
	if err != nil {
		return fmt.Errorf("an earlier replay is said to be stored as %d, which cannot be read: %w; replay it again", ack.Sequence, err)
	}
	same := m.Header.Get(deadletter.HeaderReplayOf) == p.header[deadletter.HeaderReplayOf] &&
		m.Header.Get(deadletter.HeaderIdentifier) == p.header[deadletter.HeaderIdentifier] &&
		strings.HasSuffix(m.Subject, strings.TrimPrefix(p.subject, "usage")) && bytes.Equal(m.Data, p.body)
	if !same {
		return fmt.Errorf("another message, %d, has taken the message id %s; replay it again in 2 minutes, and find out who published that one", ack.Sequence, p.header[jetstream.MsgIDHeader])
	}
	return nil
}

// remove deletes the letter. Gone already is as good: two replays at once.
func (l *Letters) remove(ctx context.Context, id uint64) error {
	const most = 3
	var err error
	for try := 1; try <= most; try++ {
		err = l.removeOnce(ctx, id)
		if err == nil {
			return nil
		}
		if _, missing := l.Get(ctx, id); errors.Is(missing, ErrNotFound) {
			return nil
		}
	}
	return err
}

func (l *Letters) removeOnce(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.dlq.DeleteMsg(ctx, id) // Replay says what it was
}
