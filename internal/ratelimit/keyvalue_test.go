package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// memory is a server with the one key, in virtual time.
type memory struct {
	mu       sync.Mutex
	value    []byte // nil: no key
	revision uint64
	stamped  time.Time
	ahead    time.Duration // its clock, of the bubble's
}

func (m *memory) get() (value []byte, revision uint64, stamped time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.value, m.revision, m.stamped
}

// swap stores the value in the place of the revision, 0 for no key.
func (m *memory) swap(value []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (m.value == nil) != (revision == 0) || revision != 0 && revision != m.revision {
		return 0, &jetstream.APIError{ErrorCode: 10071}
	}
	m.value, m.stamped = value, time.Now().Add(m.ahead)
	m.revision++
	return m.revision, nil
}

// lose makes the key go, as with a server that was restarted.
func (m *memory) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value, m.revision = nil, 0
}

// garble puts something else in the key's place.
func (m *memory) garble() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value = []byte(`{"next":7}`)
	m.revision++
}

// mislead puts the schedule far ahead.
func (m *memory) mislead() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r record
	_ = json.Unmarshal(m.value, &r) // what a replica has written
	r.Next = r.Next.Add(time.Hour)
	m.value, _ = json.Marshal(r)
	m.revision++
}

func (m *memory) step(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead += d
}

// fault is what happens to a write.
type fault int

const (
	none       fault = iota
	refused          // it is not stored, and reported as failed
	unanswered       // it is stored, and reported as failed
	outrun           // somebody else stores the same first: a lost swap
)

var errOutOfReach = errors.New("nats: timeout")

// line is one replica's way to the server. It shows the replica the server with all
// times moved by skew, as a replica would see it whose own clock is off by that.
type line struct {
	jetstream.KeyValue

	server *memory
	skew   time.Duration
	code   jetstream.ErrorCode // of a lost swap

	mu     sync.Mutex
	random *rand.Rand
	delay  [2]time.Duration // least and most, one way
	faulty func(random *rand.Rand) fault
	cut    bool
	opened int
}

func newLine(server *memory, seed uint64) *line {
	return &line{
		server: server, random: rand.New(rand.NewPCG(seed, 1)), code: 10071,
		delay: [2]time.Duration{100 * time.Microsecond, time.Millisecond},
	}
}

func (l *line) open(context.Context) (jetstream.KeyValue, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	if l.cut {
		return nil, errOutOfReach
	}
	return l, nil
}

func (l *line) setFaults(faulty func(random *rand.Rand) fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faulty = faulty
}

func (l *line) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// travel takes the time one way, or all the time there is.
func (l *line) travel(ctx context.Context) error {
	l.mu.Lock()
	d, cut := l.delay[0]+time.Duration(l.random.Int64N(int64(l.delay[1]-l.delay[0])+1)), l.cut
	l.mu.Unlock()
	if cut {
		<-ctx.Done()
		return errOutOfReach
	}
	pause(ctx, d, nil)
	return ctx.Err()
}

func (l *line) fault() fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.faulty == nil {
		return none
	}
	return l.faulty(l.random)
}

type entry struct {
	jetstream.KeyValueEntry

	value    []byte
	revision uint64
	created  time.Time
}

func (e entry) Value() []byte      { return e.value }
func (e entry) Revision() uint64   { return e.revision }
func (e entry) Created() time.Time { return e.created }

// Get implements jetstream.KeyValue.
func (l *line) Get(ctx context.Context, _ string) (jetstream.KeyValueEntry, error) {
	if err := l.travel(ctx); err != nil {
		return nil, err
	}
	value, revision, stamped := l.server.get()
	if err := l.travel(ctx); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, jetstream.ErrKeyNotFound
	}
	return entry{value: moved(value, l.skew), revision: revision, created: stamped.Add(l.skew)}, nil
}

// Create implements jetstream.KeyValue.
func (l *line) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return l.Update(ctx, key, value, 0)
}

// Update implements jetstream.KeyValue.
func (l *line) Update(ctx context.Context, _ string, value []byte, revision uint64) (uint64, error) {
	if err := l.travel(ctx); err != nil {
		return 0, err
	}
	value = moved(value, -l.skew)
	what := l.fault()
	if what == outrun {
		_, _ = l.server.swap(value, revision)
	}
	if what == refused {
		return 0, errOutOfReach
	}
	revision, err := l.server.swap(value, revision)
	if err != nil {
		err = &jetstream.APIError{ErrorCode: l.code}
	}
	if away := l.travel(ctx); away != nil || what == unanswered {
		return 0, errOutOfReach
	}
	return revision, err
}

// moved is the record with all its times moved.
func moved(value []byte, d time.Duration) []byte {
	var r record
	if d == 0 || json.Unmarshal(value, &r) != nil {
		return value
	}
	for _, at := range []*time.Time{&r.Next, &r.Paused, &r.Interval, &r.Breathed, &r.CutAt, &r.Held} {
		if !at.IsZero() {
			*at = at.Add(d)
		}
	}
	value, _ = json.Marshal(r) // it has just been one
	return value
}
