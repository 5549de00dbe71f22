package usage

import (
	"strconv"
	"strings"
	"time"
)

// moment is a message's timestamp, in Unix seconds.
type moment struct {
	resolved  int64 // what is billed
	published int64 // what the body says; see dated
	dated     bool  // whether the body says anything
}

// resolveTimestamp reads the body's timestamp, which a replay's header replaces
// and the store time stands in for.
func resolveTimestamp(m Message, b body) (moment, *Refusal) {
	when := moment{resolved: m.StoredAt.Unix()}
	if b.timestamp.kind != kindAbsent {
		seconds, ok := readTimestamp(b.timestamp)
		if !ok {
			return moment{}, refuse(Undecodable, "timestamp cannot be read; send Unix seconds as an integer, or an RFC 3339 string, or leave it out")
		}
		when = moment{resolved: seconds, published: seconds, dated: true}
	}
	if !isReplay(m.Subject) {
		return when, nil
	}
	if header := m.header(HeaderTimestamp); header != "" {
		seconds, ok := readTimestamp(value{kindText, header})
		if !ok {
			return moment{}, refuse(Undecodable, "header "+HeaderTimestamp+" cannot be read; send Unix seconds as an integer, or RFC 3339")
		}
		when.resolved = seconds
	}
	return when, nil
}

// readTimestamp reads Unix seconds, as a number or a string, or RFC 3339, cut
// downward to seconds.
func readTimestamp(v value) (seconds int64, ok bool) {
	if v.kind != kindNumber && v.kind != kindText {
		return 0, false
	}
	if isInteger(v.text) {
		return saturated(v.text), true
	}
	if v.kind != kindText || !isRFC3339(v.text) {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339, v.text)
	return t.Unix(), err == nil
}

// saturated reads an integer of any length. For one that overflows ParseInt
// returns the end of the range, far outside of the time window; wrapped, it could
// lie within.
func saturated(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// isRFC3339 checks the shape, where time.Parse is lenient: it takes a comma for
// the fraction, hours of one digit and offsets of 99 hours.
func isRFC3339(s string) bool {
	const date = "dddd-dd-ddTdd:dd:dd"
	if len(s) <= len(date) || !shaped(s[:len(date)], date) {
		return false
	}
	zone := s[len(date):]
	if zone[0] == '.' {
		digits := zone[1:]
		zone = strings.TrimLeft(digits, "0123456789")
		if len(zone) == len(digits) {
			return false
		}
	}
	return zone == "Z" ||
		(shaped(zone, "+dd:dd") || shaped(zone, "-dd:dd")) && zone[1:3] < "24" && zone[4:6] < "60"
}

// shaped compares s with a pattern in which d is any digit.
func shaped(s, pattern string) bool {
	if len(s) != len(pattern) {
		return false
	}
	for i := range len(s) {
		if pattern[i] == 'd' && !digit(s[i]) || pattern[i] != 'd' && s[i] != pattern[i] {
			return false
		}
	}
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
