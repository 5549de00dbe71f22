package usage_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/meterworker/meterworker/usage"
	"github.com/meterworker/meterworker/usage/usagetest"
)

// inexpressible are the rules that no JSON Schema can state: the cases in which a
// body is valid by the schema and yet refused. Every pattern must be needed.
var inexpressible = map[string]string{
	"bytes of the body":       `^64 KiB \+ 1$|^NATS's max payload$`,
	"UTF-8":                   `^(invalid|cut|overlong) UTF-8$|^surrogate in UTF-8$`,
	"halves of surrogates":    `surrogate`,
	"a key that occurs twice": `twice`,
	"the subject":             `subject|^customer encoded`,
	"the time window":         `^timestamp |^smuggled timestamp for an old event$|^replay with a timestamp for`,
	"the calendar":            `2025-02-30`,
	"headers":                 `^message id .* as identifier$|^replay with an`,
	"how a number is spelt":   `^value 1e3$|^value 1E3$|^value 1024\.0$|^timestamp \d+\.0$|^timestamp 1\.76e9$|^dimension of 101 digits$`,
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(usage.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("mem:///event.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("mem:///event.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestSchemaAgreesWithParse(t *testing.T) {
	schema := compiled(t)
	needed := map[string]bool{}
	for _, c := range append(usagetest.Cases(noon), usagetest.EdgeOfWindow(noon)...) {
		if len(c.Body) > 1<<20 {
			continue // slow to read, and refused for its size like those of 1 MiB
		}
		body, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Body))
		if err == nil {
			err = schema.Validate(body)
		}
		switch {
		case c.Reason == "" && err != nil:
			t.Errorf("%s: the schema refuses what Parse accepts: %v", c.Name, err)
		case c.Reason != "" && err == nil:
			rules := rulesNaming(c.Name)
			if len(rules) == 0 {
				t.Errorf("%s: the schema accepts what Parse refuses as %s", c.Name, c.Reason)
			}
			for _, rule := range rules {
				needed[rule] = true
			}
		}
	}
	for rule := range inexpressible {
		if !needed[rule] {
			t.Errorf("rule %q is listed as inexpressible, and no case needs it", rule)
		}
	}
}

func rulesNaming(name string) (rules []string) {
	for rule, pattern := range inexpressible {
		if regexp.MustCompile(pattern).MatchString(name) {
			rules = append(rules, rule)
		}
	}
	return rules
}

func TestSchemaIsAFixedDocument(t *testing.T) {
	for name, render := range map[string]func() []byte{"Schema": usage.Schema, "AsyncAPI": usage.AsyncAPI} {
		first := render()
		if !bytes.Equal(first, render()) {
			t.Errorf("%s: two renderings differ", name)
		}
		if !json.Valid(first) || !bytes.Contains(first, []byte("\n  \"")) || !bytes.HasSuffix(first, []byte("}\n")) {
			t.Errorf("%s: %.80q, want indented JSON with a newline at the end", name, first)
		}
	}
	if document := decoded(t, usage.Schema()); document["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", document["$schema"])
	}
}

func decoded(t *testing.T, document []byte) map[string]any {
	t.Helper()
	var into map[string]any
	if err := json.Unmarshal(document, &into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestAsyncAPISharesTheSchema(t *testing.T) {
	document := decoded(t, usage.AsyncAPI())
	if document["asyncapi"] != "3.0.0" {
		t.Errorf("asyncapi is %v", document["asyncapi"])
	}
	want := decoded(t, usage.Schema())
	delete(want, "$schema")
	if got := resolved(t, document, "#/components/schemas/usageEvent"); !reflect.DeepEqual(got, any(want)) {
		t.Error("the payload differs from Schema")
	}
	for address, channel := range map[string]string{"usage.events.{event_name}.{customer}": "events", "usage.replay.{event_name}.{customer}": "replay"} {
		if got := resolved(t, document, "#/channels/"+channel+"/address"); got != address {
			t.Errorf("channel %s has the address %v, want %s", channel, got, address)
		}
	}
}

func TestAsyncAPIReferencesResolve(t *testing.T) {
	document := decoded(t, usage.AsyncAPI())
	references := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			if path, ok := node["$ref"].(string); ok {
				references++
				resolved(t, document, path)
			}
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(document)
	if references == 0 {
		t.Error("the document has no references")
	}
}

func resolved(t *testing.T, document map[string]any, path string) any {
	t.Helper()
	var node any = document
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "#/"), "/") {
		object, _ := node.(map[string]any)
		child, found := object[name]
		if !found {
			t.Fatalf("%s leads nowhere at %q", path, name)
		}
		node = child
	}
	return node
}

// The example in the documents is an event.
func TestSchemaExample(t *testing.T) {
	example, err := json.Marshal(decoded(t, usage.Schema())["examples"].([]any)[0])
	if err != nil {
		t.Fatal(err)
	}
	m := message("usage.events.api_calls.cus_123", string(example))
	m.StoredAt = noon
	if _, err := usage.Parse(m, noon); err != nil {
		if refusal := refusalOf(t, err); refusal.Reason != usage.TimestampTooFarInPast {
			t.Errorf("%s is refused: %v", example, err)
		}
	}
}
