package usage

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a body, itself included. An event needs two;
// the rest is there so that a nested payload gets a reason of its own.
const maxDepth = 8

// scanner reads JSON (RFC 8259) from text that is valid UTF-8. Its first fault
// stays and moves it to the end of the text, where every loop ends.
type scanner struct {
	text    string
	at      int
	fault   string
	faultAt int
}

func (s *scanner) fail(fault string) {
	if s.fault == "" {
		s.fault, s.faultAt = fault, s.at
	}
	s.at = len(s.text)
}

// explained is the fault with its place and remedy, or "".
func (s *scanner) explained() string {
	if s.fault == "" {
		return ""
	}
	return s.fault + ", at byte " + strconv.Itoa(s.faultAt) +
		"; publish one JSON object with event_name and payload, and identifier and timestamp where known"
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end; a 0 in the text fits nothing.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// firstKey reads the first key of an object whose brace was taken, and the colon
// after it; ok is false at the end of the object and after a fault.
func (s *scanner) firstKey() (key string, ok bool) {
	s.space()
	if s.take('}') {
		return "", false
	}
	return s.key()
}

// nextKey does the same after a value.
func (s *scanner) nextKey() (key string, ok bool) {
	s.space()
	if s.take('}') {
		return "", false
	}
	if !s.take(',') {
		s.fail("a comma or a closing brace is missing")
	}
	s.space()
	return s.key()
}

func (s *scanner) key() (string, bool) {
	if !s.take('"') {
		s.fail("a key is missing")
	}
	key := s.string()
	s.space()
	if !s.take(':') {
		s.fail("a colon is missing")
	}
	return key, s.fault == ""
}

// value reads any value inside of depth containers.
func (s *scanner) value(depth int) value {
	s.space()
	switch c := s.peek(); {
	case c == '"':
		s.at++
		return value{kindText, s.string()}
	case c == '-' || digit(c):
		return value{kindNumber, s.number()}
	case c == '{' || c == '[':
		return s.container(depth + 1)
	case s.literal("true"):
		return value{kindBoolean, "true"}
	case s.literal("false"):
		return value{kindBoolean, "false"}
	case s.literal("null"):
		return value{kind: kindNull}
	}
	s.fail("a value is missing or is not JSON")
	return value{}
}

func (s *scanner) literal(word string) bool {
	if !strings.HasPrefix(s.text[s.at:], word) {
		return false
	}
	s.at += len(word)
	return true
}

// container reads an array or an object that no rule takes, for its grammar.
func (s *scanner) container(depth int) value {
	if depth > maxDepth {
		s.fail("the nesting is deeper than 8")
		return value{}
	}
	if s.take('{') {
		for _, ok := s.firstKey(); ok; _, ok = s.nextKey() {
			s.value(depth)
		}
		return value{kind: kindObject}
	}
	s.at++
	s.space()
	if s.take(']') {
		return value{kind: kindArray}
	}
	for s.fault == "" {
		s.value(depth)
		s.space()
		if s.take(']') {
			break
		}
		if !s.take(',') {
			s.fail("a comma or a closing bracket is missing")
		}
	}
	return value{kind: kindArray}
}

func (s *scanner) number() string {
	start := s.at
	s.take('-')
	if !s.take('0') {
		s.digits()
	}
	if s.take('.') {
		s.digits()
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		s.digits()
	}
	return s.text[start:s.at]
}

func (s *scanner) digits() {
	start := s.at
	for digit(s.peek()) {
		s.at++
	}
	if s.at == start {
		s.fail("a digit is missing")
	}
}

// string reads the rest of a string whose opening quote was taken. Without
// escapes, the result is a part of the text.
func (s *scanner) string() string {
	start := s.at
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[start : s.at-1]
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			s.fail("a control character stands unescaped in a string")
		default:
			s.at++
		}
	}
	s.fail("a string has no end")
	return ""
}

// escaped continues string at the first escape.
func (s *scanner) escaped(start int) string {
	unescaped := append(make([]byte, 0, 64), s.text[start:s.at]...)
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return string(unescaped)
		case c == '\\':
			s.at++
			unescaped = utf8.AppendRune(unescaped, s.escape())
		case c < ' ':
			s.fail("a control character stands unescaped in a string")
		default:
			unescaped = append(unescaped, c)
			s.at++
		}
	}
	s.fail("a string has no end")
	return ""
}

// escape reads what follows a backslash.
func (s *scanner) escape() rune {
	const letters, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := s.peek()
	if i := strings.IndexByte(letters, c); i >= 0 {
		s.at++
		return rune(meanings[i])
	}
	if c != 'u' {
		s.fail("an escape is not one of JSON's")
		return 0
	}
	r := s.hex()
	if !utf16.IsSurrogate(r) {
		return r
	}
	if s.take('\\') && s.peek() == 'u' {
		if whole := utf16.DecodeRune(r, s.hex()); whole != utf8.RuneError {
			return whole
		}
	}
	// encoding/json would put U+FFFD here, and two identifiers would become one.
	s.fail("an escape is half of a surrogate pair")
	return 0
}

// hex reads the u of an escape and its four digits.
func (s *scanner) hex() rune {
	const length = len("uXXXX")
	if s.at+length > len(s.text) {
		s.fail("an escape is cut")
		return 0
	}
	n, err := strconv.ParseUint(s.text[s.at+1:s.at+length], 16, 16)
	if err != nil {
		s.fail("an escape has a digit that is not hexadecimal")
		return 0
	}
	s.at += length
	return rune(n)
}
