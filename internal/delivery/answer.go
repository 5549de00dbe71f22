package delivery

import (
	"context"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// Class is what one attempt came to. The list is closed: see [Classes].
type Class uint8

// The classes. Whether Stripe may have counted the event is a property of the
// class: see [Class.MayHaveCounted].
const (
	Accepted     Class = iota + 1 // 200 for this event: Stripe has received it
	Duplicate                     // 400: an event with this identifier is already there
	Refused                       // definite 4xx: this event will never be accepted
	Throttled                     // 429: over the account's rate
	Contended                     // 409, or 429 for one object: another call for the same customer or key is running
	ServerFault                   // 5xx: the outcome is unknown
	Unexpected                    // an answer outside the contract: the outcome is unknown
	NoAnswer                      // bytes were written and no whole answer came: the outcome is unknown
	NotSent                       // failed before any byte was written
	SetupFault                    // credentials, route, redirect, mode: the set-up is wrong, not the event
	ForeignReply                  // 200 for another identifier or mode: the set-up is wrong and the outcome unknown
)

// Classes returns the closed list.
func Classes() []Class {
	return []Class{
		Accepted, Duplicate, Refused, Throttled, Contended, ServerFault, Unexpected,
		NoAnswer, NotSent, SetupFault, ForeignReply,
	}
}

var classNames = map[Class]string{
	Accepted: "accepted", Duplicate: "duplicate", Refused: "refused", Throttled: "throttled",
	Contended: "contended", ServerFault: "server_fault", Unexpected: "unexpected",
	NoAnswer: "no_answer", NotSent: "not_sent", SetupFault: "setup_fault", ForeignReply: "foreign_reply",
}

// String is the class as metric label and log field.
func (c Class) String() string {
	if name, ok := classNames[c]; ok {
		return name
	}
	return "unclassified"
}

// MayHaveCounted reports whether an attempt of this class may have been counted
// by Stripe although no acceptance was seen. A class that is not on the list is
// treated as unknown: billing data is never dropped on a guess.
func (c Class) MayHaveCounted() bool {
	switch c {
	case Refused, Throttled, Contended, NotSent, SetupFault, Duplicate, Accepted:
		return false
	case ServerFault, Unexpected, NoAnswer, ForeignReply:
	}
	return true
}

// Retry is Stripe's own word on whether to send again (Stripe-Should-Retry).
type Retry uint8

// The three states of Stripe-Should-Retry.
const (
	RetryUnsaid Retry = iota
	RetryYes
	RetryNo
)

// Answer is one attempt's result.
type Answer struct {
	Class       Class
	Status      int           // HTTP status, 0 without one
	Code        string        // Stripe's error code, bounded
	Detail      string        // for people: Stripe's message or the transport's error; no secrets, bounded
	RequestID   string        // Stripe's Request-Id
	RetryAfter  time.Duration // 0 without one; at most 300 s
	Date        time.Time     // when the answer was written, by the clock of who answered, in whole seconds; zero without one
	ShouldRetry Retry
	Replayed    bool // Idempotent-Replayed: a stored answer, not a new execution
	Shared      bool // the same request has answered another event already: of Stripe's health it tells nothing new
}

// Attempt is one request to be made, exactly once.
type Attempt struct {
	Event usage.Event

	// IdempotencyKey is at most 255 characters and holds no personal data.
	IdempotencyKey string

	// Ready is called after a connection was obtained and before the first byte
	// is written. An error aborts the attempt unsent: the answer is [NotSent]
	// and errors.Is(err) is lost on purpose, the caller knows what it refused. A sender
	// that repeats a request which was surely not executed asks again before that.
	Ready func(ctx context.Context) error

	// Stop ends the wait for others to share a request with; Ready then says why. Nil never
	// does.
	Stop context.Context

	// Alone: an earlier request may have failed because of this event, so that no other
	// event shares its request.
	Alone bool

	// Written is called when the request has been written, or has failed to be; on
	// any goroutine, and perhaps not at all where nothing was written.
	Written func()
}

// Sender makes attempts. Send makes at most one HTTP request a call that may have been
// executed, and always returns an answer: an error is a class, not a Go error.
type Sender interface {
	Send(ctx context.Context, attempt Attempt) Answer
}
