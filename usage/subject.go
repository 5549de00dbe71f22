package usage

import (
	"errors"
	"strings"
)

const (
	eventsPrefix = "usage.events."
	replayPrefix = "usage.replay."
	hexDigits    = "0123456789ABCDEF"
)

var errToken = errors.New("usage: not the encoding of a subject token")

// EventsSubject returns the subject on which producers publish events of this
// event name and customer.
func EventsSubject(eventName, customer string) string {
	return eventsPrefix + EncodeToken(eventName) + "." + EncodeToken(customer)
}

// ReplaySubject returns the subject on which operators publish such an event
// again. Only on it do the Meterworker-* headers count.
func ReplaySubject(eventName, customer string) string {
	return replayPrefix + EncodeToken(eventName) + "." + EncodeToken(customer)
}

// EncodeToken writes s as one token of a subject: every byte outside
// [A-Za-z0-9_-] becomes =XX, in upper-case hexadecimal. The empty string has no
// encoding that NATS would take; no valid event needs one.
func EncodeToken(s string) string {
	escapes := 0
	for i := range len(s) {
		if !plain(s[i]) {
			escapes++
		}
	}
	if escapes == 0 {
		return s
	}
	token := make([]byte, 0, len(s)+2*escapes)
	for i := range len(s) {
		token = appendByte(token, s[i])
	}
	return string(token)
}

// DecodeToken is the inverse of [EncodeToken]. It refuses everything that
// EncodeToken does not write, so that one customer has one subject.
func DecodeToken(s string) (string, error) {
	if !strings.Contains(s, "=") {
		if !allPlain(s) {
			return "", errToken
		}
		return s, nil
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '=' {
			if i+2 >= len(s) {
				return "", errToken
			}
			high, low := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			c = byte(high<<4 | low)
			if high < 0 || low < 0 || plain(c) {
				return "", errToken
			}
			i += 2
		} else if !plain(c) {
			return "", errToken
		}
		decoded = append(decoded, c)
	}
	return string(decoded), nil
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func allPlain(s string) bool {
	for i := range len(s) {
		if !plain(s[i]) {
			return false
		}
	}
	return true
}

func appendByte(token []byte, c byte) []byte {
	if plain(c) {
		return append(token, c)
	}
	return append(token, '=', hexDigits[c>>4], hexDigits[c&15])
}

// encodes reports whether token is EncodeToken(s), without building it: it runs
// once for every message.
func encodes(token, s string) bool {
	for i := range len(s) {
		var room [3]byte
		want := appendByte(room[:0], s[i])
		if len(token) < len(want) || token[:len(want)] != string(want) {
			return false
		}
		token = token[len(want):]
	}
	return token == ""
}

// isReplay reports whether subject is usage.replay.*.*.
func isReplay(subject string) bool {
	return strings.HasPrefix(subject, replayPrefix) && strings.Count(subject, ".") == 3
}

// checkSubject refuses a subject that is not the event's own, on either branch.
func checkSubject(subject, eventName, customer string) *Refusal {
	rest, found := strings.CutPrefix(subject, eventsPrefix)
	if !found {
		rest, found = strings.CutPrefix(subject, replayPrefix)
	}
	name, owner, two := strings.Cut(rest, ".")
	switch {
	case !found || !two:
		return refuse(SubjectMismatch, "the subject is not usage.events.<event_name>.<customer>; publish on that one")
	case !encodes(name, eventName):
		return refuse(SubjectMismatch, "the subject names another event name than the body; "+subjectRemedy)
	case !encodes(owner, customer):
		return refuse(SubjectMismatch, "the subject names another customer than payload.stripe_customer_id; "+subjectRemedy)
	}
	return nil
}

const subjectRemedy = "publish on usage.events.<event_name>.<customer> with every byte outside A-Z, a-z, 0-9, _ and - written =XX in upper-case hexadecimal"
