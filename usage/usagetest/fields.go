package usagetest

import (
	"strings"

	"github.com/meterworker/meterworker/usage"
)

func (b builder) eventNames() []Case {
	const bad = usage.InvalidEventName
	long := strings.Repeat("n", usage.MaxEventName)
	return []Case{
		b.is("event name missing", event{name: "-"}, bad),
		b.is("event name null", event{name: "null"}, bad),
		b.is("event name a number", event{name: "1"}, bad),
		b.is("event name an object", event{name: `{"a":1,"a":2}`}, bad),
		b.is("event name empty", event{name: `""`}, bad),
		b.is("event name with NUL", event{name: `"api\u0000calls"`}, bad),
		b.is("event name with a newline", event{name: `"api_calls\n"`}, bad),
		b.is("event name with a C1 control", event{name: `"api\u0085calls"`}, bad),
		b.on("usage.events."+long+".cus_123", "event name of 100 characters", event{name: `"` + long + `"`}, deliverable),
		b.is("event name of 101 characters", event{name: characters(usage.MaxEventName+1, "n")}, bad),
		b.on("usage.events."+strings.Repeat("=C3=A9", usage.MaxEventName)+".cus_123",
			"event name of 100 two-byte characters", event{name: characters(usage.MaxEventName, "é")}, deliverable),
		b.is("event name of 101 two-byte characters", event{name: characters(usage.MaxEventName+1, "é")}, bad),
		b.on("usage.events.api=2Ecalls=20v2.cus_123", "event name with dots and spaces", event{name: `"api.calls v2"`}, deliverable),
		b.on("usage.events.=2A=3E.cus_123", "event name of wildcards", event{name: `"*>"`}, deliverable),
		b.is("event name and identifier at fault", event{name: `""`, identifier: `""`}, bad),
	}
}

func (b builder) identifiers() []Case {
	const bad = usage.InvalidIdentifier
	unique := b.identifier("identifier")
	fill := func(n int) string { return `"` + unique + strings.Repeat("i", n-len(unique)) + `"` }
	return []Case{
		b.is("identifier absent", event{identifier: "-"}, deliverable),
		b.is("identifier null", event{identifier: "null"}, bad),
		b.is("identifier a number", event{identifier: "7"}, bad),
		b.is("identifier an array", event{identifier: `["a"]`}, bad),
		b.is("identifier of 0 characters", event{identifier: `""`}, bad),
		b.is("identifier of 1 character", event{identifier: `"` + string('一'+rune(b.now.Unix()%20_000)) + `"`}, deliverable),
		b.is("identifier of 100 characters", event{identifier: fill(100)}, deliverable),
		b.is("identifier of 101 characters", event{identifier: fill(101)}, deliverable),
		b.is("identifier of 255 characters", event{identifier: fill(usage.MaxIdentifier)}, deliverable),
		b.is("identifier of 256 characters", event{identifier: fill(usage.MaxIdentifier + 1)}, bad),
		b.is("identifier of 255 two-byte characters", event{identifier: `"` + unique + strings.Repeat("é", usage.MaxIdentifier-len(unique)) + `"`}, deliverable),
		b.is("identifier of 10,000 characters", event{identifier: fill(10_000)}, bad),
		b.is("identifier of 1,000,000 characters", event{identifier: fill(1_000_000)}, usage.TooLarge),
		b.is("identifier with NUL", event{identifier: `"a\u0000b"`}, bad),
		b.is("identifier with CR LF", event{identifier: `"a\r\nNats-Rollup: all"`}, bad),
		b.is("identifier with an escape code", event{identifier: `"\u001b[31m"`}, bad),
		b.is("identifier with DEL", event{identifier: "\"a\x7f\""}, bad),
		b.is("identifier with a C1 control", event{identifier: `"a\u009b"`}, bad),
		b.is("identifier with wildcards and dots", event{identifier: `"` + unique + `.*.>"`}, deliverable),
		b.is("identifier composed", event{identifier: `"` + unique + " caf\u00e9\""}, deliverable),
		b.is("identifier decomposed", event{identifier: `"` + unique + " cafe\u0301\""}, deliverable),
		b.is("identifier without a trailing space", event{identifier: `"` + unique + `"`}, deliverable),
		b.is("identifier with a trailing space", event{identifier: `"` + unique + ` "`}, deliverable),
		b.is("identifier with a leading space", event{identifier: `" ` + unique + `"`}, deliverable),
		b.is("identifier with brackets and quotes", event{identifier: `"` + unique + ` [\"\\]&="`}, deliverable),
		b.is("identifier and payload at fault", event{identifier: `""`, customer: "7"}, bad),
	}
}

func (b builder) customers() []Case {
	const bad = usage.InvalidPayload
	at := func(token string) string { return "usage.events.api_calls." + token }
	return []Case{
		b.is("customer missing", event{customer: "-"}, usage.NoCustomer),
		b.is("customer empty", event{customer: `""`}, usage.NoCustomer),
		b.is("customer null", event{customer: "null"}, bad),
		b.is("customer a number", event{customer: "123"}, bad),
		b.is("customer a boolean", event{customer: "true"}, bad),
		b.is("customer an object", event{customer: "{}"}, bad),
		b.is("customer with a newline", event{customer: `"cus_123\n"`}, bad),
		b.is("customer of 101 characters", event{customer: characters(101, "c")}, bad),
		b.on(at(strings.Repeat("c", 100)), "customer of 100 characters", event{customer: characters(100, "c")}, deliverable),
		b.on(at("cus=5Fx"), "customer encoded where it need not be", event{customer: `"cus_x"`}, usage.SubjectMismatch),
		b.on(at("cus_x=26payload=5Bvalue=5D=3D999999"), "customer that smuggles a value",
			event{customer: `"cus_x&payload[value]=999999"`}, deliverable),
		b.on(at("=2E=2E=2F"), "customer that climbs", event{customer: `"../"`}, deliverable),
		b.is("customer and value at fault", event{customer: "-", value: "-"}, usage.NoCustomer),
	}
}

func (b builder) values() []Case {
	cases := []Case{b.is("value missing", event{value: "-"}, usage.InvalidValue)}
	add := func(reason usage.Reason, raws ...string) {
		for _, raw := range raws {
			cases = append(cases, b.is("value "+raw, event{value: raw}, reason))
		}
	}
	add(deliverable, "0", "-0", "1", "-5", `"0"`, `"-0"`, `"1024"`, `"-5"`, "999999999999999", "-999999999999999", `"999999999999999"`, `"\u0031"`)
	add(usage.InvalidValue, "9007199254740993", `"9007199254740993"`, "1000000000000000", "-1000000000000000",
		strings.Repeat("9", 40), `"`+strings.Repeat("9", 40)+`"`, "1e309", "1e3", "1E3", "-1e-3", `"1e3"`,
		"1024.5", "1024.0", `"1024.5"`, `"1024.0"`, `"0x10"`, `"1_000"`, `"1,000"`, `" 1"`, `"1 "`, `"+1"`, `"01"`, `"-01"`, `"--1"`, `"-"`,
		`""`, `"NaN"`, `"Infinity"`, `"１"`, `"1\u0000"`, "true", "false", "null", "[1]", "{}")
	add(usage.Undecodable, "NaN", "Infinity", " -", "+1", "01", "-01", "0x10", "1_000", ".5", "1.", "1e", "1e+", "tru", "nil", "--1")
	return cases
}

func (b builder) dimensions() []Case {
	const bad = usage.InvalidPayload
	payload := func(name, raw string) Case {
		body := `{"event_name":"api_calls","payload":` + raw + `}`
		return Case{Name: name, Subject: subject, Body: []byte(body), Reason: string(bad)}
	}
	return []Case{
		raw("payload missing", `{"event_name":"api_calls"}`, bad),
		payload("payload null", "null"), payload("payload an array", "[]"),
		payload("payload a string", `"cus_123"`), payload("payload a number", "1"),
		b.is("payload without anything else", event{}, deliverable),
		b.is("dimension a string", event{more: `"region":"eu"`}, deliverable),
		b.is("dimension empty", event{more: `"region":""`}, deliverable),
		b.is("dimensions numbers and booleans", event{more: `"a":1.50,"b":-1e9,"c":true,"d":false`}, deliverable),
		b.is("dimension null", event{more: `"region":null`}, bad),
		b.is("dimension an object", event{more: `"region":{"a":1}`}, bad),
		b.is("dimension an array", event{more: `"region":[]`}, bad),
		b.is("dimension of 100 characters", event{more: `"region":` + characters(100, "é")}, deliverable),
		b.is("dimension of 101 characters", event{more: `"region":` + characters(101, "é")}, bad),
		b.is("dimension of 100 digits", event{more: `"region":` + strings.Repeat("9", 100)}, deliverable),
		b.is("dimension of 101 digits", event{more: `"region":` + strings.Repeat("9", 101)}, bad),
		b.is("dimension with a newline", event{more: `"region":"a\nb"`}, bad),
		b.is("dimension key empty", event{more: `"":"a"`}, bad),
		b.is("dimension key of 100 characters", event{more: characters(100, "k") + ":1"}, deliverable),
		b.is("dimension key of 101 characters", event{more: characters(101, "k") + ":1"}, bad),
		b.is("dimension key with an opening bracket", event{more: `"payload[value":1`}, bad),
		b.is("dimension key with a closing bracket", event{more: `"a]":1`}, bad),
		b.is("dimension key with a newline", event{more: `"a\nb":1`}, bad),
		b.is("dimension key with a bracket, no customer", event{customer: "-", more: `"a]":1`}, bad),
		b.is("dimension with form characters", event{more: `"a&b=c":"d&payload[value]=9"`}, deliverable),
		b.is("dimension named like a header", event{more: `"identifier":"x","timestamp":1`}, deliverable),
	}
}
