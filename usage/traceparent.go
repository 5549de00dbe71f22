package usage

// HeaderTraceparent carries the W3C trace context of the request that the usage is of.
const HeaderTraceparent = "traceparent"

// traceparentForm is the shape of version 00: x is a lower-case hexadecimal digit.
const traceparentForm = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx"

// Traceparent is the message's trace context in the form of version 00, or "" where it
// has none or a malformed one. header is as in [Message]; the name as HTTP libraries
// write it is read too.
func Traceparent(header func(name string) string) string {
	text := header(HeaderTraceparent)
	if text == "" {
		text = header("Traceparent")
	}
	return wellFormed(text)
}

// wellFormed is the traceparent as it may be passed on. Of a version to come the part that
// this one knows is kept, and of the flags those that have a meaning (sampled, random), as
// W3C Trace Context asks: OpenTelemetry drops a version 00 with others.
func wellFormed(text string) string {
	const length = len(traceparentForm)
	if len(text) < length || text[:2] == "ff" || !formed(text[:length]) || allZero(text[3:35]) || allZero(text[36:52]) {
		return ""
	}
	if len(text) > length && (text[:2] == "00" || text[length] != '-') {
		return ""
	}
	if text[:2] == "00" && text[53] == '0' && text[54] <= '3' {
		return text
	}
	digit := text[54] - '0'
	if text[54] >= 'a' {
		digit = text[54] - 'a' + 10
	}
	known := digit & 3
	return "00" + text[2:53] + "0" + "0123"[known:known+1]
}

func formed(text string) bool {
	for i := range len(traceparentForm) {
		c := text[i]
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if (traceparentForm[i] == 'x') != digit || !digit && c != '-' {
			return false
		}
	}
	return true
}

func allZero(digits string) bool {
	for i := range len(digits) {
		if digits[i] != '0' {
			return false
		}
	}
	return true
}
