package outbox

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// check wants exactly these findings, written "stream break".
func (c *Continuity) check(t *testing.T, want ...string) []Finding {
	t.Helper()
	err := c.Check(t.Context())
	broken, isBroken := errors.AsType[*Broken](err)
	if err != nil && !isBroken {
		t.Fatal(err)
	}
	var got []string
	var findings []Finding
	if isBroken {
		findings = broken.Findings
	}
	for _, f := range findings {
		got = append(got, f.Stream+" "+string(f.Break))
		if text := f.String(); !strings.Contains(text, "stream "+f.Stream+": ") || !strings.Contains(text, "accept-restored --stream "+f.Stream) {
			t.Errorf("no field or remedy: %s", text)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("findings %q, want %q", got, want)
	}
	return findings
}

func (c *Continuity) noted(t *testing.T) {
	t.Helper()
	c.check(t)
	if err := c.Note(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// putBack makes a stream what a copy of before would be: created at the same time is
// beyond a client's reach, so the mark is raised instead.
func (w *world) putBack(t *testing.T, s *Streams, stream string, by uint64) {
	t.Helper()
	err := s.updateChronicle(t.Context(), func(doc *chronicle) bool {
		mark := doc.Marks[stream]
		mark.Sequence += by
		mark.Stored = time.Now().UTC()
		doc.Marks[stream] = mark
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill stores something in each stream.
func (w *world) fill(t *testing.T) {
	t.Helper()
	for range 3 {
		w.publish(t, "usage.events.a.b", "x")
		w.publish(t, "usage.journal.0.done", "x")
		w.publish(t, "usage.dlq.rejected.a", "x")
	}
}

// TestWholeStreams: growing, trimming, restarting workers and settings are no breaks.
func TestWholeStreams(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	s.Continuity().noted(t)
	w.fill(t)
	c := s.Continuity()
	c.noted(t)
	for _, name := range []string{UsageStream, JournalStream, DLQStream} {
		stream, err := w.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.noted(t)
	w.fill(t)
	w.update(t, UsageStream, func(cfg *jetstream.StreamConfig) { cfg.MaxAge = 100 * 24 * time.Hour })
	c.noted(t)
	w.open(t, usual).Continuity().check(t)
}

// TestBreaks: each stream and each way to be another one, to a worker that was there and
// to one that starts.
func TestBreaks(t *testing.T) {
	recreate := func(stream string) func(*testing.T, *world, *Streams) {
		return func(t *testing.T, w *world, _ *Streams) {
			cfg := w.info(t, stream).Config
			if err := w.js.DeleteStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			if _, err := w.js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(stream string) func(*testing.T, *world, *Streams) {
		return func(t *testing.T, w *world, _ *Streams) {
			if err := w.js.DeleteStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
		}
	}
	behind := func(stream string) func(*testing.T, *world, *Streams) {
		return func(t *testing.T, w *world, s *Streams) { w.putBack(t, s, stream, 5) }
	}
	replaced := func(stream string) func(*testing.T, *world, *Streams) {
		return func(t *testing.T, w *world, s *Streams) {
			w.putBack(t, s, stream, 0)
			w.fill(t)
		}
	}
	for stream, name := range map[string]string{UsageStream: "USAGE", JournalStream: "USAGE_JOURNAL", DLQStream: "USAGE_DLQ", durableStream: "usage_control_durable"} {
		for way, change := range map[Break]func(*testing.T, *world, *Streams){
			Anew: recreate(stream), Gone: remove(stream), Behind: behind(stream), Replaced: replaced(stream),
		} {
			if stream == durableStream && way != Gone && way != Anew {
				continue // behind: TestOldBucket
			}
			t.Run(name+" "+string(way), func(t *testing.T) {
				w := newWorld(t)
				s := w.open(t, usual)
				w.fill(t)
				c := s.Continuity()
				c.noted(t)
				change(t, w, s)
				c.check(t, name+" "+string(way))
				if stream != durableStream { // whose marks went with it: Open sees that it was there
					s.Continuity().check(t, name+" "+string(way))
				}
			})
		}
	}
}

// TestOldBucket: a copy of the bucket that lacks declarations is known by the journal, and
// by a worker that was there.
func TestOldBucket(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.fill(t)
	c := s.Continuity()
	c.noted(t)
	w.putBack(t, s, JournalStream, 5)
	if _, err := s.Declare(t.Context(), s.Continuity().check(t, "USAGE_JOURNAL behind")[0], "me", "test"); err != nil {
		t.Fatal(err)
	}
	c.check(t)
	err := s.updateChronicle(t.Context(), func(doc *chronicle) bool { doc.Declarations = nil; return true })
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, "usage_control_durable undone")
	found := s.Continuity().check(t, "usage_control_durable undone")
	if _, err := s.Declare(t.Context(), found[0], "me", "test"); err != nil {
		t.Fatal(err)
	}
	c.check(t)
	// Nobody knows any more what the first declaration was about.
	if lost := s.Lost(); len(lost) != 1 || !lost[0].Since.IsZero() || lost[0].Sequence != 3 {
		t.Errorf("lost: %+v, want everything up to message 3", lost)
	}
}

// TestDeclareJournal: what is in doubt begins where the copy ends and ends when the first
// worker noticed, not when a person came.
func TestDeclareJournal(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.fill(t)
	c := s.Continuity()
	c.noted(t)
	ends := w.info(t, JournalStream).State.LastTime
	w.putBack(t, s, JournalStream, 5)
	broken, _ := errors.AsType[*Broken](c.Check(t.Context()))
	if err := c.Report(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	noticed := time.Now()
	w.fill(t) // by producers, meanwhile; and the journal would not be written to
	person := s.Continuity()
	findings := person.check(t, "USAGE_JOURNAL behind")
	findings[0].Now.Stored = ends
	d, err := s.Declare(t.Context(), findings[0], "me", "why not")
	if err != nil {
		t.Fatal(err)
	}
	c.check(t)
	lost := s.Lost()
	if len(lost) != 1 || !lost[0].Since.Equal(ends) || lost[0].Until.After(noticed) || lost[0].Sequence != 3 {
		t.Errorf("lost %+v; the copy ends %v, it was noticed %v", lost, ends, noticed)
	}
	if d.Who != "me" || d.Why != "why not" || d.At.IsZero() {
		t.Errorf("declaration %+v", d)
	}
	if n := w.info(t, JournalStream).Config.Metadata[metaDeclared]; n != "1" {
		t.Errorf("the journal counts %q declarations", n)
	}
}

// TestMended: what was found broken and is whole again, since the right copy was put back, is
// forgotten; a later loss begins to be noticed anew.
func TestMended(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.fill(t)
	c := s.Continuity()
	c.noted(t)
	halts := func() map[string]halt {
		doc, _, err := s.readChronicle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return doc.Halts
	}
	w.putBack(t, s, JournalStream, 5)
	broken, _ := errors.AsType[*Broken](c.Check(t.Context()))
	if err := c.Report(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	if err := c.Note(t.Context()); err != nil { // of a worker that has not looked since
		t.Fatal(err)
	}
	if _, kept := halts()[JournalStream]; !kept {
		t.Fatal("forgotten while it is broken")
	}
	for range 5 {
		w.publish(t, "usage.journal.0.done", "what was missing")
	}
	c.noted(t)
	if left := halts(); len(left) != 0 {
		t.Errorf("still noted as broken: %v", left)
	}
}

// TestGrownJournal: a copy that was written to may lack anything.
func TestGrownJournal(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.fill(t)
	s.Continuity().noted(t)
	w.putBack(t, s, JournalStream, 5)
	w.publish(t, "usage.journal.0.done", "since")
	findings := s.Continuity().check(t, "USAGE_JOURNAL behind")
	if _, err := s.Declare(t.Context(), findings[0], "me", "test"); err != nil {
		t.Fatal(err)
	}
	s.Continuity().check(t)
	if lost := s.Lost(); len(lost) != 1 || !lost[0].Since.IsZero() {
		t.Errorf("lost %+v, want everything", lost)
	}
}

// TestNumbersAreNotUsedTwice: after a copy of USAGE was declared, messages go on beyond all
// numbers that were ever given, those that came before the declaration included.
func TestNumbersAreNotUsedTwice(t *testing.T) {
	w := newWorld(t)
	s := w.open(t, usual)
	w.fill(t)
	s.Continuity().noted(t)
	w.putBack(t, s, UsageStream, 100)
	w.publish(t, "usage.events.a.b", "since") // number 4, which another message had
	findings := s.Continuity().check(t, "USAGE behind")
	if _, err := s.Declare(t.Context(), findings[0], "me", "test"); err != nil {
		t.Fatal(err)
	}
	s.Continuity().check(t)
	w.publish(t, "usage.events.a.b", "later")
	var numbers []uint64
	for p := range 3 {
		if err := partition(t, s, p).Fetch(10, func(m *Message) { numbers = append(numbers, m.Sequence()) }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []uint64{1, 2, 3, 104 + shiftMargin, 105 + shiftMargin}; !slices.Equal(numbers, want) {
		t.Errorf("numbers %v, want %v", numbers, want)
	}
	if err := s.NotBehind(t.Context(), 103); err != nil {
		t.Errorf("the journal mentions what the copy lacks, as declared: %v", err)
	}
}

// TestSeveralCopies: whatever was put back and declared before, no number comes twice.
func TestSeveralCopies(t *testing.T) {
	declared := func(pairs ...uint64) chronicle {
		doc := chronicle{}
		for i := 0; i < len(pairs); i += 2 {
			doc.Declarations = append(doc.Declarations, Declaration{Stream: UsageStream, Above: pairs[i], Shift: pairs[i+1]})
		}
		return doc
	}
	for name, row := range map[string]struct {
		doc  chronicle
		want map[uint64]uint64
	}{
		"none":                       {declared(), map[uint64]uint64{1: 1, 900: 900}},
		"one":                        {declared(900, 100), map[uint64]uint64{900: 900, 901: 1001}},
		"a later one further on":     {declared(900, 100, 2000, 150), map[uint64]uint64{900: 900, 901: 1001, 2000: 2100, 2001: 2151}},
		"a later one took back more": {declared(900, 100, 500, 3000), map[uint64]uint64{500: 500, 501: 3501, 901: 3901}},
	} {
		t.Run(name, func(t *testing.T) {
			for sequence, want := range row.want {
				if got := row.doc.logical(sequence); got != want {
					t.Errorf("%d goes by %d, want %d", sequence, got, want)
				}
			}
		})
	}
}
