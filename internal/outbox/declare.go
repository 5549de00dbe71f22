package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// metaDeclared is on the journal: how many declarations were made. It tells an old copy
// of the durable bucket, which lacks some.
const metaDeclared = "declared"

// shiftMargin is how far beyond what is known to have been stored the numbers of a
// restored USAGE go on: marks are noted every 10 s, so more cannot have been stored
// after the last one.
const shiftMargin = 10_000_000

func declaredCount(info *jetstream.StreamInfo) int {
	n, _ := strconv.Atoi(info.Config.Metadata[metaDeclared]) // 0 where nothing was declared
	return n
}

// Inspect returns the streams as they are, for a person's command: what USAGE itself
// says is taken for the settings, and nothing is checked or changed.
func Inspect(ctx context.Context, js jetstream.JetStream) (*Streams, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	usage, err := js.Stream(ctx, UsageStream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	info := usage.CachedInfo()
	partitions, err := strconv.Atoi(info.Config.Metadata[metaPartitions])
	if err != nil {
		return nil, fmt.Errorf("stream %s: metadata partitions is %q: no worker has served it yet", UsageStream, info.Config.Metadata[metaPartitions])
	}
	s := &Streams{js: js, usage: usage, epoch: epochOf(info), settings: Settings{
		Mode: info.Config.Metadata[metaMode], Partitions: partitions, Replicas: info.Config.Replicas,
	}}
	return s, nil
}

// Findings is what a person has to judge.
func (s *Streams) Findings(ctx context.Context) ([]Finding, error) {
	err := s.Continuity().Check(ctx)
	if broken, ok := errors.AsType[*Broken](err); ok {
		return broken.Findings, nil
	}
	return nil, err
}

// Unseen is the finding for a copy that cannot be seen, because everything was put back at
// once while no worker ran; a person says that it was.
func (s *Streams) Unseen(ctx context.Context, stream string) (Finding, error) {
	v, err := s.look(ctx)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Stream: stream, Break: Behind}
	now, there := v.now[f.name()]
	if !there {
		return Finding{}, fmt.Errorf("stream %s does not exist", stream)
	}
	f.Now, f.Mark = now, now
	f.Mark.Stored = v.time()
	return f, nil
}

// Declarable returns why the finding cannot be declared, nil where it can.
func (f Finding) Declarable() error {
	if f.Stream == UsageStream && (f.Break == Gone || f.Break == Anew) {
		return fmt.Errorf("stream %s: what it held is gone with its numbers: put a copy back, then declare that", UsageStream)
	}
	return nil
}

// Declare writes down a person's word that the stream may be worked with as it is now:
//
//   - USAGE: its sequences are counted on from beyond all that were ever given, so that
//     none means two messages. What was stored and not delivered is lost; what was
//     delivered is known to the journal.
//   - USAGE_JOURNAL: an attempt of unknown outcome is assumed for every event that is not
//     known, from the moment at which the copy ends: repeated inside the safe window,
//     ambiguous past it. Where that moment is not known, everything unknown is
//     ambiguous.
//   - USAGE_DLQ: the letters that it lacks are lost; their messages are never sent.
//   - usage_control_durable: orders are forgotten; if declarations were, the whole
//     journal is in doubt.
//
// A stream that is gone is created anew first.
func (s *Streams) Declare(ctx context.Context, f Finding, who, why string) (Declaration, error) {
	if err := f.Declarable(); err != nil {
		return Declaration{}, err
	}
	if err := s.replace(ctx, f); err != nil {
		return Declaration{}, err
	}
	v, err := s.look(ctx)
	if err != nil {
		return Declaration{}, err
	}
	d := Declaration{Stream: f.name(), Who: who, Why: why, At: v.time()}
	if err := s.bound(ctx, f, v, &d); err != nil {
		return Declaration{}, err
	}
	count := 0
	err = s.updateChronicle(ctx, func(doc *chronicle) bool {
		doc.Marks[d.Stream] = v.now[d.Stream]
		delete(doc.Halts, d.Stream)
		doc.Declarations = append(doc.Declarations, d)
		if d.Stream == durableStream && len(doc.Declarations) <= v.meta {
			doc.Declarations = append(doc.Declarations, Declaration{
				Stream: JournalStream, Who: who, At: d.At, Until: d.At, Sequence: v.now[UsageStream].Sequence,
				Why: "declarations were lost with " + DurableBucket + ": " + why,
			})
		}
		count = len(doc.Declarations)
		return true
	})
	if err != nil {
		return Declaration{}, err
	}
	return d, s.countDeclarations(ctx, count)
}

// name is the stream's own name.
func (f Finding) name() string {
	if f.Stream == DurableBucket {
		return durableStream
	}
	return f.Stream
}

// replace creates what is gone.
func (s *Streams) replace(ctx context.Context, f Finding) error {
	if f.Break != Gone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	switch f.Stream {
	case JournalStream:
		_, err = s.js.CreateStream(ctx, s.journalConfig())
	case DLQStream:
		_, err = s.js.CreateStream(ctx, s.dlqConfig())
	case DurableBucket:
		_, err = s.newDurable(ctx)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("create %s: %w", f.Stream, err)
	}
	return nil
}

// bound fills in what is in doubt.
func (s *Streams) bound(ctx context.Context, f Finding, v view, d *Declaration) error {
	switch f.Stream {
	case UsageStream:
		above, err := s.grownFrom(ctx, f)
		if err != nil {
			return err
		}
		d.Above, d.Shift = above, v.doc.logical(f.Mark.Sequence)+shiftMargin-above
	case JournalStream:
		// A copy to which nothing was written since ends before what it lacks.
		if f.Break == Behind && f.Now.Stored.Before(f.Mark.Stored) {
			d.Since = f.Now.Stored
		}
		d.Until, d.Sequence = d.At, v.now[UsageStream].Sequence
		if noticed, ok := v.doc.Halts[JournalStream]; ok {
			d.Until, d.Sequence = noticed.At, noticed.Sequence
		}
	}
	return nil
}

// grownFrom is the last sequence that the copy of USAGE was put back with: producers may
// have stored more since.
func (s *Streams) grownFrom(ctx context.Context, f Finding) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := s.usage.Info(ctx) // before the look: what is stored in between is found by it
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", UsageStream, err)
	}
	after := f.Mark.Stored.Add(time.Nanosecond)
	grown, err := s.first(ctx, lookup{Since: &after, Subject: ">"})
	if err != nil {
		return 0, fmt.Errorf("find where the copy of %s ends: %w", UsageStream, err)
	}
	if grown.Sequence > 0 {
		return grown.Sequence - 1, nil
	}
	return info.State.LastSeq, nil
}

// countDeclarations notes on the journal how many there are.
func (s *Streams) countDeclarations(ctx context.Context, count int) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	journal, err := s.js.Stream(ctx, JournalStream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", JournalStream, err)
	}
	cfg := journal.CachedInfo().Config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[metaDeclared] = strconv.Itoa(count)
	if _, err := s.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("note the declaration on stream %s: %w", JournalStream, err)
	}
	return nil
}
