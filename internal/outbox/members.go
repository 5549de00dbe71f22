package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ControlBucket is the key-value bucket, in memory, through which the replicas
// talk: who is there, and who serves what.
const ControlBucket = "usage_control"

const membersKey = "members"

const (
	// BeatEvery is how often a member shows that it is alive.
	BeatEvery = 2 * time.Second

	// missedBeats is how many looks in a row a member's beat must be unchanged to be
	// taken for gone: 8 s. Looks are counted, not time, so that a worker that was
	// itself paused does not take everybody else for gone.
	missedBeats = 4
)

// member is one replica's line in the members document.
type member struct {
	Beat uint64 `json:"beat"`
	Owns []int  `json:"owns"`
}

// Members is this worker's view of the fleet. What it says is a proposal: the
// journal's marker decides who owns a partition.
type Members struct {
	kv   jetstream.KeyValue
	self string

	mu    sync.Mutex
	beat  uint64
	owns  map[int]bool
	looks map[string]look
	live  map[string]member
}

type look struct {
	beat      uint64
	unchanged int
}

// Members joins the fleet's bucket. self must be unique among live workers and
// better be the same after a restart.
func (s *Streams) Members(ctx context.Context, self string) (*Members, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := s.js.KeyValue(ctx, ControlBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if !s.settings.Manage {
			return nil, &Refused{[]string{fmt.Sprintf("key-value bucket %s does not exist; create it, or set METERWORKER_MANAGE_STREAMS=true", ControlBucket)}}
		}
		kv, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: ControlBucket, Storage: jetstream.MemoryStorage, History: 1, Replicas: s.settings.Replicas,
			Description: "meterworker: members and the shared rate bucket",
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = s.js.KeyValue(ctx, ControlBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key-value bucket %s: %w", ControlBucket, err)
	}
	return &Members{kv: kv, self: self, owns: map[int]bool{}, looks: map[string]look{}, live: map[string]member{}}, nil
}

// Beat shows that this worker is alive and what it owns, and looks at the others.
func (m *Members) Beat(ctx context.Context) error {
	looked := false
	return m.update(ctx, func(all map[string]member) {
		if !looked { // once a beat, however often the swap is tried
			m.observe(all)
			looked = true
		}
		for id := range all {
			if _, alive := m.live[id]; !alive {
				delete(all, id)
			}
		}
		m.beat++
		mine := member{Beat: m.beat, Owns: []int{}}
		for p := range m.owns {
			mine.Owns = append(mine.Owns, p)
		}
		slices.Sort(mine.Owns)
		all[m.self], m.live[m.self] = mine, mine
	})
}

// Leave takes this worker out, so that others need not wait for it.
func (m *Members) Leave(ctx context.Context) error {
	return m.update(ctx, func(all map[string]member) { delete(all, m.self) })
}

// Owns notes what this worker owns; the others hear of it with the next beat.
func (m *Members) Owns(partition int, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owned {
		m.owns[partition] = true
	} else {
		delete(m.owns, partition)
	}
}

// Proposed reports whether this worker should own the partition, and whether
// another live worker still says that it does.
func (m *Members) Proposed(partition int) (mine, taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	best, most := "", uint64(0)
	for id, other := range m.live {
		if score := rendezvous(id, partition); best == "" || score > most || score == most && id > best {
			best, most = id, score
		}
		taken = taken || id != m.self && slices.Contains(other.Owns, partition)
	}
	return best == m.self, taken
}

// Live is how many workers are there.
func (m *Members) Live() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.live)
}

// rendezvous is a member's weight for a partition; the highest weight serves it,
// so a member that comes or goes moves only its own share.
func rendezvous(id string, partition int) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d/%s", partition, id)
	x := h.Sum64() // FNV's upper bits are poor for short inputs: finish with a mix
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func (m *Members) observe(all map[string]member) {
	clear(m.live)
	for id, other := range all {
		if id == m.self {
			continue
		}
		seen, known := m.looks[id]
		switch {
		case known && seen.beat == other.Beat:
			seen.unchanged++
		default:
			seen = look{beat: other.Beat}
		}
		m.looks[id] = seen
		if seen.unchanged < missedBeats {
			m.live[id] = other
		}
	}
	for id := range m.looks {
		if _, ok := all[id]; !ok {
			delete(m.looks, id)
		}
	}
}

// update changes the members document by compare-and-swap.
func (m *Members) update(ctx context.Context, change func(map[string]member)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		err := m.tryUpdate(ctx, change)
		if err == nil || !conflict(err) {
			return err
		}
	}
}

func (m *Members) tryUpdate(ctx context.Context, change func(map[string]member)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, revision := map[string]member{}, uint64(0)
	entry, err := m.kv.Get(ctx, membersKey)
	switch {
	case err == nil:
		revision = entry.Revision()
		if err := json.Unmarshal(entry.Value(), &all); err != nil {
			return fmt.Errorf("members document: %w", err)
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("members document: %w", err)
	}
	change(all)
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("members document: %w", err)
	}
	if revision == 0 {
		_, err = m.kv.Create(ctx, membersKey, data)
	} else {
		_, err = m.kv.Update(ctx, membersKey, data, revision)
	}
	if err != nil {
		return fmt.Errorf("members document: %w", err)
	}
	return nil
}

// codeRevision is the answer to a compare-and-swap that lost on a replicated
// bucket, where ErrKeyExists does not match.
const codeRevision = 10164

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && (api.ErrorCode == codeRevision || api.ErrorCode == 10071)
}
