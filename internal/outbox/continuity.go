package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// Check looks at the streams. The error is [Broken] where one of them is not what it
// was, and another one while that cannot be told.
func (c *Continuity) Check(ctx context.Context) error {
	c.checking.Lock()
	defer c.checking.Unlock()
	for try := 1; ; try++ {
		heard := c.streams.heard.all() // before the look, which must show at least that
		view, err := c.streams.look(ctx)
		if err != nil {
			return err
		}
		c.hear(heard)
		findings, err := c.compare(ctx, view)
		switch {
		case err != nil:
			return err
		case len(findings) == 0:
			c.accept(view)
			return nil
		case view.doubt != nil: // nobody's word for a loss
			return view.doubt
		case !view.replicated || try == looksOfReplica:
			return &Broken{findings, halt{At: view.time(), Sequence: view.now[UsageStream].Sequence}}
		}
		if err := rest(ctx, time.Second); err != nil {
			return err
		}
	}
}

// hear raises our own view to what the server has named since.
func (c *Continuity) hear(heard map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for stream, mark := range c.seen {
		c.seen[stream] = mark.with(heard[stream])
	}
}

// looksOfReplica is how often, a second apart, a cluster must show a break before it
// is believed: servers that have just come back do not know all streams at once.
const looksOfReplica = 5

// rest lets the time pass, or less when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
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
	doubt      error // why a leader that answered may not be the leader any more
}

// time is the later one of the server's clock and ours.
func (v view) time() time.Time {
	if now := time.Now(); now.After(v.server) {
		return now.UTC()
	}
	return v.server.UTC()
}

// look reads the document first: marks that are raised meanwhile are then compared
// with what came after them, never before.
func (s *Streams) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := view{now: map[string]Mark{}, replicated: s.settings.Replicas > 1}
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
		if err := fromLeader(info); err != nil {
			return v, err
		}
		v.doubt = cmp.Or(v.doubt, stillLeads(info))
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
	undone := c.undone(v)
	if undone {
		findings = append(findings, Finding{Stream: DurableBucket, Break: Undone})
	}
	for _, stream := range watched {
		if undone && stream == durableStream {
			continue
		}
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
	case now.Sequence == mark.Sequence || mark.Sequence == 0 || mark.Heard || name == durableStream:
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
		n := v.doc.declared(stream)
		if n != c.declared[stream] {
			c.streams.heard.forget(stream)
		}
		c.declared[stream] = n
	}
	c.streams.chronicle.Store(&v.doc)
}

// Note writes down what was seen, so that it is known after this worker, and that what was
// found broken before is whole.
func (c *Continuity) Note(ctx context.Context) error {
	return c.streams.updateChronicle(ctx, func(doc *chronicle) bool {
		mended := c.mend(doc)
		return c.note(doc) || mended
	})
}

// mend forgets when a stream was found broken that is whole again without a declaration:
// for a later break that would be too early, and what was recorded in between would count
// as known.
func (c *Continuity) mend(doc *chronicle) (mended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for stream := range doc.Halts {
		now, mark := c.seen[stream], doc.Marks[stream]
		if now.Created.Equal(mark.Created) && now.Sequence >= mark.Sequence && doc.declared(stream) == c.declared[stream] {
			delete(doc.Halts, stream)
			mended = true
		}
	}
	return mended
}

// Report writes down what was seen, and when it was found broken first.
func (c *Continuity) Report(ctx context.Context, b *Broken) error {
	return c.streams.updateChronicle(ctx, func(doc *chronicle) bool {
		raised := c.note(doc)
		for _, f := range b.Findings {
			if _, known := doc.Halts[f.name()]; !known {
				doc.Halts[f.name()], raised = b.noticed, true
			}
		}
		return raised
	})
}

func (c *Continuity) note(doc *chronicle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := maps.Clone(c.seen)
	for stream := range seen {
		if doc.declared(stream) != c.declared[stream] { // declared since: ours is out of date
			delete(seen, stream)
		}
	}
	return doc.merge(seen)
}

// Holds is [Streams.NotBehind] for a newly read journal; what it refuses is noted as a
// mark, so that a person can declare it.
func (c *Continuity) Holds(ctx context.Context, newest uint64) error {
	err := c.streams.NotBehind(ctx, newest)
	if _, ok := errors.AsType[*Refused](err); !ok {
		return err // nil, or it cannot be told
	}
	note := c.streams.updateChronicle(ctx, func(doc *chronicle) bool {
		c.mu.Lock()
		now, seen := c.seen[UsageStream]
		c.mu.Unlock()
		// No former shift can be in force here, or the journal could not be ahead by numbers.
		now.Sequence = newest
		return seen && doc.merge(map[string]Mark{UsageStream: now})
	})
	return errors.Join(err, note)
}

// Heard takes note of a sequence that the server has acknowledged for a stream.
func (c *Continuity) Heard(stream string, sequence uint64) { c.streams.heard.raise(stream, sequence) }

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
