// Package faultpoint names the places at which a test build goes wrong on purpose:
// points at which a process ends, hangs or reports a failure, and bugs that the
// simulation must catch. A release holds none of it: without the build tag
// "faultpoints" [At] and [Seeded] are empty functions that the compiler removes.
//
// A [Point] stands right before or right after an effect that outlives the process,
// so that ending the process there leaves the world in each state that a crash can.
// METERWORKER_FAULTPOINT=point:action[:n] takes the action the n-th time (first: 1)
// the point is passed:
//
//   - exit: the process ends with code 137, like one that was killed;
//   - hang: the caller never goes on;
//   - stop: the process stops as a whole, and goes on when it gets SIGCONT;
//   - error: the step is reported as failed, done or not.
//
// A [Bug] is one mistake that such software is known for: see [Bugs]. At most one is
// on at a time (METERWORKER_SEEDED_BUG).
package faultpoint

// Point is a place in the life of a message, named after the effect that has just
// taken place or, where the name says so, is about to.
type Point string

// The points, in the order in which a message passes them.
const (
	Fetched        Point = "fetched"         // a message has come into this worker's hands
	MarkerStored   Point = "marker-stored"   // an owner marker is stored, the journal not read yet
	IntentUnstored Point = "intent-unstored" // an intent is about to be stored
	IntentStored   Point = "intent-stored"   // it is
	Connected      Point = "connected"       // the connection is there, no byte is written
	Written        Point = "written"         // the request is written, no answer read
	Answered       Point = "answered"        // the answer is read
	RecordUnstored Point = "record-unstored" // outcomes are about to be recorded
	RecordStored   Point = "record-stored"   // they are
	LetterUnstored Point = "letter-unstored" // a dead letter is about to be stored
	LetterStored   Point = "letter-stored"   // it is
	AckUnsent      Point = "ack-unsent"      // a message is about to be acked
	AckSent        Point = "ack-sent"        // it is
	NakUnsent      Point = "nak-unsent"      // a message is about to be handed back
	LeaseTaken     Point = "lease-taken"     // permits are leased, none is spent
	ReplayStored   Point = "replay-stored"   // a replay is stored, its dead letter not deleted yet
)

// Points is the closed list.
func Points() []Point {
	return []Point{
		Fetched, MarkerStored, IntentUnstored, IntentStored, Connected, Written, Answered, RecordUnstored,
		RecordStored, LetterUnstored, LetterStored, AckUnsent, AckSent, NakUnsent, LeaseTaken, ReplayStored,
	}
}

// A Bug is a mistake that the simulation must catch.
type Bug string

// The bugs.
const (
	AckBeforeRecord         Bug = "ack-before-record"          // the delivery is acked, then recorded
	AckBeforeLetter         Bug = "ack-before-letter"          // the message is acked, then its dead letter stored
	SendBeforeIntent        Bug = "send-before-intent"         // the intent is stored after the request
	NoLedger                Bug = "no-ledger"                  // what was delivered is not looked up
	NoSafeWindow            Bug = "no-safe-window"             // an old attempt of unknown outcome is repeated
	NoAgeCheckAfterConnect  Bug = "no-age-check-after-connect" // the age is not looked at again before the first byte
	NewestT0                Bug = "newest-t0"                  // the window is reckoned from the newest attempt, not the oldest
	Unfenced                Bug = "unfenced"                   // journal writes do not name the marker
	RefusalResolvesUnknown  Bug = "refusal-resolves-unknown"   // a later refusal makes an earlier unknown attempt refused
	ThrottleSpendsAttempt   Bug = "throttle-spends-attempt"    // a 429 counts as a failed attempt
	DuplicateIsRefused      Bug = "duplicate-is-refused"       // "already exists" is taken for an error
	RetryWithoutPermit      Bug = "retry-without-permit"       // only the first attempt takes a permit
	PermitsNeverExpire      Bug = "permits-never-expire"       // a permit may be spent at any later time
	Redated                 Bug = "redated"                    // an event is sent with the time of sending
	FixedIdempotencyKey     Bug = "fixed-idempotency-key"      // the key stays the same after a server error
	BuriedOnSetupFault      Bug = "buried-on-setup-fault"      // a 401 makes a dead letter
	BuriedWhileOpen         Bug = "buried-while-open"          // server errors are buried during an outage
	RedirectFollowed        Bug = "redirect-followed"          // a redirect is followed
	LanesIgnored            Bug = "lanes-ignored"              // two requests at once for one customer and meter
	UnknownHandedBackUnsent Bug = "unknown-handed-back-unsent" // an unanswered attempt is recorded as not sent
)

// Bugs is the closed list.
func Bugs() []Bug {
	return []Bug{
		AckBeforeRecord, AckBeforeLetter, SendBeforeIntent, NoLedger, NoSafeWindow, NoAgeCheckAfterConnect,
		NewestT0, Unfenced, RefusalResolvesUnknown, ThrottleSpendsAttempt, DuplicateIsRefused, RetryWithoutPermit,
		PermitsNeverExpire, Redated, FixedIdempotencyKey, BuriedOnSetupFault, BuriedWhileOpen, RedirectFollowed,
		LanesIgnored, UnknownHandedBackUnsent,
	}
}
