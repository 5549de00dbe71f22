package outbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// appear writes this worker's line, and takes over the others'. m.mu is held.
func (m *Members) appear(all map[string]member) {
	all[m.self] = member{
		Beat: m.beat, Owns: append([]int{}, slices.Sorted(maps.Keys(m.owns))...), Leaving: m.leaving, Showing: m.shows,
	}
	m.live = maps.Clone(all)
}

// Tell has the others know at once what this worker owns, between two beats: who waits
// for a partition need not wait for the next one.
func (m *Members) Tell(ctx context.Context) error {
	return m.update(ctx, func(all map[string]member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		maps.DeleteFunc(all, m.gone)
		m.appear(all)
	})
}

// Look reads what the others own now. It is no look for their beats, which are counted.
func (m *Members) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, _, err := m.read(ctx)
	if err != nil {
		return fmt.Errorf("members document: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(all, m.gone)
	if own, there := m.live[m.self]; there {
		all[m.self] = own
	}
	m.live = all
	return nil
}

// Retire has nothing more proposed to this worker; the others hear of it with the next beat
// or Tell. What it owns it must still give up.
func (m *Members) Retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = true
}
