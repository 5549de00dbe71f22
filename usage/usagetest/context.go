package usagetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/meterworker/meterworker/usage"
)

func (b builder) timestamps() []Case {
	const old, ahead = usage.TimestampTooFarInPast, usage.TimestampInFuture
	at := func(d time.Duration) time.Time { return time.Unix(b.now.Unix(), 0).Add(d) }
	unix := func(d time.Duration) string { return fmt.Sprint(at(d).Unix()) }
	text := func(s string) string { return `"` + s + `"` }
	zone := time.FixedZone("", 5*3600+1800)
	cases := []Case{
		b.is("timestamp absent", event{timestamp: "-"}, deliverable),
		b.is("timestamp in a string", event{timestamp: text(unix(0))}, deliverable),
		b.is("timestamp in RFC 3339", event{timestamp: text(at(0).UTC().Format(time.RFC3339))}, deliverable),
		b.is("timestamp in RFC 3339 with a zone", event{timestamp: text(at(0).In(zone).Format(time.RFC3339))}, deliverable),
		b.is("timestamp in RFC 3339 with a fraction", event{timestamp: text(at(0).UTC().Format("2006-01-02T15:04:05.123456789999Z07:00"))}, deliverable),
		b.is("timestamp an hour short of 35 d", event{timestamp: unix(time.Hour - usage.MaxAge)}, deliverable),
		b.is("timestamp 35 d + 1 s old", event{timestamp: unix(-time.Second - usage.MaxAge)}, old),
		b.is("timestamp 299 s ahead", event{timestamp: unix(usage.MaxAhead - time.Second)}, deliverable),
		b.is("timestamp an hour ahead", event{timestamp: unix(time.Hour)}, ahead),
		b.is("timestamp 0", event{timestamp: "0"}, old),
		b.is("timestamp negative", event{timestamp: "-1"}, old),
		b.is("timestamp before 1970", event{timestamp: text("1969-12-31T23:59:59Z")}, old),
		b.is("timestamp in milliseconds", event{timestamp: fmt.Sprint(b.now.UnixMilli())}, ahead),
		b.is("timestamp in milliseconds, in a string", event{timestamp: text(fmt.Sprint(b.now.UnixMilli()))}, ahead),
		b.is("timestamp in the year 9999", event{timestamp: text("9999-12-31T23:59:59Z")}, ahead),
		b.is("timestamp of 40 digits", event{timestamp: strings.Repeat("9", 40)}, ahead),
		b.is("timestamp of 40 digits, negative", event{timestamp: "-" + strings.Repeat("9", 40)}, old),
		// 2^64 + now: would be now again if it wrapped.
		b.is("timestamp that overflows", event{timestamp: overflowing(b.now)}, ahead),
		b.is("timestamp old, subject wrong", event{timestamp: "0", customer: `"cus_other"`}, old),
	}
	for _, raw := range []string{
		"null", "true", "[]", "{}", unix(0) + ".5", unix(0) + ".0", "1.76e9",
		`""`, `"now"`, `"yesterday"`, `" 1760612775"`, `"+1760612775"`, `"01760612775"`, `"1760612775.5"`, `"1_760_612_775"`, `"0x68f0d3a7"`,
		`"2025-10-16"`, `"2025-10-16T10:00:00"`, `"2025-10-16 10:00:00Z"`, `"2025-10-16T1:00:00Z"`, `"2025-10-16T10:00:00,5Z"`, `"2025-10-16T10:00:00.Z"`,
		`"2025-10-16T10:00:00+24:00"`, `"2025-10-16T10:00:00+01:60"`, `"2025-10-16T10:00:00+0100"`, `"2025-13-16T10:00:00Z"`, `"2025-02-30T10:00:00Z"`,
		`"2025-10-16T24:00:00Z"`, `"10000-01-01T00:00:00Z"`, `"2025-10-16T10:00:00Z\n"`, `"Thu, 16 Oct 2025 10:00:00 GMT"`,
	} {
		cases = append(cases, b.is("timestamp "+raw, event{timestamp: raw}, usage.Undecodable))
	}
	return cases
}

// EdgeOfWindow returns messages on the last second of the time window, and one
// second past it. Time must stand still at now to read them.
func EdgeOfWindow(now time.Time) []Case {
	b := builder{now: now}
	at := func(name string, d time.Duration, reason usage.Reason) Case {
		return b.is(name, event{timestamp: fmt.Sprint(now.Add(d).Unix())}, reason)
	}
	return []Case{
		at("timestamp a second short of 35 d", time.Second-usage.MaxAge, deliverable),
		at("timestamp 35 d old", -usage.MaxAge, deliverable),
		at("timestamp a second older than 35 d", -usage.MaxAge-time.Second, usage.TimestampTooFarInPast),
		at("timestamp 300 s ahead", usage.MaxAhead, deliverable),
		at("timestamp 301 s ahead", usage.MaxAhead+time.Second, usage.TimestampInFuture),
	}
}

func overflowing(now time.Time) string {
	const high, low = 18446744073, 709551616 // 2^64 in two parts, billions and the rest
	sum := low + now.Unix()
	return fmt.Sprintf("%d%09d", high+sum/1_000_000_000, sum%1_000_000_000)
}

func (b builder) subjects() []Case {
	const bad = usage.SubjectMismatch
	return []Case{
		b.on("usage.events.storage.cus_123", "subject of another meter", event{}, bad),
		b.on("usage.events.api_calls.cus_999", "subject of another customer", event{}, bad),
		b.on("usage.events.api_call.cus_123", "subject of a prefix of the event name", event{}, bad),
		b.on("usage.events.api_calls.cus_1234", "subject longer than the customer", event{}, bad),
		b.on("usage.events.API_CALLS.cus_123", "subject in another case", event{}, bad),
		b.on("usage.events.cus_123.api_calls", "subject the wrong way round", event{}, bad),
		b.on("usage.events.api=5Fcalls.cus_123", "subject encoded where it need not be", event{}, bad),
		b.on("usage.events.api=2ecalls.cus_123", "subject encoded in lower case", event{name: `"api.calls"`}, bad),
		b.on("usage.events.api%2Ecalls.cus_123", "subject encoded as in URLs", event{name: `"api.calls"`}, bad),
		b.on("usage.replay.storage.cus_123", "replay on the subject of another meter", event{}, bad),
	}
}

func (b builder) headers() []Case {
	return []Case{
		b.with(header("Nats-Msg-Id", b.identifier("message id")), "message id is the identifier", event{identifier: "-"}, deliverable),
		b.with(header("Nats-Msg-Id", b.identifier("another")), "message id differs from the identifier", event{}, deliverable),
		b.with(header("Nats-Msg-Id", strings.Repeat("i", 256)), "message id of 256 characters as identifier", event{identifier: "-"}, usage.InvalidIdentifier),
		b.with(header("Nats-Msg-Id", strings.Repeat("j", 256)), "message id of 256 characters beside an identifier", event{}, deliverable),
		b.with(header("Nats-Msg-Id", "\x1b[31mred"), "message id with an escape code as identifier", event{identifier: "-"}, usage.InvalidIdentifier),
		b.with(header("Nats-Msg-Id", "\xff\xfe"), "message id that is not UTF-8 as identifier", event{identifier: "-"}, usage.InvalidIdentifier),
		b.with(header("Nats-Msg-Id", b.identifier("null")), "message id beside an identifier that is null", event{identifier: "null"}, usage.InvalidIdentifier),
		b.with(header("X-Note", "\x1b]0;title\x07\x1b[2J"), "headers with escape codes", event{}, deliverable),
		// The client would take these for the server's own words, did it look at headers only.
		{Name: "no body, and a status like a server's", Subject: subject, Headers: map[string][]string{"Status": {"409"}, "Description": {"Consumer Deleted"}}, Reason: string(usage.Undecodable)},
		b.with(map[string][]string{"Status": {"404"}, "Nats-Pin-Id": {"another"}}, "a status like a server's", event{}, deliverable),
		b.with(thousandHeaders(), "1,000 headers", event{}, deliverable),
		b.with(fullHeaders(), "64 KiB of headers", event{}, deliverable),
		b.with(header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), "trace context", event{}, deliverable),
		b.with(header(usage.HeaderIdentifier, ""), "smuggled identifier, empty", event{}, deliverable),
		b.with(header(usage.HeaderIdentifier, "smuggled"), "smuggled identifier", event{}, deliverable),
		b.with(header(usage.HeaderIdentifier, strings.Repeat("i", 256)), "smuggled identifier of 256 characters", event{}, deliverable),
		b.with(header(usage.HeaderTimestamp, "0"), "smuggled timestamp", event{}, deliverable),
		b.with(header(usage.HeaderTimestamp, fmt.Sprint(b.now.Unix())), "smuggled timestamp for an old event", event{timestamp: "0"}, usage.TimestampTooFarInPast),
		b.with(header("Meterworker-Accept-Double-Billing", "true"), "smuggled permission to bill twice", event{}, deliverable),
		b.with(header("Meterworker-Replay-Of", "1"), "smuggled lineage", event{}, deliverable),
	}
}

func (b builder) replays() []Case {
	on := func(headers map[string][]string, name string, e event, reason usage.Reason) Case {
		c := b.with(headers, name, e, reason)
		c.Subject = "usage.replay.api_calls.cus_123"
		return c
	}
	seconds := fmt.Sprint(b.now.Unix())
	return []Case{
		on(nil, "replay without headers", event{}, deliverable),
		on(header(usage.HeaderIdentifier, b.identifier("replay")+"~r1"), "replay with an identifier", event{}, deliverable),
		on(header(usage.HeaderIdentifier, b.identifier("replay")), "replay with an identifier that the body lacks", event{identifier: "-"}, deliverable),
		on(header(usage.HeaderIdentifier, strings.Repeat("i", 256)), "replay with an identifier of 256 characters", event{}, usage.InvalidIdentifier),
		on(header(usage.HeaderIdentifier, "\x1b[31m"), "replay with an identifier of an escape code", event{}, usage.InvalidIdentifier),
		on(header(usage.HeaderTimestamp, seconds), "replay with a timestamp", event{timestamp: "-"}, deliverable),
		on(header(usage.HeaderTimestamp, seconds), "replay with a timestamp for an old event", event{timestamp: "0"}, deliverable),
		on(header(usage.HeaderTimestamp, b.now.UTC().Format(time.RFC3339Nano)), "replay with a timestamp in RFC 3339", event{}, deliverable),
		on(header(usage.HeaderTimestamp, "0"), "replay with an old timestamp", event{}, usage.TimestampTooFarInPast),
		on(header(usage.HeaderTimestamp, "soon"), "replay with an unreadable timestamp", event{}, usage.Undecodable),
	}
}

func header(name, value string) map[string][]string { return map[string][]string{name: {value}} }

func thousandHeaders() map[string][]string {
	h := map[string][]string{}
	for i := range 1000 {
		h[fmt.Sprintf("X-%d", i)] = []string{"v"}
	}
	return h
}

// fullHeaders is as much as JetStream takes (65,535 bytes with the framing), less
// some for a message id.
func fullHeaders() map[string][]string {
	return map[string][]string{"X-Long": {strings.Repeat("h", 63<<10)}}
}
