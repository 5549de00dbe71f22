package replay

import "github.com/meterworker/meterworker/internal/deadletter"

// advice is what a person can do about each reason.
var advice = map[deadletter.Reason]string{
	deadletter.Undecodable:           "The body is no usage event, and a replay dies again. Mend the producer, then edit this letter; or publish the usage as a new event and discard it.",
	deadletter.TooLarge:              "The body is over 64 KiB, and a replay dies again. Edit it down to fewer dimensions.",
	deadletter.SubjectMismatch:       "The body names another meter or customer than the subject, and a replay dies again. Find out which one is right, then edit: the edited event is published on the subject that its body names.",
	deadletter.InvalidEventName:      "The event name breaks Stripe's rules, and a replay dies again. Edit it to the meter's event name.",
	deadletter.InvalidIdentifier:     "The identifier breaks the rules, and a replay dies again. Edit it to a valid identifier.",
	deadletter.InvalidPayload:        "The payload breaks Stripe's rules, and a replay dies again. Edit it to a payload of short strings.",
	deadletter.NoCustomer:            "The payload names no customer, and a replay dies again. Edit it: set payload.stripe_customer_id.",
	deadletter.InvalidValue:          "The value is no integer of at most 15 digits, and a replay dies again. Edit it to whole units.",
	deadletter.TimestampTooFarInPast: "The usage was older than 35 days, and Stripe takes it no more. Bill it by hand, then discard this letter; where only the timestamp was wrong, edit that.",
	deadletter.TimestampInFuture:     "The timestamp was more than 5 minutes ahead. Where it is right by now, replay; where the producer sent milliseconds or has a wrong clock, edit the timestamp.",
	deadletter.IdentifierConflict:    "The identifier was used for other content, or by another sender. If this is usage of its own, edit it: the edited event gets an identifier of its own; if it is the same usage reported twice, discard it.",
	deadletter.Rejected:              "Stripe refused it; code and detail say why. Mend the cause at Stripe (customer, meter), then replay: the identifier is still free. Where the event itself is wrong, edit it.",
	deadletter.ServerError:           "Stripe failed three times. Replay when Stripe works again, best within 23 hours of the first attempt: until then the same identifier cannot count twice. Later the worker calls it ambiguous.",
	deadletter.UnexpectedResponse:    "The answer was none of Stripe's. Look for a proxy in between, and replay within 23 hours of the first attempt: until then the same identifier cannot count twice.",
	deadletter.Ambiguous:             "Stripe may have counted it and no longer remembers the identifier. `meterworker reconcile` compares the customer's sums with Stripe's, and settles it where they leave one answer; else look at the usage at Stripe: discard it if it is there; replay with --accept-double-billing if it is missing.",
	deadletter.RejectedLater:         "Stripe took it and rejected it afterwards, so its identifier is used up. Mend the cause that the code names, then replay, or edit: either gets an identifier of its own.",
	deadletter.Panic:                 "The worker's own code failed on it; its log has the stack. Replay it with a version that mends this.",
}

// Advice says what a person can do about the letter; "" for a reason that this
// version does not know.
func (l Letter) Advice() string { return advice[l.Reason] }
