package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Continuity compares the streams with what they are known to have held, and so finds
// an old copy that was put back, and a stream that was made anew, at a start and under
// running workers. What is known are the marks in the durable bucket, which outlive
// every worker, and this worker's own view, which outlives the bucket.
//
//	whole ── a stream ends below its mark, or is another one ──▶ broken
//	  ▲                                                            │
//	  └────────────── a person declares it: Streams.Declare ◀──────┘
//
// While it is broken nothing may be pulled, sent or acked.
type Continuity struct {
	streams *Streams

	checking sync.Mutex // held over a check

	mu       sync.Mutex
	seen     map[string]Mark
	declared map[string]int // how often each stream was declared when it was seen
}

// Continuity begins to watch the streams.
func (s *Streams) Continuity() *Continuity {
	return &Continuity{streams: s, seen: map[string]Mark{}, declared: map[string]int{}}
}

// Broken says that streams are not what they were. Only a person can tell what that
// means: see [Streams.Declare].
type Broken struct{ Findings []Finding }

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

// Check looks at the streams. The error is [Broken] where one of them is not what it
// was, and another one while that cannot be told.
func (c *Continuity) Check(ctx context.Context) error {
	c.checking.Lock()
	defer c.checking.Unlock()
	for try := 1; ; try++ {
		view, err := c.streams.look(ctx)
		if err != nil {
			return err
		}
		findings, err := c.compare(ctx, view)
		switch {
		case err != nil:
			return err
		case len(findings) == 0:
			c.accept(view)
			return nil
		case !view.replicated || try == looksOfReplica:
			return &Broken{findings}
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

// looksOfReplica is how often, a second apart, a cluster must show a break before it
// is believed: a server that has just become leader may lag.
const looksOfReplica = 5

func rest(ctx context.Context) error {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// view is one look at everything.
type view struct {
	doc        chronicle
	written    bool            // there is a document
	now        map[string]Mark // of the streams that exist
	meta       int             // declarations that the journal knows of
	server     time.Time       // its clock
	replicated bool
}

// look reads the document first: marks that are raised meanwhile are then compared
// with what came after them, never before.
func (s *Streams) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := view{now: map[string]Mark{}}
	doc, revision, err := s.readChronicle(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return v, fmt.Errorf("marks of the streams: %w", err)
	}
	v.doc, v.written = doc, revision > 0
	for _, name := range watched {
		stream, err := s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return v, fmt.Errorf("look up stream %s: %w", name, err)
		}
		info := stream.CachedInfo()
		v.now[name] = Mark{Created: info.Created, Sequence: info.State.LastSeq, Stored: info.State.LastTime, Noted: time.Now().UTC()}
		v.replicated = v.replicated || info.Config.Replicas > 1
		v.server = info.TimeStamp
		if name == JournalStream {
			v.meta = declaredCount(info)
		}
	}
	return v, nil
}

// known is what a stream must still hold: the higher one of the document's mark and our
// own, unless the stream was declared since we saw it.
func (c *Continuity) known(v view, stream string) (Mark, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mark, known := v.doc.Marks[stream]
	own, seen := c.seen[stream]
	if !seen || v.doc.declared(stream) > c.declared[stream] {
		return mark, known
	}
	if !known || own.Created.Equal(mark.Created) && own.Sequence > mark.Sequence || !own.Created.Equal(mark.Created) {
		return own, true
	}
	return mark, true
}

func (c *Continuity) compare(ctx context.Context, v view) ([]Finding, error) {
	var findings []Finding
	if c.undone(v) {
		findings = append(findings, Finding{Stream: DurableBucket, Break: Undone})
	}
	for _, stream := range watched {
		mark, known := c.known(v, stream)
		now, there := v.now[stream]
		if !known && there {
			continue
		}
		b, err := c.streams.breakOf(ctx, stream, mark, now, there)
		if err != nil {
			return nil, err
		}
		if b != "" {
			findings = append(findings, Finding{Stream: plain(stream), Break: b, Mark: mark, Now: now})
		}
	}
	return findings, nil
}

// undone reports a bucket that lacks declarations: ours, or those that the journal
// counts.
func (c *Continuity) undone(v view) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := v.now[durableStream]; !there {
		return false // named as gone
	}
	made := 0
	if v.doc.declared(durableStream) <= c.declared[durableStream] {
		for _, n := range c.declared {
			made += n
		}
	}
	return len(v.doc.Declarations) < max(made, v.meta)
}

// breakOf compares a stream with its mark; "" where it is what it was.
func (s *Streams) breakOf(ctx context.Context, name string, mark, now Mark, there bool) (Break, error) {
	switch {
	case !there:
		return Gone, nil
	case !now.Created.Equal(mark.Created):
		return Anew, nil
	case now.Sequence < mark.Sequence:
		return Behind, nil
	case now.Sequence == mark.Sequence || mark.Sequence == 0 || name == durableStream:
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return "", fmt.Errorf("look up stream %s: %w", name, err)
	}
	message, err := stream.GetMsg(ctx, mark.Sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "", nil // trimmed, purged or replayed since
	case err != nil:
		return "", fmt.Errorf("look up message %d of stream %s: %w", mark.Sequence, name, err)
	case !message.Time.Equal(mark.Stored):
		return Replaced, nil
	}
	return "", nil
}

// accept takes over what was found whole.
func (c *Continuity) accept(v view) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = maps.Clone(v.now)
	for _, stream := range watched {
		c.declared[stream] = v.doc.declared(stream)
	}
	c.streams.chronicle.Store(&v.doc)
}

// Note writes down what was seen, so that it is known after this worker.
func (c *Continuity) Note(ctx context.Context) error {
	c.mu.Lock()
	seen, declared := maps.Clone(c.seen), maps.Clone(c.declared)
	c.mu.Unlock()
	return c.streams.updateChronicle(ctx, func(doc *chronicle) bool {
		for stream := range seen {
			if doc.declared(stream) != declared[stream] { // declared since: ours is out of date
				delete(seen, stream)
			}
		}
		return doc.merge(seen)
	})
}

// Lost are the times whose journal is missing, as declared.
func (s *Streams) Lost() []Span {
	doc := s.chronicle.Load()
	if doc == nil {
		return nil
	}
	return doc.lost()
}

// logical is the number that a message of USAGE goes by.
func (s *Streams) logical(sequence uint64) uint64 {
	doc := s.chronicle.Load()
	if doc == nil {
		return sequence
	}
	return doc.logical(sequence)
}
