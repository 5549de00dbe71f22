package crowd

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// control is the key-value bucket usage_control, of which the one key of the shared
// rate is used here.
type control struct {
	mu       sync.Mutex
	random   *rand.Rand
	revision uint64
	value    []byte
	at       time.Time
	oneWay   time.Duration // to the server
}

// keys is the bucket as a worker reaches it.
type keys struct {
	jetstream.KeyValue

	control *control
}

// travel is a call's way to the server, or back.
func (c *control) travel() {
	c.mu.Lock()
	d := c.oneWay + time.Duration(c.random.Int64N(int64(c.oneWay/4)))
	c.mu.Unlock()
	<-time.After(d)
}

// Get implements jetstream.KeyValue.
func (k keys) Get(context.Context, string) (jetstream.KeyValueEntry, error) {
	k.control.travel()
	defer k.control.travel()
	k.control.mu.Lock()
	defer k.control.mu.Unlock()
	if k.control.revision == 0 {
		return nil, jetstream.ErrKeyNotFound
	}
	return entry{value: k.control.value, revision: k.control.revision, at: k.control.at}, nil
}

// Create implements jetstream.KeyValue.
func (k keys) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return k.Update(ctx, key, value, 0)
}

// Update implements jetstream.KeyValue.
func (k keys) Update(_ context.Context, _ string, value []byte, last uint64) (uint64, error) {
	k.control.travel()
	defer k.control.travel()
	k.control.mu.Lock()
	defer k.control.mu.Unlock()
	if k.control.revision != last {
		return 0, jetstream.ErrKeyExists
	}
	k.control.revision++
	k.control.value, k.control.at = value, time.Now()
	return k.control.revision, nil
}

type entry struct {
	jetstream.KeyValueEntry

	value    []byte
	revision uint64
	at       time.Time
}

func (e entry) Value() []byte      { return e.value }
func (e entry) Revision() uint64   { return e.revision }
func (e entry) Created() time.Time { return e.at }
