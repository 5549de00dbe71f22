package usage

import (
	"bytes"
	"encoding/json"
)

// schema is a JSON Schema (or a part of an AsyncAPI document). Maps are rendered
// with their keys sorted, so that the same source always gives the same bytes.
type schema = map[string]any

// textRule is a string of a bounded number of characters without control
// characters.
type textRule struct {
	least, most int
	but         string // further characters that are not allowed, as in a class of a regular expression
}

// The texts of an event. That nothing here differs from the parser is what the
// tests of this file are for.
var (
	eventNameRule  = textRule{least: 1, most: MaxEventName}
	identifierRule = textRule{least: 1, most: MaxIdentifier}
	customerRule   = textRule{least: 1, most: MaxDimension}
	keyRule        = textRule{least: 1, most: MaxDimension, but: `\[\]`}
	dimensionRule  = textRule{least: 0, most: MaxDimension}
)

const (
	// Go, Java, Python and ECMAScript read these patterns alike.
	integerPattern = `^-?(0|[1-9][0-9]{0,14})$`
	secondsPattern = `^-?(0|[1-9][0-9]*)$`
	rfc3339Pattern = `^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`

	maxUnits = 999_999_999_999_999 // 15 digits
)

func (r textRule) schema(description string) schema {
	s := schema{
		"type":      "string",
		"minLength": r.least,
		"maxLength": r.most,
		"pattern":   `^[^\x00-\x1f\x7f-\x9f` + r.but + `]*$`,
	}
	if description != "" {
		s["description"] = description
	}
	return s
}

// member is one key of an object.
type member struct {
	name     string
	required bool
	schema   schema
}

// members describes the body, key by key: the one source of [Schema] and
// [AsyncAPI].
func members() []member {
	return []member{
		{"event_name", true, eventNameRule.schema("Names the meter.")},
		{"identifier", false, identifierRule.schema("Unique for the event name and customer. Send the same one whenever the same usage is reported again: it is what keeps usage from being billed twice. Absent, it is the Nats-Msg-Id header; absent too, the message's place in the stream.")},
		{"timestamp", false, timestampSchema()},
		{"payload", true, payloadSchema()},
	}
}

func timestampSchema() schema {
	return schema{
		"description": "When the usage happened: Unix seconds, or RFC 3339 (a fraction is cut). At most 35 days ago and 5 minutes ahead. Absent, it is when the message was stored.",
		"anyOf": []schema{
			{"type": "integer"},
			{"type": "string", "pattern": secondsPattern},
			{"type": "string", "pattern": rfc3339Pattern},
		},
	}
}

func payloadSchema() schema {
	s := objectSchema([]member{
		{customerKey, true, customerRule.schema("The id of the Stripe customer.")},
		{valueKey, true, schema{
			"description": "Units: an integer of at most 15 digits. Negative takes back.",
			"anyOf": []schema{
				{"type": "integer", "minimum": -maxUnits, "maximum": maxUnits},
				{"type": "string", "pattern": integerPattern},
			},
		}},
	})
	s["description"] = "Customer, value and further dimensions."
	s["propertyNames"] = keyRule.schema("")
	s["additionalProperties"] = schema{
		"anyOf": []schema{dimensionRule.schema(""), {"type": "number"}, {"type": "boolean"}},
	}
	return s
}

func objectSchema(members []member) schema {
	properties, required := schema{}, []string{}
	for _, m := range members {
		properties[m.name] = m.schema
		if m.required {
			required = append(required, m.name)
		}
	}
	return schema{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func bodySchema() schema {
	s := objectSchema(members())
	s["title"] = "Usage event"
	s["description"] = "At most 65536 bytes of JSON in UTF-8, without a byte order mark and without a key that occurs twice."
	s["examples"] = []schema{example()}
	return s
}

func example() schema {
	return schema{
		"event_name": "api_calls",
		"identifier": "req-7f3a",
		"timestamp":  1760612775,
		"payload":    schema{customerKey: "cus_123", valueKey: 1024, "region": "eu"},
	}
}

// Schema returns the JSON Schema (2020-12) of the message body, indented, always
// the same bytes. What no schema can say is in its descriptions.
func Schema() []byte {
	s := bodySchema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return render(s)
}

func render(s schema) []byte {
	var rendered bytes.Buffer
	encoder := json.NewEncoder(&rendered)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		panic("usage: a schema of maps, strings and numbers cannot be rendered: " + err.Error())
	}
	return rendered.Bytes()
}
