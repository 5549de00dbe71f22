package outbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// takeOverBar is how soon the partitions of a killed worker must be served again;
	// claimRoom is what of it the claims need: a marker, and the reading of the journal.
	takeOverBar = 15 * time.Second
	claimRoom   = 5 * time.Second

	shared = 24 // partitions
)

// noticeboard is a key-value bucket without a server, so that time can be virtual.
type noticeboard struct {
	jetstream.KeyValue

	mu       sync.Mutex
	value    []byte
	revision uint64
}

type notice struct {
	jetstream.KeyValueEntry

	value    []byte
	revision uint64
}

func (n notice) Value() []byte    { return n.value }
func (n notice) Revision() uint64 { return n.revision }

func (b *noticeboard) Get(context.Context, string) (jetstream.KeyValueEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revision == 0 {
		return nil, jetstream.ErrKeyNotFound
	}
	return notice{value: b.value, revision: b.revision}, nil
}

func (b *noticeboard) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return b.Update(ctx, key, value, 0)
}

func (b *noticeboard) Update(_ context.Context, _ string, value []byte, revision uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if revision != b.revision {
		return 0, jetstream.ErrKeyExists
	}
	b.value = value
	b.revision++
	return b.revision, nil
}

// crew are workers that share partitions by their members' document alone, each with a beat
// of its own phase.
type crew struct {
	t     *testing.T
	board *noticeboard

	mu     sync.Mutex
	owner  map[int]string
	claims int
	ends   map[string]context.CancelFunc
	beats  sync.WaitGroup
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	c := &crew{t: t, board: &noticeboard{}, owner: map[int]string{}, ends: map[string]context.CancelFunc{}}
	t.Cleanup(func() {
		for _, end := range c.ends {
			end()
		}
		c.beats.Wait()
	})
	return c
}

// join starts a worker that does what cmd/meterworker's fleet does at each beat.
func (c *crew) join(id string) {
	ctx, end := context.WithCancel(context.Background())
	c.ends[id] = end
	h := &hand{holds: map[int]bool{}, refused: map[int]time.Time{}}
	m := &Members{kv: c.board, self: id, owns: map[int]bool{}, looks: map[string]look{}, live: map[string]member{}}
	c.beats.Go(func() {
		ticker := time.NewTicker(BeatEvery)
		defer ticker.Stop()
		for introduced := false; ctx.Err() == nil; introduced = true {
			if err := m.Beat(ctx); err != nil {
				c.t.Error(err)
			}
			if introduced || m.Live() == 1 {
				c.share(m, h)
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

// hand is what one worker takes for its own.
type hand struct {
	holds   map[int]bool
	refused map[int]time.Time // not to be claimed before
}

// share claims what is proposed and free, and gives up the rest, also what the fence refuses
// since another worker's marker came later.
func (c *crew) share(m *Members, h *hand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range shared {
		mine, taken := m.Proposed(p)
		switch {
		case h.holds[p] && c.owner[p] != m.self:
			h.holds[p], h.refused[p] = false, time.Now().Add(10*time.Second)
		case h.holds[p] && !mine:
			h.holds[p] = false
			delete(c.owner, p)
		case mine && !h.holds[p] && !taken && time.Now().After(h.refused[p]):
			h.holds[p], c.owner[p] = true, m.self
			c.claims++
		}
		m.Owns(p, h.holds[p])
	}
}

func (c *crew) owners() map[int]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.owner)
}

func (c *crew) claimed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.NewTimer(d).C
	synctest.Wait()
}

func (c *crew) of(id string) (share []int) {
	for p, owner := range c.owners() {
		if owner == id {
			share = append(share, p)
		}
	}
	slices.Sort(share)
	return share
}

// TestTakeOver: what a silent worker owned is others' soon enough to be claimed within the
// bar, whenever between two beats it fell silent.
func TestTakeOver(t *testing.T) {
	for silent := range 8 {
		t.Run(fmt.Sprintf("%d eighths of a beat", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrew(t)
				for i := range 3 {
					c.join(fmt.Sprintf("worker-%d", i))
					pass(BeatEvery / 3)
				}
				pass(20*BeatEvery + time.Duration(silent)*BeatEvery/8)
				lost := c.of("worker-1")
				if len(lost) == 0 || len(c.owners()) != shared {
					t.Fatalf("worker-1 owns %v of %v", lost, c.owners())
				}
				c.ends["worker-1"]()
				pass(takeOverBar - claimRoom)
				for _, p := range lost {
					if owner := c.owners()[p]; owner == "" || owner == "worker-1" {
						t.Errorf("partition %d is %q's %s after worker-1 fell silent", p, owner, takeOverBar-claimRoom)
					}
				}
			})
		})
	}
}

// TestOwnersStay: while nobody comes or goes no partition changes hands; who comes, under
// whatever name, takes its share only, and each partition of it once.
func TestOwnersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t)
		for i := range 4 {
			c.join(fmt.Sprintf("worker-%d", i))
		}
		pass(20 * BeatEvery)
		for _, tt := range []struct{ goes, comes string }{
			{"", ""}, {"", "worker-9"}, {"worker-2", "worker-2"}, {"worker-3", "worker-3/another place"},
		} {
			share := c.of(tt.goes)
			before, claims := c.owners(), c.claimed()
			if tt.goes != "" {
				c.ends[tt.goes]()
			}
			if tt.comes != "" {
				c.join(tt.comes)
			}
			pass(500 * BeatEvery)
			moved := 0
			for p, owner := range c.owners() {
				if owner == before[p] && owner != tt.goes {
					continue
				}
				if moved++; owner != tt.comes && !slices.Contains(share, p) {
					t.Errorf("%v: partition %d went from %s to %s", tt, p, before[p], owner)
				}
			}
			if took := c.claimed() - claims; took != moved || len(c.owners()) != shared {
				t.Errorf("%v: %d claims for %d partitions that moved; owners %v", tt, took, moved, c.owners())
			}
			if tt.comes != "" && len(c.of(tt.comes)) == 0 {
				t.Errorf("%v: %s took nothing", tt, tt.comes)
			}
		}
	})
}
