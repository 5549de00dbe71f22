package sender

import (
	"bytes"
	"net/http"
)

// accepts reports whether the answer is the ordinary one: accepted, this event, this
// mode, in plain JSON. What it reports false for need not be anything else.
func (o observation) accepts() bool {
	if o.end != endAnswered || o.status != http.StatusOK || o.err != nil {
		return false
	}
	r, plain := scanReply(o.body)
	return plain && r.identifier && string(r.name) == o.identifier && (!r.livemode || r.live == o.live)
}

// scanReply reads a reply whose members are all of the plain kind that Stripe sends:
// names and texts of printable ASCII without escapes, and no name that encoding/json
// would take for a deciding one in other letters. ok is false for everything else, which
// then is left to encoding/json; where it is true, both say the same, the last
// one of a name that comes twice included. It allocates nothing.
func scanReply(body []byte) (r receipt, ok bool) {
	s := scan{rest: body}
	if !s.open('{') {
		return receipt{}, false
	}
	for first := true; !s.open('}'); first = false {
		if !first && !s.open(',') {
			return receipt{}, false
		}
		name, good := s.text()
		if !good || !s.open(':') || !s.member(&r, name) {
			return receipt{}, false
		}
	}
	s.space()
	return r, len(s.rest) == 0
}

// receipt is what decides in a reply without an error object.
type receipt struct {
	identifier, livemode bool // whether they are there
	name                 []byte
	live                 bool
}

// member reads the value of a name.
func (s *scan) member(r *receipt, name []byte) bool {
	switch string(name) {
	case "identifier":
		text, ok := s.text()
		r.identifier, r.name = true, text
		return ok
	case "livemode":
		live, ok := s.boolean()
		r.livemode, r.live = true, live
		return ok
	}
	for _, deciding := range []string{"identifier", "livemode", "error"} {
		if len(name) == len(deciding) && bytes.EqualFold(name, []byte(deciding)) {
			return false
		}
	}
	return s.skip(0)
}

// scan reads plain JSON from the front of rest.
type scan struct{ rest []byte }

func (s *scan) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\r' || s.rest[0] == '\t') {
		s.rest = s.rest[1:]
	}
}

// open passes over c, if that is next.
func (s *scan) open(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scan) text() (text []byte, ok bool) {
	if !s.open('"') {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			text, s.rest = s.rest[:i], s.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (s *scan) word(word string) bool {
	s.space()
	rest, found := bytes.CutPrefix(s.rest, []byte(word))
	s.rest = rest
	return found
}

func (s *scan) boolean() (value, ok bool) {
	if s.word("true") {
		return true, true
	}
	return false, s.word("false")
}

// integer passes over a whole number without a sign or zeros before it.
func (s *scan) integer() bool {
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	if n == 0 || n > 1 && s.rest[0] == '0' {
		return false
	}
	s.rest = s.rest[n:]
	return true
}

// deepest is how far objects may be nested in a plain reply: the payload is the one.
const deepest = 2

// skip passes over a value that does not decide: a text, a number, true, false, null, or
// an object of these.
func (s *scan) skip(depth int) bool {
	s.space()
	switch {
	case len(s.rest) == 0 || depth > deepest:
		return false
	case s.rest[0] == '"':
		_, ok := s.text()
		return ok
	case s.rest[0] == '{':
		return s.object(depth + 1)
	case s.rest[0] >= '0' && s.rest[0] <= '9':
		return s.integer()
	}
	return s.word("true") || s.word("false") || s.word("null")
}

func (s *scan) object(depth int) bool {
	s.open('{')
	for first := true; !s.open('}'); first = false {
		if !first && !s.open(',') {
			return false
		}
		if _, ok := s.text(); !ok || !s.open(':') || !s.skip(depth) {
			return false
		}
	}
	return true
}
