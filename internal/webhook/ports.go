package webhook

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
)

// Inbox is where the reports are kept.
type Inbox interface {
	// Next takes a report; nil when none came for some seconds.
	Next() (Item, error)

	// Finish stores what came of a report, and Finished reports whether that is stored.
	Finish(ctx context.Context, id string, result []byte) error
	Finished(ctx context.Context, id string) (bool, error)

	// Name marks a message as one that has had its letter because of a report, and Named
	// reports whether it is marked.
	Name(ctx context.Context, sequence uint64, report string) error
	Named(ctx context.Context, sequence uint64) (bool, error)
}

// Item is one report in this worker's hands. Ack or Again ends that.
type Item interface {
	Body() []byte
	Tries() int // how often it was taken, this time included
	Ack() error
	Again(delay time.Duration) error
	Alive() error // keeps others from taking it, for half a minute
}

// Answer is Stripe's answer to a question.
type Answer struct {
	Status     int
	Body       []byte
	Throttled  bool // a 429 for the account's rate
	RetryAfter time.Duration
}

// Stripe answers questions; an error means that there was no whole answer.
type Stripe interface {
	Read(ctx context.Context, path string) (Answer, error)
}

// Permits is the account-wide bucket.
type Permits interface {
	Take(ctx context.Context) (Permit, error)
	Throttled(retryAfter time.Duration)
}

// Permit is the right to make one request.
type Permit interface {
	Spend(ctx context.Context) error
	Done()
}

// Message is one message of the outbox.
type Message struct {
	Subject   string // as published
	Sequence  uint64
	Partition int
	StoredAt  time.Time
	Body      []byte
	Header    func(name string) string
}

// Outbox holds the messages; found is false where one is trimmed.
type Outbox interface {
	Message(ctx context.Context, sequence uint64) (m Message, found bool, err error)
}

// History is what was recorded of the deliveries. See package journal.
type History interface {
	Read(ctx context.Context, partition int, from, until time.Time, each func(journal.Line) bool) error
}

// Letters is the dead-letter stream. An error means that the outcome is unknown.
type Letters interface {
	Publish(ctx context.Context, l deadletter.Letter, header map[string]string, body []byte) error
	Stored(ctx context.Context, l deadletter.Letter, since time.Time) (bool, error)
}
