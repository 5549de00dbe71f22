package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Change is one field of a body that was edited, as JSON; "" where there is none.
type Change struct{ Field, From, To string }

// Assign sets fields (`payload.value=3`) in a copy of a JSON object, and takes others out.
// Fields are event_name, identifier, timestamp and payload.<key>. A body that is no object is
// replaced by one with what is set.
func Assign(body []byte, set, unset []string) ([]byte, error) {
	object, err := objectOf(body)
	if err != nil {
		object = map[string]any{}
	}
	for _, assignment := range set {
		field, text, found := strings.Cut(assignment, "=")
		if !found {
			return nil, fmt.Errorf("%q is no assignment; write field=value, as in payload.value=3", assignment)
		}
		if err := put(object, field, valueFor(field, text)); err != nil {
			return nil, err
		}
	}
	for _, field := range unset {
		if err := put(object, field, nil); err != nil {
			return nil, err
		}
	}
	return encoded(object)
}

var integerPattern = regexp.MustCompile(`^(-?[1-9][0-9]{0,17}|0)$`)

// valueFor writes counts and Unix seconds as numbers, everything else as text.
func valueFor(field, text string) any {
	if (field == "timestamp" || field == "payload.value") && integerPattern.MatchString(text) {
		return json.Number(text)
	}
	return text
}

// put sets a field, or takes it out where value is nil.
func put(object map[string]any, field string, value any) error {
	key, inPayload := strings.CutPrefix(field, "payload.")
	if !inPayload && !slices.Contains([]string{"event_name", "identifier", "timestamp"}, field) || key == "" {
		return fmt.Errorf("%q is no field; there are event_name, identifier, timestamp and payload.<key>", field)
	}
	if inPayload {
		payload, ok := object["payload"].(map[string]any)
		if !ok {
			payload = map[string]any{}
			object["payload"] = payload
		}
		object = payload
	}
	if value == nil {
		if _, there := object[key]; !there {
			return fmt.Errorf("there is no %s to take out", field)
		}
		delete(object, key)
		return nil
	}
	object[key] = value
	return nil
}

func objectOf(body []byte) (map[string]any, error) {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	err := decoder.Decode(&object)
	if err == nil && (object == nil || decoder.More()) {
		err = errors.New("no JSON object")
	}
	return object, err
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Changes compares two bodies field by field, sorted. What is no JSON object counts as
// one field, "body".
func Changes(before, after []byte) []Change {
	from, to := flattened(before), flattened(after)
	fields := maps.Clone(from)
	maps.Copy(fields, to)
	var changes []Change
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if from[field] != to[field] {
			changes = append(changes, Change{field, from[field], to[field]})
		}
	}
	return changes
}

func flattened(body []byte) map[string]string {
	object, err := objectOf(body)
	if err != nil {
		return map[string]string{"body": string(body)}
	}
	fields := map[string]string{}
	for key, value := range object {
		inner, nested := value.(map[string]any)
		if !nested || key != "payload" {
			fields[key] = textOfJSON(value)
			continue
		}
		for name, value := range inner {
			fields[key+"."+name] = textOfJSON(value)
		}
	}
	return fields
}

func textOfJSON(value any) string {
	text, err := encoded(value)
	if err != nil {
		return "" // it was decoded from JSON
	}
	return string(text)
}
