package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// continuityKey holds the marks and declarations, as one document: a declaration and
// the marks that it sets back are one write.
const continuityKey = "continuity"

// watched are the streams that are compared with their marks.
var watched = []string{UsageStream, JournalStream, DLQStream, durableStream}

// Mark is what a stream was seen to hold. A stream only grows, so one that ends below
// its mark, or holds another message there, is an old copy; one of another creation
// was made anew.
type Mark struct {
	Created  time.Time `json:"created"`  // of the stream
	Sequence uint64    `json:"sequence"` // the last one stored
	Stored   time.Time `json:"stored"`   // its stamp, by the server's clock
	Noted    time.Time `json:"noted"`    // by the worker's clock; for people

	// Heard says that the sequence is known from an acknowledgement or a delivery, which
	// came after the last look: the stamp is of an earlier message.
	Heard bool `json:"heard,omitempty"`
}

// heard is, for each stream, the highest sequence that the server has named to us.
type heard struct {
	mu   sync.Mutex
	last map[string]uint64
}

// raise takes note of a sequence.
func (h *heard) raise(stream string, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]uint64{}
	}
	h.last[stream] = max(h.last[stream], sequence)
}

// forget is for a stream that is another one now.
func (h *heard) forget(stream string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, stream)
}

func (h *heard) all() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.last)
}

// with is the mark after what was heard.
func (m Mark) with(heard uint64) Mark {
	if heard > m.Sequence {
		m.Sequence, m.Heard = heard, true
	}
	return m
}

// Declaration is a person's word that a stream which is not what it was may be worked
// with. It stays: what is in doubt stays in doubt.
type Declaration struct {
	Stream string    `json:"stream"`
	Who    string    `json:"who"`
	Why    string    `json:"why"`
	At     time.Time `json:"at"` // the later one of the server's and the declaring machine's clock

	// Since, Until and Sequence bound, for the journal, what is missing: see Span.
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Sequence uint64    `json:"sequence,omitempty"`

	// Above and Shift say, for USAGE, which sequences the server gives a second time, and
	// by how much we count on, so that none means two messages.
	Above uint64 `json:"above,omitempty"`
	Shift uint64 `json:"shift,omitempty"`
}

// Span is a time whose journal is missing: nothing that was recorded before Since (zero:
// anything), nothing after Until. Sequence is where USAGE ended at Until.
type Span struct {
	Since, Until time.Time
	Sequence     uint64
}

// halt is when the first worker noticed that a stream was not what it was. What was
// lost was written before; what came after was recorded in what is there now.
type halt struct {
	At       time.Time `json:"at"`       // the later one of the server's and the worker's clock
	Sequence uint64    `json:"sequence"` // where USAGE ended
}

// chronicle is the document.
type chronicle struct {
	Marks        map[string]Mark `json:"marks"`
	Halts        map[string]halt `json:"halts,omitempty"`
	Declarations []Declaration   `json:"declarations"`
}

// declared is how often the stream was declared.
func (c *chronicle) declared(stream string) int {
	n := 0
	for _, d := range c.Declarations {
		if d.Stream == stream {
			n++
		}
	}
	return n
}

// lost are the times whose journal is missing.
func (c *chronicle) lost() []Span {
	var spans []Span
	for _, d := range c.Declarations {
		if d.Stream == JournalStream {
			spans = append(spans, Span{Since: d.Since, Until: d.Until, Sequence: d.Sequence})
		}
	}
	return spans
}

// logical is the number that a message of USAGE goes by: the server's, and from a
// restored copy on so much more that no number is used twice. Identifiers, records
// and dead letters are made of it.
func (c *chronicle) logical(sequence uint64) uint64 {
	shift := uint64(0)
	for _, d := range c.Declarations {
		if d.Stream == UsageStream && sequence > d.Above {
			shift = d.Shift // a later copy may have taken back more
		}
	}
	return sequence + shift
}

// readChronicle returns the document and its revision, 0 without one.
func (s *Streams) readChronicle(ctx context.Context) (chronicle, uint64, error) {
	kv, err := s.js.KeyValue(ctx, DurableBucket)
	if err != nil {
		return chronicle{}, 0, err
	}
	entry, err := kv.Get(ctx, continuityKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return chronicle{Marks: map[string]Mark{}, Halts: map[string]halt{}}, 0, nil
	case err != nil:
		return chronicle{}, 0, err
	}
	doc := chronicle{}
	if err := json.Unmarshal(entry.Value(), &doc); err != nil {
		return chronicle{}, 0, &Refused{[]string{fmt.Sprintf(
			"key-value bucket %s: key %s cannot be read (%v): put back its former revision, or declare the bucket lost", DurableBucket, continuityKey, err)}}
	}
	if doc.Marks == nil {
		doc.Marks = map[string]Mark{}
	}
	if doc.Halts == nil {
		doc.Halts = map[string]halt{}
	}
	return doc, entry.Revision(), nil
}

// updateChronicle changes the document by compare-and-swap; change reports false where
// there is nothing to write.
func (s *Streams) updateChronicle(ctx context.Context, change func(*chronicle) bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		doc, revision, err := s.readChronicle(ctx)
		if err != nil {
			return fmt.Errorf("marks of the streams: %w", err)
		}
		if !change(&doc) {
			return nil
		}
		err = s.writeChronicle(ctx, doc, revision)
		if err == nil {
			return nil
		}
		if !conflict(err) || ctx.Err() != nil {
			return fmt.Errorf("marks of the streams: %w", err)
		}
	}
}

func (s *Streams) writeChronicle(ctx context.Context, doc chronicle, revision uint64) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	kv, err := s.js.KeyValue(ctx, DurableBucket)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = kv.Create(ctx, continuityKey, data)
	} else {
		_, err = kv.Update(ctx, continuityKey, data, revision)
	}
	return err
}

// merge raises the marks to what was seen. A mark of another creation stays: it is the
// older one, and says what is missing.
func (c *chronicle) merge(seen map[string]Mark) (raised bool) {
	for stream, mark := range seen {
		old, known := c.Marks[stream]
		if !known || old.Created.Equal(mark.Created) && old.Sequence < mark.Sequence {
			c.Marks[stream] = mark
			raised = raised || stream != durableStream // which grows by this very write
		}
	}
	return raised
}
