package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/outbox"
)

const (
	// compareEvery is how often the streams are compared with what they held, when nothing
	// gives cause to look at once.
	compareEvery = 5 * time.Second

	// noteEvery is how often what they hold is written down.
	noteEvery = 10 * time.Second

	// silentAfter is how long the streams may be out of reach before the worker says that
	// it is not ready: a cluster elects leaders in 4 to 9 s.
	silentAfter = 15 * time.Second

	continuityHold = "continuity"
)

// guard halts the worker while the streams are not what they were: an old copy was put
// back, or one was made anew. Whoever pulls or writes asks it first, and it looks
// again after each lost connection and each failed call: a store cannot be exchanged
// under a connection that answers.
type guard struct {
	continuity *outbox.Continuity
	gate       *delivery.Gate
	log        *zap.Logger
	reconnects func() uint64
	stop       func() // gives up all partitions

	looking sync.Mutex // held over a look

	mu     sync.Mutex
	sure   bool   // whole, as of the last look, and nothing has happened since
	lost   uint64 // reconnects at that look
	reason string // why the worker is halted, "" while it is not
	newest uint64 // highest sequence of the journal that was acknowledged
	silent error  // why the streams cannot be looked at, nil while they can
	since  time.Time
}

// run looks, and notes what it sees, until ctx ends; then it notes the last of it.
func (g *guard) run(ctx context.Context) {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for looks := 1; ; looks++ {
		if err := g.look(ctx); err != nil {
			g.log.Debug("the streams cannot be compared with what they held", zap.Error(err))
		} else if looks%int(noteEvery/compareEvery) == 1 {
			g.note(ctx)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if g.look(last) == nil {
				g.note(last)
			}
			return
		case <-ticker.C:
		}
	}
}

func (g *guard) note(ctx context.Context) {
	if err := g.continuity.Note(ctx); err != nil && ctx.Err() == nil {
		g.log.Warn("what the streams hold is not written down; an old copy could go unnoticed", zap.Error(err))
	}
}

// clear reports whether anything may be pulled or written. The error is
// [journal.ErrBroken] while a person has to judge.
func (g *guard) clear(ctx context.Context) error {
	if g.isSure() {
		return nil
	}
	g.looking.Lock()
	defer g.looking.Unlock()
	if g.isSure() { // somebody has looked while we waited
		return nil
	}
	return g.compare(ctx)
}

func (g *guard) isSure() bool {
	reconnects := g.reconnects()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sure && g.lost == reconnects
}

// doubt asks for a look before anything else is done.
func (g *guard) doubt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sure = false
}

func (g *guard) look(ctx context.Context) error {
	g.looking.Lock()
	defer g.looking.Unlock()
	return g.compare(ctx)
}

// compare looks, and halts or lets work flow. g.looking is held.
func (g *guard) compare(ctx context.Context) error {
	reconnects := g.reconnects()
	err := g.continuity.Check(ctx)
	broken, isBroken := errors.AsType[*outbox.Broken](err)
	if isBroken {
		g.answered(nil)
	} else {
		g.answered(err)
	}
	switch {
	case err == nil:
		g.whole(reconnects)
		return nil
	case !isBroken:
		g.doubt()
		return err // names what could not be looked at
	}
	g.halt(ctx, broken)
	return fmt.Errorf("%w: %w", journal.ErrBroken, err)
}

// answered takes note of whether the streams could be looked at.
func (g *guard) answered(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent == nil {
		g.since = time.Now()
	}
	g.silent = err
}

// unreachable is why the streams have been out of reach for a while, nil where they have not.
func (g *guard) unreachable() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent == nil || time.Since(g.since) < silentAfter {
		return nil
	}
	return fmt.Errorf("for %s: %w", time.Since(g.since).Round(time.Second), g.silent)
}

// whole lets work flow; after a declaration the journal may have been made anew.
func (g *guard) whole(reconnects uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sure, g.lost = true, reconnects
	if g.reason == "" {
		return
	}
	g.reason, g.newest = "", 0
	g.log.Info("the streams are as declared; going on")
	g.gate.Lift(continuityHold)
}

// halt stops everything and writes down what this worker knows, for the command that a
// person will use.
func (g *guard) halt(ctx context.Context, broken *outbox.Broken) {
	reason := broken.Error()
	g.mu.Lock()
	news := reason != g.reason
	g.sure, g.reason = false, reason
	g.mu.Unlock()
	if !news {
		return
	}
	g.gate.Hold(continuityHold, delivery.StateHalted, reason)
	g.stop()
	for _, f := range broken.Findings {
		g.log.Error("halted: a stream is not what it was; nothing is sent or acked until a person has declared it",
			zap.String("stream", f.Stream), zap.String("break", string(f.Break)), zap.String("reason", f.String()))
	}
	if err := g.continuity.Report(ctx, broken); err != nil {
		g.log.Warn("what was found is not written down; `meterworker accept-restored` may not see all of it", zap.Error(err))
	}
}

// holds refuses an outbox that lacks what the journal mentions.
func (g *guard) holds(ctx context.Context, newest uint64) error {
	if err := g.continuity.Holds(ctx, newest); err == nil {
		return nil
	}
	if err := g.look(ctx); err != nil {
		return err // broken, or it cannot be told
	}
	return g.continuity.Holds(ctx, newest) // a server that lagged has caught up
}

// halted is the reason, "" while the streams are whole.
func (g *guard) halted() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason
}

// grown takes note of an acknowledged write. The journal only grows: a sequence that is
// not above one that was acknowledged before the write began shows another journal.
func (g *guard) grown(before, sequence uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sequence <= before {
		g.sure, g.newest = false, sequence
		return false
	}
	g.newest = max(g.newest, sequence)
	return true
}

func (g *guard) floor() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newest
}

// guardedStore is the journal's store behind the guard.
type guardedStore struct {
	journal.Store
	guard *guard
}

// Mark implements journal.Store.
func (s guardedStore) Mark(ctx context.Context, partition int, id string, data []byte) (uint64, error) {
	if err := s.guard.clear(ctx); err != nil {
		return 0, err
	}
	sequence, err := s.Store.Mark(ctx, partition, id, data)
	if err != nil {
		s.guard.doubt()
	}
	return sequence, err // says itself what failed
}

// Append implements journal.Store.
func (s guardedStore) Append(ctx context.Context, partition int, kind journal.Kind, marker uint64, id string, data []byte) (journal.Appended, error) {
	if err := s.guard.clear(ctx); err != nil {
		return journal.Appended{}, err
	}
	before := s.guard.floor()
	appended, err := s.Store.Append(ctx, partition, kind, marker, id, data)
	switch {
	case err != nil:
		s.guard.doubt()
	case !appended.Duplicate && !s.guard.grown(before, appended.Sequence):
		return journal.Appended{}, fmt.Errorf("%w: it gave sequence %d after %d", journal.ErrBroken, appended.Sequence, before)
	case !appended.Duplicate:
		s.guard.continuity.Heard(outbox.JournalStream, appended.Sequence)
	}
	return appended, err // says itself what failed
}
