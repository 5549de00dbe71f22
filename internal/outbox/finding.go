package outbox

import (
	"fmt"
	"strings"
	"time"
)

// Broken says that streams are not what they were. Only a person can tell what that
// means: see [Streams.Declare].
type Broken struct {
	Findings []Finding

	noticed halt
}

func (e *Broken) Error() string {
	texts := make([]string, 0, len(e.Findings))
	for _, f := range e.Findings {
		texts = append(texts, f.String())
	}
	return strings.Join(texts, "\n")
}

// Break is in what way a stream is not what it was. The list is closed.
type Break string

// The breaks.
const (
	Gone     Break = "gone"     // it does not exist
	Anew     Break = "anew"     // it was deleted and created again
	Behind   Break = "behind"   // it ends below a sequence that it held
	Replaced Break = "replaced" // it holds another message at a sequence that it held
	Undone   Break = "undone"   // durable bucket: declarations that were made are not in it
)

// Finding is one stream that is not what it was.
type Finding struct {
	Stream string // as people call it
	Break  Break
	Mark   Mark // what it held
	Now    Mark // what it holds; zero where it is gone
}

// String names field, value and remedy.
func (f Finding) String() string {
	field, value := "last sequence", fmt.Sprintf("%d (stored %s), it was %d (stored %s): an old copy was put back",
		f.Now.Sequence, stamp(f.Now.Stored), f.Mark.Sequence, stamp(f.Mark.Stored))
	switch f.Break {
	case Gone:
		field, value = "state", "missing"
	case Anew:
		field, value = "created", fmt.Sprintf("%s, it was %s: it was deleted and made anew", stamp(f.Now.Created), stamp(f.Mark.Created))
	case Replaced:
		field, value = "message", fmt.Sprintf("%d not the one of %s any more: an old copy was put back and has grown since", f.Mark.Sequence, stamp(f.Mark.Stored))
	case Undone:
		field, value = "declarations", "fewer than were made: an old copy was put back"
	case Behind:
	}
	return fmt.Sprintf("stream %s: %s is %s; put the right copy back, or look at `meterworker accept-restored --stream %s`", f.Stream, field, value, f.Stream)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// plain is the stream's name as people call it: the bucket's where it is behind one.
func plain(stream string) string {
	if stream == durableStream {
		return DurableBucket
	}
	return stream
}
