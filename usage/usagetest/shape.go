package usagetest

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/meterworker/meterworker/usage"
)

func (b builder) notEvents() []Case {
	valid := string(b.body("not an event", event{}))
	return []Case{
		raw("empty body", "", usage.Undecodable),
		raw("white space", " \r\n\t", usage.Undecodable),
		raw("null", "null", usage.Undecodable),
		raw("array", "[]", usage.Undecodable),
		raw("array of an event", "["+valid+"]", usage.Undecodable),
		raw("string", `"api_calls"`, usage.Undecodable),
		raw("number", "1024", usage.Undecodable),
		raw("empty object", "{}", usage.InvalidEventName),
		raw("text", "api_calls 1024", usage.Undecodable),
		raw("form", "event_name=api_calls&payload[value]=1024", usage.Undecodable),
		raw("cut JSON", valid[:len(valid)-1], usage.Undecodable),
		raw("cut in a string", valid[:6], usage.Undecodable),
		raw("trailing data", valid+"x", usage.Undecodable),
		raw("trailing NUL", valid+"\x00", usage.Undecodable),
		raw("two objects", valid+valid, usage.Undecodable),
		raw("two lines", valid+"\n"+valid, usage.Undecodable),
		raw("trailing comma", strings.TrimSuffix(valid, "}")+",}", usage.Undecodable),
		raw("leading comma", "{,"+valid[1:], usage.Undecodable),
		raw("missing comma", strings.Replace(valid, `,"payload"`, ` "payload"`, 1), usage.Undecodable),
		raw("missing colon", strings.Replace(valid, `"payload":`, `"payload" `, 1), usage.Undecodable),
		raw("single quotes", strings.ReplaceAll(valid, `"`, `'`), usage.Undecodable),
		raw("bare key", strings.Replace(valid, `"payload"`, `payload`, 1), usage.Undecodable),
		raw("comment", "/* usage */"+valid, usage.Undecodable),
		raw("byte order mark", "\ufeff"+valid, usage.Undecodable),
		raw("UTF-16 little endian", encoded(valid, false), usage.Undecodable),
		raw("UTF-16 big endian", encoded(valid, true), usage.Undecodable),
		raw("UTF-16 without a mark", encoded(valid, false)[2:], usage.Undecodable),
		b.is("white space around tokens", event{value: " \t\r\n1024 "}, deliverable),
	}
}

// encoded is s in UTF-16 with a byte order mark.
func encoded(s string, big bool) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + s)) {
		pair := []byte{byte(unit), byte(unit >> 8)}
		if big {
			slices.Reverse(pair)
		}
		out = append(out, pair...)
	}
	return string(out)
}

func (b builder) escapes() []Case {
	const name = `"region":`
	return []Case{
		b.is("every escape", event{more: `"note":"\"\\\/"`}, deliverable),
		b.is("escaped letter", event{name: `"\u0061pi_calls"`}, deliverable),
		b.is("escaped pair of surrogates", event{more: name + `"\ud83d\ude00"`}, deliverable),
		b.is("lone high surrogate", event{more: name + `"\ud83d"`}, usage.Undecodable),
		b.is("lone low surrogate", event{more: name + `"\ude00"`}, usage.Undecodable),
		b.is("surrogates the wrong way round", event{more: name + `"\ude00\ud83d"`}, usage.Undecodable),
		b.is("high surrogate before a letter", event{more: name + `"\ud83d\u0061"`}, usage.Undecodable),
		b.is("lone surrogate in a key", event{more: `"\ud83d":1`}, usage.Undecodable),
		b.is("lone surrogate in the identifier", event{identifier: `"\udfff"`}, usage.Undecodable),
		b.is("unknown escape", event{more: name + `"\x41"`}, usage.Undecodable),
		b.is("upper-case escape", event{more: name + `"\U0041"`}, usage.Undecodable),
		b.is("cut escape", event{more: name + `"\u00"`}, usage.Undecodable),
		b.is("escape that is not hexadecimal", event{more: name + `"\u00g1"`}, usage.Undecodable),
		b.is("escape with a sign", event{more: name + `"\u+041"`}, usage.Undecodable),
		b.is("raw newline in a string", event{more: name + "\"a\nb\""}, usage.Undecodable),
		b.is("raw NUL in a string", event{more: name + "\"a\x00b\""}, usage.Undecodable),
		b.is("raw escape code in a string", event{more: name + "\"\x1b[31m\""}, usage.Undecodable),
		b.is("invalid UTF-8", event{more: name + "\"\xff\""}, usage.Undecodable),
		b.is("cut UTF-8", event{more: name + "\"\xe2\x82\""}, usage.Undecodable),
		b.is("overlong UTF-8", event{more: name + "\"\xc0\xaf\""}, usage.Undecodable),
		b.is("surrogate in UTF-8", event{more: name + "\"\xed\xa0\x80\""}, usage.Undecodable),
		b.is("other planes", event{more: name + `"日本 😀"`}, deliverable),
	}
}

func (b builder) sizes() []Case {
	pad := func(name string, size int) string {
		body := b.body(name, event{})
		return string(body) + strings.Repeat(" ", size-len(body))
	}
	nested := func(levels int) event {
		return event{more: `"deep":` + strings.Repeat("[", levels) + strings.Repeat("]", levels)}
	}
	return []Case{
		raw("64 KiB", pad("64 KiB", usage.MaxBody), deliverable),
		raw("64 KiB + 1", pad("64 KiB + 1", usage.MaxBody+1), usage.TooLarge),
		raw("64 KiB + 1 of something else", strings.Repeat("x", usage.MaxBody+1), usage.TooLarge),
		raw("NATS's max payload", pad("NATS's max payload", 1<<20), usage.TooLarge),
		b.is("a million keys", event{more: manyKeys(1_000_000)}, usage.TooLarge),
		b.is("a thousand keys", event{more: manyKeys(1_000)}, deliverable),
		b.is("8 levels deep", nested(6), usage.InvalidPayload),
		b.is("9 levels deep", nested(7), usage.Undecodable),
		b.is("10,000 levels deep", nested(10_000), usage.Undecodable),
		raw("10,000 objects deep", strings.Repeat(`{"payload":`, 5_000), usage.Undecodable),
	}
}

func manyKeys(n int) string {
	var pairs []byte
	for i := range n {
		pairs = fmt.Appendf(pairs, `"%d":1,`, i)
	}
	return strings.TrimSuffix(string(pairs), ",")
}

func (b builder) keys() []Case {
	valid := string(b.body("keys", event{}))
	with := func(members string) string { return "{" + members + "," + valid[1:] }
	return []Case{
		raw("event_name twice", with(`"event_name":"api_calls"`), usage.Undecodable),
		raw("identifier twice", with(`"identifier":"a"`), usage.Undecodable),
		raw("timestamp twice", with(`"timestamp":1`), usage.Undecodable),
		raw("payload twice", with(`"payload":{"value":1}`), usage.Undecodable),
		raw("identifier twice, one escaped", with(`"\u0069dentifier":"a"`), usage.Undecodable),
		raw("identifier twice, one null", with(`"identifier":null`), usage.Undecodable),
		raw("identifier misspelt", strings.Replace(valid, "identifier", "identifer", 1), usage.Undecodable),
		raw("identifier in upper case", strings.Replace(valid, "identifier", "Identifier", 1), usage.Undecodable),
		raw("keys differing in case", with(`"Identifier":"a"`), usage.Undecodable),
		raw("unknown key", with(`"livemode":true`), usage.Undecodable),
		raw("empty key", with(`"":1`), usage.Undecodable),
		b.is("value twice", event{more: `"value":1`}, usage.Undecodable),
		b.is("customer twice", event{more: `"stripe_customer_id":"cus_1"`}, usage.Undecodable),
		b.is("dimension twice", event{more: `"a":1,"b":2,"a":1`}, usage.Undecodable),
		b.is("value twice, one escaped", event{more: `"\u0076alue":1`}, usage.Undecodable),
		b.is("dimensions differing in case", event{more: `"region":1,"Region":2,"Value":3`}, deliverable),
	}
}
