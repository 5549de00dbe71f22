package usage

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func checkEventName(name value) *Refusal {
	const remedy = "; send the event_name of the meter"
	switch {
	case name.kind == kindAbsent:
		return refuse(InvalidEventName, "event_name is missing"+remedy)
	case name.kind != kindText:
		return refuse(InvalidEventName, "event_name is not a string"+remedy)
	}
	if flaw := flawOf(name.text, MaxEventName); flaw != "" {
		return refuse(InvalidEventName, "event_name "+flaw+remedy)
	}
	return nil
}

func checkIdentifier(identifier value) *Refusal {
	const remedy = "; send the same short text whenever the same usage is reported"
	if identifier.kind != kindText {
		return refuse(InvalidIdentifier, "identifier is not a string"+remedy)
	}
	if flaw := flawOf(identifier.text, MaxIdentifier); flaw != "" {
		return refuse(InvalidIdentifier, "identifier "+flaw+remedy)
	}
	return nil
}

// checkPayload refuses what no payload may hold. Whether customer and value are
// there is for their own rules, which have their own reasons.
func checkPayload(b body) *Refusal {
	switch {
	case b.payload == kindAbsent:
		return refuse(InvalidPayload, "payload is missing; send an object with stripe_customer_id and value")
	case b.payload != kindObject:
		return refuse(InvalidPayload, "payload is not an object; send one with stripe_customer_id and value")
	}
	for _, p := range b.pairs {
		if refusal := checkPair(p); refusal != nil {
			return refusal
		}
	}
	return nil
}

func checkPair(p pair) *Refusal {
	switch p.key {
	case valueKey:
		return nil
	case customerKey:
		return checkCustomer(p.value)
	}
	if flaw := flawOf(p.key, MaxDimension); flaw != "" {
		return refuse(InvalidPayload, "the payload key "+quote(p.key)+" "+flaw+"; rename it")
	}
	if strings.ContainsAny(p.key, "[]") {
		return refuse(InvalidPayload, "the payload key "+quote(p.key)+" has a bracket, which Stripe's form encoding gives another meaning; rename it")
	}
	flaw := ""
	switch {
	case p.value.kind > kindText || p.value.kind == kindNull:
		flaw = "is null, an array or an object"
	case p.value.text != "":
		flaw = flawOf(p.value.text, MaxDimension)
	}
	if flaw != "" {
		return refuse(InvalidPayload, "payload["+quote(p.key)+"] "+flaw+"; send a short string, a number or a boolean")
	}
	return nil
}

func checkCustomer(customer value) *Refusal {
	flaw := ""
	switch {
	case customer.kind != kindText:
		flaw = "is not a string"
	case customer.text != "":
		flaw = flawOf(customer.text, MaxDimension)
	}
	if flaw != "" {
		return refuse(InvalidPayload, "payload.stripe_customer_id "+flaw+"; send the id of the Stripe customer")
	}
	return nil
}

// flawOf says what keeps text from being 1 to limit characters without control
// characters, or "".
func flawOf(text string, limit int) string {
	switch {
	case text == "":
		return "is empty"
	case len(text) > limit && characters(text) > limit:
		return "has " + strconv.Itoa(characters(text)) + " characters, at most " + strconv.Itoa(limit) + " are taken"
	case !utf8.ValidString(text): // from a header or from New; a body was checked
		return "is not UTF-8"
	case strings.IndexFunc(text, unicode.IsControl) >= 0:
		return "has a control character"
	}
	return ""
}

// characters is the length in which the limits are stated.
func characters(s string) int { return utf8.RuneCountInString(s) }

// integer reads -?(0|[1-9][0-9]*) of at most 15 digits, as a number or a string.
// The canonical form differs for -0 only.
func integer(v value) (canonical string, units int64, ok bool) {
	if v.kind != kindNumber && v.kind != kindText || !isInteger(v.text) {
		return "", 0, false
	}
	if len(strings.TrimPrefix(v.text, "-")) > maxDigits {
		return "", 0, false
	}
	if v.text == "-0" {
		return "0", 0, true
	}
	units, err := strconv.ParseInt(v.text, 10, 64)
	return v.text, units, err == nil
}

func isInteger(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] == '0' && len(digits) > 1 {
		return false
	}
	for i := range len(digits) {
		if !digit(digits[i]) {
			return false
		}
	}
	return true
}

// resolveIdentifier returns the identifier for a message: the operator's header on a
// replay, the body's, the message id, or one made of the place in the stream.
func resolveIdentifier(m Message, b body) value {
	if isReplay(m.Subject) {
		header := m.header(HeaderIdentifier)
		// NATS trims white space around a header. An identifier that has some was
		// meant as it stands in the body: trimmed, it would be another one, and
		// billed again.
		trimmed := b.identifier.kind == kindText && header == strings.TrimSpace(b.identifier.text)
		if header != "" && !trimmed {
			return value{kindText, header}
		}
	}
	if b.identifier.kind != kindAbsent {
		return b.identifier
	}
	if id := m.header(headerMessageID); id != "" {
		return value{kindText, id}
	}
	return value{kindText, "mw-" + m.Epoch + "-" + strconv.FormatUint(m.Sequence, 10)}
}

// checkWindow compares whole seconds, the unit of timestamps.
func checkWindow(timestamp int64, now time.Time) *Refusal {
	switch {
	case timestamp < now.Add(-MaxAge).Unix():
		return refuse(TimestampTooFarInPast, "the timestamp is older than 35 days, and Stripe refuses such; send Unix seconds (or RFC 3339) of when the usage happened, or bill it by hand")
	case timestamp > now.Add(MaxAhead).Unix():
		return refuse(TimestampInFuture, "the timestamp is more than 5 minutes ahead; send Unix seconds, not milliseconds, and check the producer's clock")
	}
	return nil
}
