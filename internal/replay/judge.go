package replay

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/usage"
)

// Permission is what a person has agreed to.
type Permission struct {
	// AcceptDoubleBilling publishes again what may already be counted.
	AcceptDoubleBilling bool
	// Hopeless publishes again what will die again as it stands.
	Hopeless bool
}

// plan is a replay that may be made.
type plan struct {
	subject    string
	header     map[string]string // all the headers of the replay
	body       []byte
	identifier string // "" if it is not known
	warning    string // what is likely to come of it; "" if nothing is
}

// hopeless are the letters that the worker refused before anything was sent, for
// what they say: the same message is refused again.
var hopeless = []deadletter.Reason{
	deadletter.Undecodable, deadletter.TooLarge, deadletter.SubjectMismatch, deadletter.InvalidEventName,
	deadletter.InvalidIdentifier, deadletter.InvalidPayload, deadletter.NoCustomer, deadletter.InvalidValue,
}

// notCounted are Stripe's codes of a rejection after the 200 by which the event
// counts for nothing (stripe-contract: asynchronous errors). Any other code leaves
// it open.
var notCounted = []string{
	"meter_event_customer_not_found", "meter_event_no_customer_defined", "timestamp_too_far_in_past",
	"timestamp_in_future", "meter_event_invalid_value", "no_meter", "archived_meter",
	"meter_event_dimension_count_too_high", "missing_dimension_payload_keys", "meter_event_value_not_found",
	"meter_event_value_too_many_digits",
}

// judge decides whether the letter may be published again, and as what. It is
// pure. refusal is "" or says why not and what to do.
func judge(l Letter, allowed Permission, now time.Time) (p plan, refusal string) {
	name, customer, ok := tokensOf(l.Subject)
	switch {
	case l.Fault != nil:
		return plan{}, "its headers cannot be read (" + l.Fault.Error() + "); replay it with the version of meterworker that wrote it"
	case !ok:
		return plan{}, "the subject on which it was published is not known; publish the usage as a new event"
	case l.expired(now):
		return plan{}, "the usage is older than 35 days and Stripe takes it no more; bill it by hand, then discard the letter"
	case l.Reason == deadletter.Ambiguous && !allowed.AcceptDoubleBilling:
		return plan{}, "Stripe may have counted it, and no longer remembers its identifier; look at the customer's usage at Stripe, and replay with --accept-double-billing if it is missing there"
	}
	identifier, refusal := identifierOf(l, allowed)
	if refusal != "" {
		return plan{}, refusal
	}
	p = plan{
		subject: "usage.replay." + name + "." + customer, header: headerOf(l, identifier, allowed),
		body: l.Body, identifier: identifier,
	}
	if slices.Contains(hopeless, l.Reason) {
		p.warning = fmt.Sprintf("it will die again with the reason %s unless the worker has changed", l.Reason)
		if !allowed.Hopeless {
			return plan{}, p.warning + "; name it by its id, or give --yes, to replay it all the same"
		}
	}
	return p, ""
}

// identifierOf is the identifier to bill under.
func identifierOf(l Letter, allowed Permission) (identifier, refusal string) {
	if l.Reason != deadletter.RejectedLater {
		return l.Identifier, ""
	}
	free := l.Outcome != deadletter.Unknown && slices.Contains(notCounted, l.Code)
	if !free && !allowed.AcceptDoubleBilling {
		return "", "nothing says that Stripe did not count it, and the replay needs a new identifier, under which it would count again; look at the customer's usage at Stripe, and replay with --accept-double-billing if it is missing there"
	}
	if l.Identifier == "" {
		return "", "its identifier is not known, so no new one can be derived; publish the usage as a new event"
	}
	identifier = renamed(l.Identifier, l.Replays)
	if utf8.RuneCountInString(identifier) > usage.MaxIdentifier {
		return "", fmt.Sprintf("the new identifier would have more than %d characters; publish the usage as a new event", usage.MaxIdentifier)
	}
	return identifier, ""
}

var renamedPattern = regexp.MustCompile(`~r([1-9][0-9]{0,8})$`)

// renamed derives the identifier of the next replay. Only a suffix that an
// earlier replay of this event can have written is replaced: a producer's own
// stays, or two events would share an identifier.
func renamed(identifier string, replays int) string {
	if match := renamedPattern.FindStringSubmatchIndex(identifier); match != nil {
		if n, err := strconv.Atoi(identifier[match[2]:]); err == nil && n <= replays {
			identifier = identifier[:match[0]]
		}
	}
	return identifier + "~r" + strconv.Itoa(replays+1)
}

// headerOf lists every header of the replay.
func headerOf(l Letter, identifier string, allowed Permission) map[string]string {
	replays := strconv.Itoa(l.Replays + 1)
	h := map[string]string{
		jetstream.MsgIDHeader:     fmt.Sprintf("replay-%s-%d-%s", l.Epoch, l.ID, replays),
		deadletter.HeaderReplayOf: lineage(l),
		deadletter.HeaderReplays:  replays,
	}
	if identifier != "" {
		h[deadletter.HeaderIdentifier] = identifier
	}
	if parent := usage.Traceparent(func(string) string { return l.Traceparent }); parent != "" {
		h[usage.HeaderTraceparent] = parent
	}
	if seconds := timestampOf(l); seconds != 0 {
		h[deadletter.HeaderTimestamp] = strconv.FormatInt(seconds, 10)
	}
	// Nothing to forgive where nothing can have been counted.
	if allowed.AcceptDoubleBilling && (l.Outcome != deadletter.Refused || l.Reason == deadletter.Ambiguous) {
		h[deadletter.HeaderAcceptDoubleBilling] = "true"
	}
	return h
}

// lineage is the letter's number, and its message id where it has a plain one.
func lineage(l Letter) string {
	number := strconv.FormatUint(l.ID, 10)
	ids := l.Header[jetstream.MsgIDHeader]
	if len(ids) == 0 || ids[0] == "" || len(ids[0]) > 256 || strings.ContainsFunc(ids[0], func(r rune) bool { return r <= ' ' || r > '~' }) {
		return number
	}
	return number + " " + ids[0]
}

// timestampOf is the timestamp as resolved, in Unix seconds; 0 if it is not known.
// Where the worker could not read the message and this version can, it is fixed
// here: undated usage must not be dated by its replay.
func timestampOf(l Letter) int64 {
	if l.Timestamp != 0 {
		return l.Timestamp
	}
	event, err := usage.Parse(usage.Message{
		Subject: l.Subject, Body: l.Body, Sequence: l.Sequence, Epoch: l.Epoch, StoredAt: l.StoredAt,
	}, l.StoredAt)
	if err != nil {
		return 0
	}
	return event.Timestamp()
}

// headersOf is the header block as the client takes it.
func (p plan) headersOf() map[string][]string {
	block := make(map[string][]string, len(p.header))
	for name, value := range p.header {
		block[name] = []string{value}
	}
	return block
}
