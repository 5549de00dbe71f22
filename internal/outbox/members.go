package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
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
	Beat    uint64 `json:"beat"`
	Owns    []int  `json:"owns"`
	Leaving bool   `json:"leaving,omitempty"` // it takes nothing more, and gives up what it owns
	Showing
}

// Showing is what a member tells of itself with each beat. The others need the state only;
// the rest is for people who ask from elsewhere, and no more than a line.
type Showing struct {
	State    string  `json:"state,omitempty"`     // of its breaker
	Reason   string  `json:"reason,omitempty"`    // why it is in that state, shortened
	Rate     float64 `json:"rate,omitempty"`      // permits a second since the beat before
	Held     int     `json:"held,omitempty"`      // messages in its hands
	Ledger   int64   `json:"ledger,omitempty"`    // memory of its ledger, in bytes
	LedgerOf int64   `json:"ledger_of,omitempty"` // what it may have at most
}

// longestReason in bytes keeps the members document small: it is read and written with
// every beat of every member.
const longestReason = 200

// Members is this worker's view of the fleet. What it says is a proposal: the
// journal's marker decides who owns a partition.
type Members struct {
	streams *Streams
	self    string

	writing sync.Mutex // held over a change of the document
	kv      jetstream.KeyValue

	mu      sync.Mutex // never held over a call to the server
	beat    uint64
	owns    map[int]bool
	shows   Showing
	leaving bool
	looks   map[string]look
	live    map[string]member
}

type look struct {
	beat      uint64
	unchanged int // looks since the one at which the beat was new
}

// Members joins the fleet's bucket. self must be unique among live workers and
// better be the same after a restart.
func (s *Streams) Members(ctx context.Context, self string) (*Members, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := s.Control(ctx)
	if err != nil {
		return nil, err
	}
	return &Members{streams: s, kv: kv, self: self, owns: map[int]bool{}, looks: map[string]look{}, live: map[string]member{}}, nil
}

// Control returns the bucket in memory, created where it is missing: it goes with a
// server that runs alone, and the fleet must not wait for a person then. So it is created
// also where the streams, which are kept, are only checked.
func (s *Streams) Control(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := s.js.KeyValue(ctx, ControlBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: ControlBucket, Storage: jetstream.MemoryStorage, History: 1, Replicas: s.settings.Replicas,
			Description: "meterworker: members and the shared rate bucket",
			Metadata:    s.metadata(),
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another replica was faster
			kv, err = s.js.KeyValue(ctx, ControlBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key-value bucket %s: %w", ControlBucket, err)
	}
	return kv, nil
}

// Beat shows that this worker is alive and what it owns, and looks at the others.
func (m *Members) Beat(ctx context.Context) error {
	looked := false
	return m.update(ctx, func(all map[string]member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !looked { // once a beat, however often the swap is tried
			m.observe(all)
			looked = true
		}
		maps.DeleteFunc(all, m.gone)
		m.distinguish(all)
		m.beat++
		m.appear(all)
	})
}

// distinguish takes another name where somebody else beats under ours: two
// containers with one host name would otherwise both claim everything, and take it from
// each other again and again. A beat ahead of ours is not ours; the entry that a
// former life of this worker left is met before the first beat only.
func (m *Members) distinguish(all map[string]member) {
	if m.beat > 0 && all[m.self].Beat > m.beat {
		m.self += "/" + newEpoch()
	}
}

// Leave takes this worker out, so that others need not wait for it.
func (m *Members) Leave(ctx context.Context) error {
	return m.update(ctx, func(all map[string]member) { delete(all, m.self) })
}

// Owns notes what this worker owns; the others hear of it with the next beat or Tell.
func (m *Members) Owns(partition int, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owned {
		m.owns[partition] = true
	} else {
		delete(m.owns, partition)
	}
}

// Shows notes what this worker tells of itself; the others hear of it with the next beat.
func (m *Members) Shows(s Showing) {
	if len(s.Reason) > longestReason {
		s.Reason = strings.ToValidUTF8(s.Reason[:longestReason], "") + "…"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shows = s
}

// Others are the states of the other live workers, by name.
func (m *Members) Others() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	others := map[string]string{}
	for id, other := range m.live {
		if id != m.self {
			others[id] = other.State
		}
	}
	return others
}

// Proposed reports whether this worker should own the partition, and whether
// another live worker still says that it does.
func (m *Members) Proposed(partition int) (mine, taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	best, most := "", uint64(0)
	for id, other := range m.live {
		score := rendezvous(id, partition)
		if !other.Leaving && (best == "" || score > most || score == most && id > best) {
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

// observe counts, for each of the others, the looks at an unchanged beat.
func (m *Members) observe(all map[string]member) {
	for id, other := range all {
		seen, known := m.looks[id]
		if known && seen.beat == other.Beat {
			seen.unchanged++
		} else {
			seen = look{beat: other.Beat}
		}
		m.looks[id] = seen
	}
	maps.DeleteFunc(m.looks, func(id string, _ look) bool {
		_, there := all[id]
		return !there
	})
}

// gone reports whether the member has been seen with this very beat too often. One
// that has joined or beaten since the last look has not.
func (m *Members) gone(id string, other member) bool {
	seen := m.looks[id]
	return id != m.self && seen.beat == other.Beat && seen.unchanged >= missedBeats
}

// update changes the members document by compare-and-swap. Of several who try at
// once one succeeds, so it ends.
func (m *Members) update(ctx context.Context, change func(map[string]member)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m.writing.Lock()
	defer m.writing.Unlock()
	restored := false
	for {
		err := m.swap(ctx, change)
		switch {
		case err == nil:
			return nil
		case vanished(err) && !restored:
			restored = true
			kv, err := m.streams.Control(ctx)
			if err != nil {
				return err
			}
			m.kv = kv
		case !conflict(err) || ctx.Err() != nil:
			return fmt.Errorf("members document: %w", err)
		}
	}
}

func (m *Members) swap(ctx context.Context, change func(map[string]member)) error {
	all, revision, err := m.read(ctx)
	if err != nil {
		return err
	}
	change(all)
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = m.kv.Create(ctx, membersKey, data)
	} else {
		_, err = m.kv.Update(ctx, membersKey, data, revision)
	}
	return err
}

// read returns the document and its revision, 0 without one. Where it is lost or
// cannot be read, the members that we last saw alive stand in for it, or the first to
// come back would take everything from everybody.
func (m *Members) read(ctx context.Context) (map[string]member, uint64, error) {
	entry, err := m.kv.Get(ctx, membersKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return m.lastSeen(), 0, nil
	case err != nil:
		return nil, 0, err
	}
	var all map[string]member
	if json.Unmarshal(entry.Value(), &all) != nil || all == nil {
		all = m.lastSeen()
	}
	return all, entry.Revision(), nil
}

func (m *Members) lastSeen() map[string]member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.live)
}

// conflict reports a compare-and-swap that lost. On a replicated bucket it is
// another code, and errors.Is(err, ErrKeyExists) is false.
func conflict(err error) bool {
	const wrongSequence, wrongSequenceReplicated = 10071, 10164
	code := apiCode(err)
	return errors.Is(err, jetstream.ErrKeyExists) || code == wrongSequence || code == wrongSequenceReplicated
}

// vanished reports that nobody answers for the bucket.
func vanished(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)
}
