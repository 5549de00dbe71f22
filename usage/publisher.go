package usage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	tryTimeout   = 2 * time.Second // a leader change takes about one
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

var (
	// ErrRefused means that the event is not stored and that trying again as it
	// is will not store it; the text says what to do.
	ErrRefused = errors.New("the event was refused and nothing was stored")

	// ErrUnconfirmed means that the event may be stored or not. Publish the same
	// Event again: stored twice, it is billed once, by its identifier.
	ErrUnconfirmed = errors.New("the event may or may not be stored")
)

// Receipt is JetStream's word that the event is stored: from here on it will be
// billed, or a person will know.
type Receipt struct {
	Sequence uint64 // in the stream

	// Duplicate says that the stream had this very event already, from an
	// earlier call or from an earlier try of this one.
	Duplicate bool
}

// Publisher publishes events. It is safe for concurrent use.
type Publisher struct {
	// Traceparent returns the W3C traceparent of ctx, so that the event's way through the
	// worker shows in the caller's trace; "" or a malformed one: none is sent. Set it
	// before the first event; nil sends none.
	Traceparent func(ctx context.Context) string

	js jetstream.JetStream
}

// NewPublisher returns a publisher on js, whose connection stays the caller's: its
// options and handlers are not touched. Where the credentials have an inbox prefix of their
// own, connect with [nats.CustomInboxPrefix].
func NewPublisher(js jetstream.JetStream) *Publisher { return &Publisher{js: js} }

// Publish stores e and returns when the stream has confirmed it. It tries again
// for as long as ctx lasts when there is no answer within 2 s, no stream listens
// or the stream is not available for the moment, always with the same bytes and
// message id, so that the stream keeps one of them; beyond the stream's duplicate
// window the event's identifier protects. Give ctx a deadline, and e an identifier
// of your own, so that a crashed caller can publish the same event again.
//
// Without an error the event is stored. Every error is one of two:
// [ErrRefused] (the stream is full, the message too large for the server, the
// credentials lack the permission, the connection closed for good, e no event): nothing
// is stored; or [ErrUnconfirmed], when ctx ends first, a refusal follows on a try without
// an answer, or the credentials may publish but not receive the answer. Both wrap
// the cause, such as [nats.ErrPermissionViolation].
func (p *Publisher) Publish(ctx context.Context, e Event) (Receipt, error) {
	// What is published says when the usage happened, whatever e was parsed from:
	// the time at which it is stored again must not re-date it.
	e.published, e.dated = e.timestamp, true
	payload, err := e.MarshalJSON()
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if len(payload) > MaxBody {
		return Receipt{}, fmt.Errorf("%w: the event takes more than 64 KiB as JSON; give it fewer dimensions", ErrRefused)
	}
	return p.persist(ctx, e.Subject(), p.traceparent(ctx), payload)
}

func (p *Publisher) traceparent(ctx context.Context) string {
	if p.Traceparent == nil {
		return ""
	}
	return wellFormed(p.Traceparent(ctx))
}

// persist is the loop of tries. unanswered remembers that an earlier try may have
// stored the event: a later refusal does not take that back.
func (p *Publisher) persist(ctx context.Context, subject, traceparent string, payload []byte) (Receipt, error) {
	id := messageID(subject, payload)
	unanswered := false
	for wait := firstBackoff; ; wait = min(2*wait, maxBackoff) {
		ack, err := p.try(ctx, subject, id, traceparent, payload)
		if err == nil {
			return Receipt{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
		}
		if errors.Is(err, errUnanswerable) {
			return Receipt{}, fmt.Errorf("%w: %w; connect with nats.CustomInboxPrefix and the prefix that these credentials may subscribe to, and publish the same event again", ErrUnconfirmed, err)
		}
		remedy, definite := refusalOf(err)
		if definite && !unanswered {
			return Receipt{}, fmt.Errorf("%w: %w; %s", ErrRefused, err, remedy)
		}
		if definite {
			return Receipt{}, fmt.Errorf("%w: an earlier try got no answer, then: %w; %s, and publish the same event again", ErrUnconfirmed, err, remedy)
		}
		unanswered = unanswered || !errors.Is(err, jetstream.ErrNoStreamResponse)
		if !pause(ctx, wait) {
			return Receipt{}, fmt.Errorf("%w: %w; last answer: %w; check that NATS is reachable, that the worker's stream exists and that the credentials may publish on %s, and publish the same event again",
				ErrUnconfirmed, context.Cause(ctx), err, subject)
		}
	}
}

// try publishes once. A message of its own for each: the client writes to it.
func (p *Publisher) try(ctx context.Context, subject, id, traceparent string, payload []byte) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	m := nats.NewMsg(subject)
	m.Data = payload
	m.Header.Set(headerMessageID, id)
	if traceparent != "" {
		m.Header.Set(HeaderTraceparent, traceparent)
	}
	denials := watchDenials(p.js.Conn(), subject)
	defer denials.cutShort(ctx, cancel)()
	ack, err := p.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if err != nil && ctx.Err() != nil {
		return nil, denials.verdict(err)
	}
	return ack, err
}

// messageID differs as soon as subject or body do. So JetStream drops exact
// repeats only, and an identifier that is used for two contents still comes to light.
func messageID(subject string, payload []byte) string {
	h := sha256.New()
	h.Write([]byte(subject))
	h.Write([]byte{0})
	h.Write(payload)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// pause waits about d, half of it jitter, and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// The server's error codes for a message that it did not store and will not store
// as things stand (nats-server, errors.json).
const (
	codeAccountExceeded       = 10002
	codeInsufficientResources = 10023
	codeMemoryExceeded        = 10028
	codeStorageExceeded       = 10047
	codeMessageTooLarge       = 10054
	codeStoreFailed           = 10077 // carries any error of the store; see storeFull
	codeHeaderTooLarge        = 10097
	codeStreamSealed          = 10109
)

// refusalOf says whether err proves that its try stored nothing and that the next
// would not either, and what to do about it. What is not listed here is tried
// again, which is always safe.
func refusalOf(err error) (remedy string, definite bool) {
	if answer, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refusalOfServer(answer)
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		return "give these credentials the permission to publish on the subject", true
	case errors.Is(err, nats.ErrMaxPayload):
		return "raise the server's max_payload, or give the event fewer dimensions", true
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining), errors.Is(err, nats.ErrInvalidConnection):
		return "connect again; to outlast outages set MaxReconnects to -1", true
	case errors.Is(err, nats.ErrHeadersNotSupported):
		return "publish to a NATS server with headers and JetStream", true
	case errors.Is(err, nats.ErrBadSubject):
		return "report this as a bug: events have valid subjects", true
	}
	return "", false
}

func refusalOfServer(answer *jetstream.APIError) (remedy string, definite bool) {
	switch answer.ErrorCode {
	case codeStoreFailed:
		return "the stream is full: let the worker catch up or raise the stream's limits", storeFull(answer.Description)
	case codeAccountExceeded, codeInsufficientResources, codeMemoryExceeded, codeStorageExceeded:
		return "JetStream is full: raise the limits of the server or the account", true
	case codeMessageTooLarge, codeHeaderTooLarge:
		return "raise the stream's max_msg_size, or give the event fewer dimensions", true
	case codeStreamSealed:
		return "the stream is sealed: publish to a live one", true
	}
	return "", false
}

// storeFull tells the stream's own limits from failures of the disk, after which
// the message may be stored.
func storeFull(description string) bool {
	return strings.Contains(description, "maximum bytes exceeded") ||
		strings.Contains(description, "maximum messages exceeded") ||
		strings.Contains(description, "maximum messages per subject exceeded")
}
