package sender

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// end is how an exchange ended, as far as the wire is concerned.
type end uint8

const (
	endNone     end = iota
	endSetup        // not tried: key or mode is wrong
	endUnsent       // no byte was written
	endCut          // bytes were written, no whole answer came
	endAnswered     // a whole answer, or one over maxReply
)

// observation is all that is known of one attempt.
type observation struct {
	identifier string // ours
	live       bool   // our mode

	end      end
	err      error // why there is no answer
	at       time.Time
	status   int
	header   http.Header
	body     []byte
	oversize bool // body is missing: it was over maxReply
}

// reply is the part of Stripe's JSON that decides.
type reply struct {
	Identifier *string     `json:"identifier"`
	Livemode   *bool       `json:"livemode"`
	Error      *replyError `json:"error"`
}

type replyError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Type    string `json:"type"`
}

// classify turns an observation into the answer. It is total and depends on
// nothing else: a later fact about Stripe changes this file only.
func classify(o observation) delivery.Answer {
	if o.accepts() {
		return o.answer(delivery.Accepted, reply{})
	}
	r := o.reply()
	return o.answer(o.class(r), r)
}

// answer says what is to be known of an observation of that class.
func (o observation) answer(class delivery.Class, r reply) delivery.Answer {
	answer := delivery.Answer{Class: class, Status: o.status}
	if r.Error != nil {
		answer.Code = printable(r.Error.Code, maxCode)
		answer.Detail = printable(r.Error.Message, maxDetail)
	}
	if o.err != nil {
		answer.Detail = printable(o.err.Error(), maxDetail)
	}
	if answer.Detail == "" {
		answer.Detail = o.remark(answer.Class)
	}
	answer.RequestID = printable(o.header.Get("Request-Id"), maxRequestID)
	answer.RetryAfter = retryAfter(o.header.Get("Retry-After"), o.at)
	answer.Date = date(o.header.Get("Date"))
	answer.ShouldRetry = shouldRetry(o.header.Get("Stripe-Should-Retry"))
	answer.Replayed = strings.EqualFold(strings.TrimSpace(o.header.Get("Idempotent-Replayed")), "true")
	return answer
}

// date is zero where the header is missing or says nothing.
func date(header string) time.Time {
	at, err := http.ParseTime(header)
	if err != nil {
		return time.Time{}
	}
	return at
}

// reply decodes the body; what is not Stripe's JSON is the zero reply.
func (o observation) reply() reply {
	var r reply
	if o.end != endAnswered || json.Unmarshal(o.body, &r) != nil {
		return reply{}
	}
	if r.Error != nil && *r.Error == (replyError{}) {
		r.Error = nil
	}
	return r
}

func (o observation) class(r reply) delivery.Class {
	switch {
	case o.end == endSetup:
		return delivery.SetupFault
	case o.end == endUnsent:
		return delivery.NotSent
	case o.end != endAnswered:
		return delivery.NoAnswer
	case o.status == http.StatusOK:
		return o.receipt(r)
	case o.status >= 300 && o.status <= 399:
		return delivery.SetupFault
	case o.status >= 400 && o.status <= 499:
		return o.refusal(r.Error)
	case o.status >= 500 && o.status <= 599:
		return delivery.ServerFault
	default:
		return delivery.Unexpected
	}
}

// receipt judges a 200. One that disagrees with identifier or mode is for someone
// else; one without the identifier proves nothing.
func (o observation) receipt(r reply) delivery.Class {
	switch {
	case r.Identifier != nil && *r.Identifier != o.identifier, r.Livemode != nil && *r.Livemode != o.live:
		return delivery.ForeignReply
	case r.Identifier == nil: // a missing livemode contradicts nothing; the key's prefix has proven the mode
		return delivery.Unexpected
	default:
		return delivery.Accepted
	}
}

// setupCodes say that key or mode is wrong, whatever the 4xx.
var setupCodes = map[string]bool{
	"api_key_expired": true, "platform_api_key_expired": true, "livemode_mismatch": true,
	"testmode_charges_only": true, "secret_key_required": true,
}

// clientClasses holds the 4xx that are not simply "this event will never be
// accepted": the class with an error object of Stripe's, and without one.
var clientClasses = map[int]struct{ stripe, foreign delivery.Class }{
	http.StatusUnauthorized:         {delivery.SetupFault, delivery.SetupFault},
	http.StatusForbidden:            {delivery.SetupFault, delivery.SetupFault},
	http.StatusNotFound:             {delivery.Refused, delivery.SetupFault},
	http.StatusMethodNotAllowed:     {delivery.SetupFault, delivery.SetupFault},
	http.StatusRequestTimeout:       {delivery.Unexpected, delivery.Unexpected}, // the outcome is unknown
	http.StatusConflict:             {delivery.Contended, delivery.Contended},
	http.StatusUnsupportedMediaType: {delivery.SetupFault, delivery.SetupFault},
	http.StatusTooManyRequests:      {delivery.Throttled, delivery.Throttled},
}

// refusal judges a 4xx. Without an error object it is not Stripe who speaks but
// something in between, and what became of the event is unknown.
func (o observation) refusal(e *replyError) delivery.Class {
	known, listed := clientClasses[o.status]
	switch {
	case e != nil && (setupCodes[e.Code] || strings.Contains(lower(e.Message), "a similar object exists in")):
		return delivery.SetupFault
	case o.contended(e):
		return delivery.Contended
	case e == nil && listed:
		return known.foreign
	case e == nil:
		return delivery.Unexpected
	case o.status == http.StatusBadRequest && saysDuplicate(e):
		return o.duplicate(e)
	case o.status == http.StatusNotFound && e.Code == "":
		return delivery.SetupFault // "Unrecognized request URL": the route, not a resource
	case listed:
		return known.stripe
	default:
		return delivery.Refused
	}
}

// contended reports contention on one object or key, as opposed to the account's
// rate. An idempotency_error says that the key was used with other parameters;
// the next attempt has a new key.
func (o observation) contended(e *replyError) bool {
	if o.status == http.StatusUnauthorized || o.status == http.StatusForbidden {
		return false
	}
	reason := lower(strings.TrimSpace(o.header.Get("Stripe-Rate-Limited-Reason")))
	if o.status == http.StatusTooManyRequests && reason != "" {
		return reason == "resource-specific" || strings.HasSuffix(reason, "-concurrency")
	}
	if e == nil {
		return false
	}
	return e.Code == "lock_timeout" && reason == "" ||
		o.status == http.StatusBadRequest && e.Type == "idempotency_error"
}

const duplicateText = "already exists with identifier"

func saysDuplicate(e *replyError) bool {
	return e.Code == "duplicate_meter_event" || strings.Contains(lower(e.Message), duplicateText)
}

// duplicate checks that the message speaks of our identifier, if of any.
func (o observation) duplicate(e *replyError) delivery.Class {
	at := strings.Index(lower(e.Message), duplicateText)
	if at < 0 {
		return delivery.Duplicate
	}
	rest := e.Message[at+len(duplicateText):]
	if strings.TrimFunc(rest, isQuote) == "" || names(rest, o.identifier) {
		return delivery.Duplicate
	}
	return delivery.Unexpected
}

// remark describes an answer that brought no words of its own. The body is left
// out: it may be anything, payload included.
func (o observation) remark(class delivery.Class) string {
	switch {
	case class == delivery.Accepted:
		return ""
	case class == delivery.ForeignReply:
		return "the reply is for another identifier or mode"
	case o.oversize:
		return "the reply's body is over 64 KiB"
	case o.status >= 300 && o.status <= 399:
		return "redirected; redirects are not followed: correct the API base"
	default:
		return "the reply is not what Stripe documents"
	}
}
