package usage

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// kind is what a JSON value is. A pair of a payload may be of kindBoolean,
// kindNumber or kindText.
type kind uint8

const (
	kindAbsent kind = iota
	kindNull
	kindBoolean
	kindNumber
	kindText
	kindArray
	kindObject
)

// value is a JSON value: the text of a string without its escapes, the literal of
// a number or a boolean, nothing of the rest.
type value struct {
	kind kind
	text string
}

type pair struct {
	key   string
	value value
}

// body is a message body that is JSON and has the shape of an event; what it says
// may still break the rules.
type body struct {
	eventName  value
	identifier value
	timestamp  value
	payload    kind
	pairs      []pair // of the payload, sorted by key
}

// decode reads a message body. It is stricter than encoding/json, which lets the
// last of two equal keys win, folds case, and mends invalid UTF-8: each of them can
// silently change what is billed. fault is "" or says why this is not an event.
func decode(text string) (b body, fault string) {
	if fault := encodingFault(text); fault != "" {
		return body{}, fault
	}
	s := scanner{text: text}
	s.space()
	if !s.take('{') {
		s.fail("the body is not a JSON object")
	}
	for key, ok := s.firstKey(); ok; key, ok = s.nextKey() {
		s.field(&b, key)
	}
	s.space()
	if s.at < len(s.text) {
		s.fail("there is something after the JSON object")
	}
	return b, s.explained()
}

func encodingFault(text string) string {
	const remedy = "; publish one JSON object in UTF-8 without a byte order mark"
	switch {
	case text == "":
		return "the body is empty" + remedy
	case strings.HasPrefix(text, "\xef\xbb\xbf"):
		return "the body begins with a byte order mark" + remedy
	case !utf8.ValidString(text):
		return "the body is not UTF-8" + remedy
	}
	return ""
}

// field reads the value of a top-level key. An unknown key is a fault because it may
// be a known one misspelt, and an event without its identifier is billed again
// when it is published again.
func (s *scanner) field(b *body, key string) {
	var into *value
	switch key {
	case "event_name":
		into = &b.eventName
	case "identifier":
		into = &b.identifier
	case "timestamp":
		into = &b.timestamp
	case "payload":
		s.payload(b)
		return
	default:
		s.fail("the key " + quote(key) + " is unknown (known are event_name, identifier, timestamp and payload, in lower case)")
		return
	}
	if into.kind != kindAbsent {
		s.fail("the key " + key + " is there twice")
		return
	}
	*into = s.value(1)
}

func (s *scanner) payload(b *body) {
	if b.payload != kindAbsent {
		s.fail("the key payload is there twice")
		return
	}
	s.space()
	if !s.take('{') {
		b.payload = s.value(1).kind
		return
	}
	b.payload = kindObject
	b.pairs = make([]pair, 0, 4) // customer, value and two dimensions: most payloads
	for key, ok := s.firstKey(); ok; key, ok = s.nextKey() {
		b.pairs = append(b.pairs, pair{key, s.value(2)})
	}
	if key, twice := sortPairs(b.pairs); twice {
		s.fail("the payload key " + quote(key) + " is there twice")
	}
}

// sortPairs orders pairs by key and returns a key that occurs twice, if any does.
func sortPairs(pairs []pair) (key string, twice bool) {
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	for i := 1; i < len(pairs); i++ {
		if pairs[i].key == pairs[i-1].key {
			return pairs[i].key, true
		}
	}
	return "", false
}

func find(pairs []pair, key string) value {
	i, found := slices.BinarySearchFunc(pairs, key, func(p pair, key string) int { return cmp.Compare(p.key, key) })
	if !found {
		return value{}
	}
	return pairs[i].value
}
