package usage

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of an event. Characters are Unicode code points.
const (
	MaxBody       = 64 << 10            // bytes of the message body
	MaxEventName  = 100                 // characters
	MaxIdentifier = 255                 // characters
	MaxDimension  = 100                 // characters of the customer, of a payload key and of a payload value
	MaxAge        = 35 * 24 * time.Hour // of a timestamp; Stripe refuses older ones
	MaxAhead      = 5 * time.Minute     // of a timestamp; Stripe refuses later ones

	maxDigits = 15 // of a value: more lose precision at Stripe
	maxDetail = 512
	maxQuoted = 48 // bytes of a producer's key that a detail quotes
)

// Reason says why a message is not an event. The list is closed and shared with
// the dead letters, where it is a header and a subject token.
type Reason string

// The reasons for which [Parse] and [New] refuse.
const (
	Undecodable           Reason = "undecodable"                     // not JSON, or not the shape of an event
	TooLarge              Reason = "too_large"                       // body over MaxBody
	SubjectMismatch       Reason = "subject_mismatch"                // subject names another event name or customer than the body
	InvalidEventName      Reason = "invalid_event_name"              // missing, empty, over MaxEventName, or with control characters
	InvalidIdentifier     Reason = "invalid_identifier"              // empty, over MaxIdentifier, or with control characters
	InvalidPayload        Reason = "invalid_payload"                 // not an object of short strings, numbers and booleans
	NoCustomer            Reason = "meter_event_no_customer_defined" // payload names no customer
	InvalidValue          Reason = "meter_event_invalid_value"       // value is not an integer of at most 15 digits
	TimestampTooFarInPast Reason = "timestamp_too_far_in_past"       // older than MaxAge
	TimestampInFuture     Reason = "timestamp_in_future"             // more than MaxAhead ahead
)

// Refusal is why a message is not an event. It is the only error of [Parse] and
// [New].
type Refusal struct {
	Reason Reason

	// Detail tells people what is wrong and what to do: at most 512 bytes, no
	// control characters, and no value of the payload.
	Detail string

	Identifier string // as resolved; "" where it is not known
	Timestamp  int64  // as resolved, Unix seconds; 0 where it is not known
}

// Error returns reason and detail.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

func refuse(reason Reason, detail string) *Refusal {
	return &Refusal{Reason: reason, Detail: printable(detail, maxDetail)}
}

// quote makes a key that a producer chose safe to show.
func quote(key string) string { return `"` + printable(key, maxQuoted) + `"` }

// printable returns text with control characters blanked and bidirectional
// overrides with them, cut at limit bytes on a character's edge.
func printable(text string, limit int) string {
	text = text[:min(len(text), limit+utf8.UTFMax)]
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= limit {
		return text
	}
	cut := limit
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
