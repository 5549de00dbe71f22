package sender

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/meterworker/meterworker/internal/delivery"
)

// streamVerdict is what an answer of the stream means.
type streamVerdict struct {
	answer  delivery.Answer
	session bool // the session is at fault: nothing was executed
	event   bool // one of the events is
}

// expiredCode is the one error of the stream that Stripe documents, as 401 or 400.
const expiredCode = "billing_meter_event_session_expired"

// judgeStream turns an observation of the stream into its meaning. It is total and
// depends on nothing else: a later fact about Stripe changes this function only. A
// duplicate counts in a batch of one: of several, nobody knows which it is.
func judgeStream(o observation, alone bool) streamVerdict {
	r := o.reply()
	v := streamVerdict{answer: o.answer(o.streamClass(r, alone), r)}
	if r.Error != nil && o.status/100 == 4 {
		v.session = r.Error.Code == expiredCode || o.status == http.StatusUnauthorized && !setupCodes[r.Error.Code]
	}
	switch v.answer.Class {
	case delivery.Refused, delivery.Duplicate:
		v.event = true
	case delivery.ServerFault, delivery.Unexpected:
		if !alone { // it may be about any of the events; each is tried alone before it is given up
			v.answer.ShouldRetry = delivery.RetryUnsaid
		}
	case delivery.Accepted, delivery.Throttled, delivery.Contended, delivery.NoAnswer, delivery.NotSent,
		delivery.SetupFault, delivery.ForeignReply:
	}
	return v
}

func (o observation) streamClass(r reply, alone bool) delivery.Class {
	switch {
	case o.end != endAnswered:
		return o.class(r)
	case o.status == http.StatusOK:
		return o.streamReceipt(r)
	case r.Error != nil && r.Error.Code == expiredCode && o.status/100 == 4:
		return delivery.NotSent // nothing of it was executed
	case !alone && o.status == http.StatusBadRequest && r.Error != nil && saysDuplicate(r.Error):
		return delivery.Refused
	default:
		return o.class(r)
	}
}

// streamReceipt judges a 200, which names no event: an object without an error, and of our
// mode if of any.
func (o observation) streamReceipt(r reply) delivery.Class {
	body := bytes.TrimSpace(o.body)
	switch {
	case o.oversize || len(body) == 0 || body[0] != '{' || !json.Valid(body) || r.Error != nil:
		return delivery.Unexpected
	case r.Livemode != nil && *r.Livemode != o.live:
		return delivery.ForeignReply
	default:
		return delivery.Accepted
	}
}
