package delivery

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

// Message is a message of the outbox in this worker's hands. Exactly one of Ack,
// Nak and Drop is called, once.
type Message interface {
	Sequence() uint64
	Subject() string
	Header(name string) string
	Body() []byte
	StoredAt() time.Time
	Ack() error
	Nak(delay time.Duration) error
	Drop()
}

// Outbox is one partition of the outbox.
type Outbox interface {
	// Fetch hands up to n messages to each and returns after a second at most.
	Fetch(n int, each func(Message)) error
}

// Journal is one owned partition's journal. See package journal.
type Journal interface {
	Life() string
	Lookup(q journal.Question) journal.Known
	Intend(ctx context.Context, e journal.Entry) (journal.Moment, error)
	Record(ctx context.Context, entries ...journal.Entry) error
	Stamp(m journal.Moment) time.Time
	Lost() <-chan struct{}
}

// Permits is the account-wide bucket.
type Permits interface {
	// Take waits for a permit.
	Take(ctx context.Context) (Permit, error)

	// Throttled reports a refusal for the rate.
	Throttled(retryAfter time.Duration)
}

// Permit is the right to make one request.
type Permit interface {
	// Spend is called right before the first byte is written. A permit that has
	// waited too long is replaced by another one first.
	Spend(ctx context.Context) error

	// Done is called when the request is written, or will not be: the next permit
	// need not wait for this one any longer. It may be called more than once.
	Done()
}

// DeadLetters is the dead-letter stream. An error means that the outcome is
// unknown.
type DeadLetters interface {
	Publish(ctx context.Context, l deadletter.Letter, header map[string]string, body []byte) error
	Stored(ctx context.Context, l deadletter.Letter, since time.Time) (bool, error)
}

// Lanes runs work one at a time for each key. See package ratelimit.
type Lanes interface {
	Offer(key string, work func()) (again time.Duration, taken bool)
}

// Crowd is what lanes may tell besides: whether work waits behind that which runs.
type Crowd interface {
	Crowded(key string) bool
}
