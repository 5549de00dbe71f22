package main

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/replay"
)

const (
	// followFor is how long a page follows replays after the last one was published.
	followFor = 30 * time.Second
	// mostFollowed bounds the replays that are followed at once, and with them the memory;
	// of a paused fleet none is settled.
	mostFollowed = 1000
	// lookAgainAfter is how many replays are published between two looks at what became of
	// them.
	lookAgainAfter = 100
)

// following tells a run's page what was done, and what becomes of what was published.
type following struct {
	watch  *replay.Watch // nil where nothing is published
	report func(console.Step)
	since  int // replays since the last look
}

// follow begins before anything is published.
func (k *desk) follow(ctx context.Context, letters *replay.Letters, d console.Deed, report func(console.Step)) (*following, error) {
	f := &following{report: report}
	if d.Kind == console.Discard {
		return f, nil
	}
	var err error
	f.watch, err = letters.Watch(ctx)
	return f, err
}

// heard reports one result. A replay that cannot be followed was made all the same.
func (f *following) heard(ctx context.Context, selected int, r replay.Result) {
	f.report(console.Step{Selected: selected, ID: r.ID, Outcome: string(r.Outcome), Text: pageWords.Replace(resultText(r))})
	if f.watch == nil || r.Outcome != replay.Replayed || ctx.Err() != nil || f.watch.Left() >= mostFollowed {
		return
	}
	_ = f.watch.Add(ctx, r)
	if f.since++; f.since >= lookAgainAfter {
		f.since = 0
		f.look(ctx)
	}
}

// left is how many replays are not settled.
func (f *following) left() int {
	if f.watch == nil {
		return 0
	}
	return f.watch.Left()
}

// look reports what was settled; what cannot be looked up now is looked up later.
func (f *following) look(ctx context.Context) {
	fates, _ := f.watch.Look(ctx)
	f.tell(fates)
}

func (f *following) tell(fates []replay.Fate) {
	for _, fate := range fates {
		f.report(console.Step{FollowUp: true, ID: fate.ID, Outcome: string(fate.Ending), Text: fateText(fate), Letter: fate.Letter})
	}
}

// await follows what was published until all of it is settled, or for a while.
func (f *following) await(ctx context.Context) {
	waiting, cancel := context.WithTimeout(ctx, followFor)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for f.watch.Left() > 0 && waiting.Err() == nil {
		f.look(waiting)
		if f.watch.Left() == 0 {
			break
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
		}
	}
	f.tell(f.watch.Rest())
}

// compacted is a body as an editor's is taken: without indentation where it is JSON.
func compacted(text string) []byte {
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(text)) == nil {
		return compact.Bytes()
	}
	return []byte(text)
}
