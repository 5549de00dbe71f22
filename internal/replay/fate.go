package replay

import (
	"context"
	"fmt"
	"strings"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/outbox"
)

// Ending is what became of a replay. The list is closed.
type Ending string

// The endings.
const (
	Delivered Ending = "delivered"  // or recognised as delivered before
	DiedAgain Ending = "died_again" // see Fate.Letter
	Waiting   Ending = "waiting"    // no worker has settled it yet
)

// Fate is what became of the replay of one letter.
type Fate struct {
	ID         uint64 // of the letter that was replayed
	Sequence   uint64 // of its replay
	Identifier string // of its replay
	Ending     Ending
	Letter     uint64 // DiedAgain: the new dead letter
	Reason     deadletter.Reason
}

// Watch follows replays until the workers have settled them. A worker stores the dead
// letter before it acks; so a replay that is acked, and of which no dead letter is
// found after that was seen, was delivered.
type Watch struct {
	letters *Letters
	read    uint64 // letters up to here are looked at
	waiting map[uint64]replayed
	byName  map[replayName]uint64 // sequence in USAGE
}

type replayed struct {
	id        uint64
	name      replayName
	partition string
}

// replayName tells replays apart where USAGE was restored from a copy and its sequences
// are counted on from elsewhere.
type replayName struct {
	subject, identifier string
	replays             int
}

// Watch begins to watch: letters that die from now on are looked at.
func (l *Letters) Watch(ctx context.Context) (*Watch, error) {
	last, err := l.Last(ctx)
	if err != nil {
		return nil, err
	}
	return &Watch{letters: l, read: last, waiting: map[uint64]replayed{}, byName: map[replayName]uint64{}}, nil
}

// Add watches one replay.
func (w *Watch) Add(ctx context.Context, r Result) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := w.letters.usage.GetMsg(ctx, r.Sequence)
	if err != nil {
		return fmt.Errorf("look for the replay of %d: %w", r.ID, err)
	}
	tokens := strings.SplitN(m.Subject, ".", 4) // usage.part.<p>.<rest>
	if len(tokens) < 4 {
		return fmt.Errorf("look for the replay of %d: message %d has the subject %q", r.ID, r.Sequence, m.Subject)
	}
	read, _ := deadletter.Read(m.Header.Get) // lacks a reason; only the count of replays is wanted
	name := replayName{"usage." + tokens[3], r.Identifier, read.Replays}
	w.waiting[r.Sequence] = replayed{r.ID, name, tokens[2]}
	if r.Identifier != "" {
		w.byName[name] = r.Sequence
	}
	return nil
}

// Left is how many are not settled.
func (w *Watch) Left() int { return len(w.waiting) }

// Look returns what was settled since the last look.
func (w *Watch) Look(ctx context.Context) ([]Fate, error) {
	floors, err := w.floors(ctx) // before the letters: see Watch
	if err != nil {
		return nil, err
	}
	fates, err := w.died(ctx)
	if err != nil {
		return fates, err
	}
	for sequence, r := range w.waiting {
		if sequence <= floors[r.partition] {
			fates = append(fates, w.settle(sequence, Fate{Ending: Delivered}))
		}
	}
	return fates, nil
}

// Rest is what is still waiting, and ends the watch.
func (w *Watch) Rest() []Fate {
	var fates []Fate
	for sequence := range w.waiting {
		fates = append(fates, w.settle(sequence, Fate{Ending: Waiting}))
	}
	return fates
}

func (w *Watch) settle(sequence uint64, f Fate) Fate {
	r := w.waiting[sequence]
	f.ID, f.Sequence, f.Identifier = r.id, sequence, r.name.identifier
	delete(w.waiting, sequence)
	delete(w.byName, r.name)
	return f
}

// floors is, by partition, the sequence up to which everything is acked.
func (w *Watch) floors(ctx context.Context) (map[string]uint64, error) {
	floors := map[string]uint64{}
	for _, r := range w.waiting {
		if _, known := floors[r.partition]; known {
			continue
		}
		calling, cancel := context.WithTimeout(ctx, callTimeout)
		consumer, err := w.letters.usage.Consumer(calling, "worker-"+r.partition)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("look up the consumer of partition %s of %s: %w", r.partition, outbox.UsageStream, err)
		}
		floors[r.partition] = consumer.CachedInfo().AckFloor.Stream
	}
	return floors, nil
}

// died looks at the letters that are new.
func (w *Watch) died(ctx context.Context) (fates []Fate, err error) {
	last, err := w.letters.Last(ctx)
	if err != nil || last == w.read {
		return nil, err
	}
	err = w.letters.headers(ctx, Filter{From: w.read + 1, Through: last}, func(l Letter) error {
		sequence := l.Sequence
		if _, ours := w.waiting[sequence]; !ours {
			sequence = w.byName[replayName{l.Subject, l.Identifier, l.Replays}]
		}
		if r, ours := w.waiting[sequence]; ours && r.name.subject == l.Subject {
			fates = append(fates, w.settle(sequence, Fate{Ending: DiedAgain, Letter: l.ID, Reason: l.Reason}))
		}
		return nil
	})
	if err == nil {
		w.read = last
	}
	return fates, err
}
