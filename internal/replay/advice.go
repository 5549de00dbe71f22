package replay

import "github.com/meterworker/meterworker/internal/deadletter"

// advice is what a person can do about each reason.
var advice = map[deadletter.Reason]string{
	deadletter.Undecodable:           "The body is no usage event, and a replay dies again. Mend the producer, publish the usage as a new event, then discard this letter.",
	deadletter.TooLarge:              "The body is over 64 KiB, and a replay dies again. Publish the usage with fewer dimensions, then discard this letter.",
	deadletter.SubjectMismatch:       "The body names another meter or customer than the subject, and a replay dies again. Find out which one is right, publish the usage on its own subject, then discard this letter.",
	deadletter.InvalidEventName:      "The event name breaks Stripe's rules, and a replay dies again. Publish the usage under the meter's event name, then discard this letter.",
	deadletter.InvalidIdentifier:     "The identifier breaks the rules, and a replay dies again. Publish the usage with a valid identifier, then discard this letter.",
	deadletter.InvalidPayload:        "The payload breaks Stripe's rules, and a replay dies again. Publish the usage with a payload of short strings, then discard this letter.",
	deadletter.NoCustomer:            "The payload names no customer, and a replay dies again. Publish the usage with payload.stripe_customer_id, then discard this letter.",
	deadletter.InvalidValue:          "The value is no integer of at most 15 digits, and a replay dies again. Publish the usage in whole units, then discard this letter.",
	deadletter.TimestampTooFarInPast: "The usage was older than 35 days, and Stripe takes it no more. Bill it by hand, then discard this letter.",
	deadletter.TimestampInFuture:     "The timestamp was more than 5 minutes ahead. Where it is right by now, replay; where the producer sent milliseconds or has a wrong clock, publish the usage with the right one, then discard this letter.",
	deadletter.IdentifierConflict:    "The identifier was used for other content, or by another sender. If this is usage of its own, publish it under another identifier, then discard this letter; if it is the same usage reported twice, discard it.",
	deadletter.Rejected:              "Stripe refused it; code and detail say why. Mend the cause at Stripe (customer, meter), then replay: the identifier is still free.",
	deadletter.ServerError:           "Stripe failed three times. Replay when Stripe works again, best within 23 hours of the first attempt: until then the same identifier cannot count twice. Later the worker calls it ambiguous.",
	deadletter.UnexpectedResponse:    "The answer was none of Stripe's. Look for a proxy in between, and replay within 23 hours of the first attempt: until then the same identifier cannot count twice.",
	deadletter.Ambiguous:             "Stripe may have counted it and no longer remembers the identifier. Compare with the customer's usage at Stripe: discard it if it is there; replay with --accept-double-billing if it is missing.",
	deadletter.RejectedLater:         "Stripe took it and rejected it afterwards, so its identifier is used up. Mend the cause that the code names, then replay: the replay gets an identifier of its own.",
	deadletter.Panic:                 "The worker's own code failed on it; its log has the stack. Replay it with a version that mends this.",
}

// Advice says what a person can do about the letter; "" for a reason that this
// version does not know.
func (l Letter) Advice() string { return advice[l.Reason] }
