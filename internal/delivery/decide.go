package delivery

import (
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/faultpoint"
)

// MaxAttempts is how often an event is sent when Stripe fails (5xx) or answers
// outside its contract: once, and at most 2 retries.
const MaxAttempts = 3

// action is what is done with a message after an attempt.
type action uint8

const (
	deliver action = iota + 1 // record the delivery, ack
	bury                      // dead letter, with the decision's reason
	again                     // the same event again, after the decision's delay
	renew                     // nothing was sent under this intent and it grew old: a new intent, then again
	release                   // hand back
	halt                      // hand back: Gate.Leave has stopped the worker until a person or a new key mends the set-up
)

// refusal is why a request was not made although it was its turn.
type refusal uint8

const (
	notRefused       refusal = iota
	refusedStopped           // drain, halt, or ownership lost
	refusedAmbiguous         // an attempt of unknown outcome is older than the safe window
	refusedStale             // only the intent itself is older than the safe window
	refusedOutdated          // the key has changed since it was this attempt's turn
)

// situation is all that a decision depends on.
type situation struct {
	answer        Answer
	refusal       refusal
	spent         int  // attempts that Stripe failed on, this one included
	streak        int  // answers in a row of this class, this one included
	earlierSame   bool // an earlier attempt with the same content may have been counted
	otherContent  bool // an attempt with other content under this identifier may have been counted
	acceptForeign bool // METERWORKER_FOREIGN_DUPLICATES=accept
	withheld      bool // the answer is no fault of the message: see Gate.Withhold
	random        float64
}

// decision is the outcome of decide.
type decision struct {
	do     action
	reason deadletter.Reason // for bury
	after  time.Duration     // for again
}

// decide is pure: the same situation gives the same decision.
func decide(s situation) decision {
	switch s.refusal {
	case refusedStopped:
		return decision{do: release}
	case refusedAmbiguous:
		return decision{do: bury, reason: deadletter.Ambiguous}
	case refusedStale:
		return decision{do: renew}
	case refusedOutdated:
		return decision{do: again}
	case notRefused:
	}
	if s.seeded() {
		return decision{do: bury, reason: deadletter.Rejected}
	}
	switch s.answer.Class {
	case Accepted:
		return decision{do: deliver}
	case Duplicate:
		return duplicate(s)
	case Refused:
		return s.hopeless(deadletter.Rejected)
	case Throttled, Contended, NoAnswer, NotSent:
		return decision{do: again, after: s.pause()}
	case ServerFault:
		return s.failed(deadletter.ServerError)
	case SetupFault, ForeignReply:
		return decision{do: halt}
	case Unexpected:
		return s.failed(deadletter.UnexpectedResponse)
	default:
		return s.failed(deadletter.UnexpectedResponse)
	}
}

// mayBeWithheld reports whether the decision is one that the gate has a say in.
func (d decision) mayBeWithheld(a Answer) bool {
	return d.do == bury && (a.Class == Refused || a.Class.fails())
}

// duplicate decides on "an event with this identifier already exists". It is our
// delivery only when an earlier attempt of ours may have put it there, with this
// content and no other. Accepting foreign duplicates does not extend to other
// content of our own: that conflict is known, and goes to a person.
func duplicate(s situation) decision {
	if !s.otherContent && (s.earlierSame || s.acceptForeign) {
		return decision{do: deliver}
	}
	return decision{do: bury, reason: deadletter.IdentifierConflict}
}

// failed decides on an answer of unknown outcome. Stripe's own word on retrying
// wins over ours, but never beyond MaxAttempts.
func (s situation) failed(reason deadletter.Reason) decision {
	if s.spentAll() {
		return s.hopeless(reason)
	}
	return decision{do: again, after: s.pause()}
}

// spentAll reports whether a failing event has had its attempts.
func (s situation) spentAll() bool {
	return s.answer.ShouldRetry == RetryNo || s.spent >= MaxAttempts
}

// hopeless is the end of a message that further attempts would not help; it goes back
// to the stream where the fault is not its own.
func (s situation) hopeless(reason deadletter.Reason) decision {
	if s.withheld {
		return decision{do: release}
	}
	return decision{do: bury, reason: reason}
}

// seeded is where a test build goes wrong.
func (s situation) seeded() bool {
	switch s.answer.Class {
	case Duplicate:
		return faultpoint.Seeded(faultpoint.DuplicateIsRefused)
	case SetupFault:
		return faultpoint.Seeded(faultpoint.BuriedOnSetupFault)
	case Throttled:
		return faultpoint.Seeded(faultpoint.ThrottleSpendsAttempt) && s.spentAll()
	case Accepted, Refused, Contended, ServerFault, Unexpected, NoAnswer, NotSent, ForeignReply:
	}
	return false
}

// backoff is the range of a full-jitter exponential back-off.
type backoff struct{ base, most time.Duration }

// backoffs has a row for each class that is tried again.
var backoffs = map[Class]backoff{
	Throttled:   {200 * time.Millisecond, 30 * time.Second},
	Contended:   {50 * time.Millisecond, 5 * time.Second},
	NoAnswer:    {200 * time.Millisecond, 30 * time.Second},
	NotSent:     {100 * time.Millisecond, 10 * time.Second},
	ServerFault: {500 * time.Millisecond, 10 * time.Second},
	Unexpected:  {500 * time.Millisecond, 10 * time.Second},
}

// pause is the delay before the next attempt: Stripe's Retry-After where there is
// one, with a little jitter on top so that not everybody returns at once; else
// exponential back-off with full jitter.
func (s situation) pause() time.Duration {
	row, ok := backoffs[s.answer.Class]
	if !ok {
		row = backoffs[Unexpected]
	}
	if s.answer.RetryAfter > 0 {
		return s.answer.RetryAfter + time.Duration(s.random*float64(row.base))
	}
	ceiling := row.most
	if shift := min(s.streak-1, 20); shift >= 0 && row.base<<shift < row.most {
		ceiling = row.base << shift
	}
	if s.answer.ShouldRetry == RetryNo {
		ceiling = row.most // Stripe would rather not see it again soon; a 409 is never given up
	}
	return time.Duration(s.random * float64(ceiling))
}
