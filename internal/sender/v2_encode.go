package sender

import (
	"strings"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// What stands around the events of a batch.
const (
	opening2 = `{"events":[`
	closing2 = `]}`
)

// appendStreamEvent writes the event as the stream takes it: every value a string, the
// timestamp in RFC 3339.
func appendStreamEvent(b []byte, e usage.Event) []byte {
	b = appendJSON(append(b, `{"event_name":`...), e.EventName())
	b = appendJSON(append(b, `,"identifier":`...), e.Identifier())
	b = append(b, `,"timestamp":"`...)
	b = time.Unix(e.Timestamp(), 0).UTC().AppendFormat(b, time.RFC3339)
	b = append(b, `","payload":`...)
	separator := byte('{')
	for _, field := range e.Payload() {
		b = appendJSON(append(b, separator), field.Key)
		b = appendJSON(append(b, ':'), field.Value)
		separator = ','
	}
	return append(b, '}', '}')
}

// appendJSON writes a JSON string. A valid event's texts are UTF-8 without control
// characters, so that two characters need escaping.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			return append(append(b, s...), '"')
		}
		b = append(append(b, s[:i]...), '\\', s[i])
		s = s[i+1:]
	}
}
