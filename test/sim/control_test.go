package sim

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/sender"
)

// control is the bucket usage_control, of which only the one key of the shared rate is
// used. Guarded by w.mu.
type control struct {
	revision uint64
	value    []byte
	at       time.Time
}

// lessor is where the life's permits come from: for every fourth seed from the account's
// shared bucket, else from an equal share of its own.
func (l *life) lessor() (from ratelimit.Lessor, ceiling func() float64) {
	most, batch := float64(perSecond/mostLives), 1
	if l.w.stream {
		most, batch = streamRate/mostLives, sender.MaxBatch
	}
	if l.w.dice%4 == 1 {
		most *= mostLives
		from = ratelimit.NewShared(ratelimit.SharedConfig{
			Rate: most, Batch: batch, Trouble: func(error) {},
			Open: func(context.Context) (jetstream.KeyValue, error) { return keys{l: l}, nil },
		})
	} else {
		from = ratelimit.NewLocalInBatches(most, batch)
	}
	return from, func() float64 { return l.gate.Share() * most }
}

// keys is the bucket as one life reaches it.
type keys struct {
	jetstream.KeyValue

	l *life
}

// call is one call to the bucket.
func (k keys) call(do func(c *control) error) error {
	var reached bool
	var took time.Duration
	k.l.awake()
	k.l.w.lock(func() {
		reached = k.l.reaches()
		took = between(k.l.w.dice.draw("control", uint64(k.l.number), k.l.nth("control")), 100*time.Microsecond, 2*time.Millisecond)
	})
	if !reached {
		pass(time.Second)
		return errUnreachable
	}
	pass(took)
	k.l.w.mu.Lock()
	defer k.l.w.mu.Unlock()
	return do(&k.l.w.control)
}

// Get implements jetstream.KeyValue.
func (k keys) Get(context.Context, string) (read jetstream.KeyValueEntry, err error) {
	err = k.call(func(c *control) error {
		if c.revision == 0 {
			return jetstream.ErrKeyNotFound
		}
		read = entry{stored: *c}
		return nil
	})
	k.l.awake() // the answer is read when the process runs
	return read, err
}

// Create implements jetstream.KeyValue.
func (k keys) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return k.Update(ctx, key, value, 0)
}

// Update implements jetstream.KeyValue.
func (k keys) Update(_ context.Context, _ string, value []byte, last uint64) (revision uint64, err error) {
	err = k.call(func(c *control) error {
		if c.revision != last {
			return jetstream.ErrKeyExists
		}
		*c = control{c.revision + 1, value, time.Now()}
		revision = c.revision
		k.l.w.seen.note("shared bucket: written")
		return nil
	})
	k.l.awake()
	return revision, err
}

// entry is the key's value as it was read.
type entry struct {
	jetstream.KeyValueEntry

	stored control
}

func (e entry) Value() []byte      { return e.stored.value }
func (e entry) Revision() uint64   { return e.stored.revision }
func (e entry) Created() time.Time { return e.stored.at }
