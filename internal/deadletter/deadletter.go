// Package deadletter is the format of a dead letter: the closed list of
// reasons, the headers, the subject and the message id.
//
// A dead letter is one message in USAGE_DLQ. Its body is the original message's
// body, byte for byte; everything that we know about the failure is in headers.
// Of the original's headers only a well-formed traceparent is copied, so no Nats-*
// header of a producer can act on our streams.
//
// Invariants:
//
//   - The list of reasons is closed. Header, subject token, metric label, log
//     field and command-line filter all use [Reason].
//   - Header values hold no control characters and no secrets; free text
//     ([Letter.Detail]) is cut at [MaxDetail] bytes.
//   - Two publications of the dead letter for one stored message carry one
//     message id ([Letter.MessageID]), so JetStream keeps one of them.
package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Reason says why a message cannot be billed. The list is closed: see [Reasons].
type Reason string

// The reasons, in the order in which a message meets the checks.
const (
	Undecodable           Reason = "undecodable"                     // not a usage event: not JSON, or not its shape
	TooLarge              Reason = "too_large"                       // body over 64 KiB
	SubjectMismatch       Reason = "subject_mismatch"                // subject names another meter or customer than the body
	InvalidEventName      Reason = "invalid_event_name"              // missing, empty or over 100 characters
	InvalidIdentifier     Reason = "invalid_identifier"              // empty, over 255 characters, or with control characters
	InvalidPayload        Reason = "invalid_payload"                 // payload is not an object of short strings
	NoCustomer            Reason = "meter_event_no_customer_defined" // payload names no customer
	InvalidValue          Reason = "meter_event_invalid_value"       // value is not an integer of at most 15 digits
	TimestampTooFarInPast Reason = "timestamp_too_far_in_past"       // older than 35 days
	TimestampInFuture     Reason = "timestamp_in_future"             // more than 5 minutes ahead
	IdentifierConflict    Reason = "identifier_conflict"             // identifier was used for other content
	Rejected              Reason = "rejected"                        // Stripe refused it (4xx)
	ServerError           Reason = "server_error"                    // Stripe failed (5xx) and the retries are spent
	UnexpectedResponse    Reason = "unexpected_response"             // Stripe answered outside its contract, retries spent
	Ambiguous             Reason = "ambiguous"                       // may have been counted, and the safe window has passed
	RejectedLater         Reason = "rejected_later"                  // Stripe accepted it and rejected it asynchronously
	Panic                 Reason = "panic"                           // our own code failed on it
)

// Reasons returns the closed list, in a fixed order.
func Reasons() []Reason {
	return []Reason{
		Undecodable, TooLarge, SubjectMismatch, InvalidEventName, InvalidIdentifier,
		InvalidPayload, NoCustomer, InvalidValue, TimestampTooFarInPast, TimestampInFuture,
		IdentifierConflict, Rejected, ServerError, UnexpectedResponse, Ambiguous,
		RejectedLater, Panic,
	}
}

// Valid reports whether r is on the closed list.
func (r Reason) Valid() bool { return slices.Contains(Reasons(), r) }

// Outcome answers the question of whoever holds a dead letter: may Stripe have
// counted it?
type Outcome string

// The two outcomes of a dead letter.
const (
	Refused Outcome = "refused" // no attempt can have been counted
	Unknown Outcome = "unknown" // some attempt may have been counted
)

// The headers of a dead letter. Those of a replay are HeaderIdentifier,
// HeaderTimestamp, HeaderReplays, HeaderReplayOf and HeaderAcceptDoubleBilling.
const (
	HeaderReason       = "Meterworker-Reason"
	HeaderOutcome      = "Meterworker-Outcome"
	HeaderDetail       = "Meterworker-Detail"
	HeaderCode         = "Meterworker-Code"
	HeaderStatus       = "Meterworker-Status"
	HeaderRequestID    = "Meterworker-Request-Id"
	HeaderAttempts     = "Meterworker-Attempts"
	HeaderFirstAttempt = "Meterworker-First-Attempt"
	HeaderLastAttempt  = "Meterworker-Last-Attempt"
	HeaderDeadAt       = "Meterworker-Dead-At"
	HeaderSubject      = "Meterworker-Subject"
	HeaderSequence     = "Meterworker-Sequence"
	HeaderStoredAt     = "Meterworker-Stored-At"
	HeaderIdentifier   = "Meterworker-Identifier"
	HeaderTimestamp    = "Meterworker-Timestamp"
	HeaderEpisode      = "Meterworker-Episode"
	HeaderReplays      = "Meterworker-Replays"
	HeaderTraceparent  = "traceparent"

	HeaderReplayOf            = "Meterworker-Replay-Of"
	HeaderAcceptDoubleBilling = "Meterworker-Accept-Double-Billing"
)

// MaxDetail bounds the free text of a dead letter, in bytes.
const MaxDetail = 512

// Letter is everything a dead letter says beside the original body. Zero values
// mean "not known" and yield no header, except for the counts.
type Letter struct {
	Reason       Reason
	Outcome      Outcome
	Detail       string // free text for people; cut at MaxDetail bytes
	Code         string // Stripe's error code
	Status       int    // last HTTP status
	RequestID    string // Stripe's id of the last request that had one
	Attempts     int    // requests that Stripe may have executed; throttled ones are not counted
	FirstAttempt time.Time
	LastAttempt  time.Time
	DeadAt       time.Time
	Subject      string // as published by the producer
	Sequence     uint64 // of the message in USAGE
	StoredAt     time.Time
	Identifier   string // as resolved
	Timestamp    int64  // as resolved, Unix seconds
	Episode      string // number of the outage it died in, if any
	Replays      int    // how many times it had been replayed before it died
	Traceparent  string // of the original, well-formed
}

// MessageID is the Nats-Msg-Id under which the letter is published; epoch is the
// stamp of the USAGE stream.
func (l Letter) MessageID(epoch string) string {
	return fmt.Sprintf("dlq-%s-%d-%s", epoch, l.Sequence, l.Reason)
}

// StreamSubject is where the letter is published:
// usage.dlq.<reason>.<event name token of the original subject>.
func (l Letter) StreamSubject() string {
	return "usage.dlq." + string(l.Reason) + "." + eventToken(l.Subject)
}

func eventToken(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 4 || tokens[2] == "" {
		return "_"
	}
	return tokens[2]
}

// Header returns the letter's headers, one value a name.
func (l Letter) Header() map[string]string {
	h := map[string]string{
		HeaderReason:   string(l.Reason),
		HeaderOutcome:  string(l.Outcome),
		HeaderAttempts: strconv.Itoa(l.Attempts),
		HeaderSequence: strconv.FormatUint(l.Sequence, 10),
		HeaderReplays:  strconv.Itoa(l.Replays),
	}
	set := func(name, value string) {
		if value != "" {
			h[name] = value
		}
	}
	set(HeaderDetail, clean(l.Detail, MaxDetail))
	set(HeaderCode, clean(l.Code, 128))
	set(HeaderRequestID, clean(l.RequestID, 128))
	set(HeaderSubject, clean(l.Subject, 4096))
	set(HeaderIdentifier, clean(l.Identifier, 4096))
	set(HeaderEpisode, clean(l.Episode, 64))
	set(HeaderTraceparent, clean(l.Traceparent, 64))
	set(HeaderFirstAttempt, stamp(l.FirstAttempt))
	set(HeaderLastAttempt, stamp(l.LastAttempt))
	set(HeaderDeadAt, stamp(l.DeadAt))
	set(HeaderStoredAt, stamp(l.StoredAt))
	if l.Status != 0 {
		h[HeaderStatus] = strconv.Itoa(l.Status)
	}
	if l.Timestamp != 0 {
		h[HeaderTimestamp] = strconv.FormatInt(l.Timestamp, 10)
	}
	return h
}

// Read is the inverse of [Letter.Header]. get returns the value of a header or
// "". A header that cannot be read is an error that names it.
func Read(get func(name string) string) (Letter, error) {
	r := reader{get: get}
	l := Letter{
		Reason:       Reason(get(HeaderReason)),
		Outcome:      Outcome(get(HeaderOutcome)),
		Detail:       get(HeaderDetail),
		Code:         get(HeaderCode),
		Status:       r.number(HeaderStatus),
		RequestID:    get(HeaderRequestID),
		Attempts:     r.number(HeaderAttempts),
		FirstAttempt: r.time(HeaderFirstAttempt),
		LastAttempt:  r.time(HeaderLastAttempt),
		DeadAt:       r.time(HeaderDeadAt),
		Subject:      get(HeaderSubject),
		Sequence:     r.uint64(HeaderSequence),
		StoredAt:     r.time(HeaderStoredAt),
		Identifier:   get(HeaderIdentifier),
		Timestamp:    r.int64(HeaderTimestamp),
		Episode:      get(HeaderEpisode),
		Replays:      r.number(HeaderReplays),
		Traceparent:  get(HeaderTraceparent),
	}
	if r.err == nil && !l.Reason.Valid() {
		r.err = fmt.Errorf("header %s: %q is not a reason", HeaderReason, l.Reason)
	}
	return l, r.err
}

type reader struct {
	get func(string) string
	err error
}

func (r *reader) int64(name string) int64 {
	text := r.get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("header %s: %q is not a number", name, text)
	}
	return n
}

func (r *reader) uint64(name string) uint64 {
	text := r.get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("header %s: %q is not a sequence", name, text)
	}
	return n
}

func (r *reader) number(name string) int { return int(r.int64(name)) }

func (r *reader) time(name string) time.Time {
	text := r.get(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("header %s: %q is not an RFC 3339 time", name, text)
	}
	return t
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// clean makes text safe in a header: valid UTF-8, no control characters, at most
// limit bytes.
func clean(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// ReasonOf is the reason in a dead letter's subject.
func ReasonOf(subject string) Reason {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 {
		return ""
	}
	return Reason(tokens[2])
}

// Pack encodes a header block for keeping, and Unpack decodes it.
func Pack(header map[string]string) ([]byte, error) {
	block, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("pack header block: %w", err)
	}
	return block, nil
}

// Unpack decodes what Pack encoded.
func Unpack(block []byte) (map[string]string, error) {
	var header map[string]string
	if err := json.Unmarshal(block, &header); err != nil {
		return nil, fmt.Errorf("unpack header block: %w", err)
	}
	if header == nil {
		return nil, errors.New("unpack header block: it is null")
	}
	return header, nil
}
