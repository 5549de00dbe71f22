package ratelimit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// bucketKey is the one key that the replicas share.
const bucketKey = "bucket"

// errAgain says that somebody else was faster, or that what was just written is to be
// read: look again at once.
var errAgain = errors.New("the shared bucket has changed")

// record is what the key holds: a schedule in the server's time.
type record struct {
	schedule

	// Epoch is drawn whenever the schedule begins anew. It tells a replica that what it
	// knew of the server's clock may be of another server, or of before a step.
	Epoch string `json:"epoch"`
}

// A schedule begins anew where the key is missing, unreadable or from a clock that
// has stepped. Nobody knows then what is leased and not spent: nothing is leased for
// longer than that can be (maxAhead, and the slot that begins there). Being reckoned
// from the server's own timestamp of that write, which needs no estimate, this is in
// the record as a Next of zero.
const quarantine = maxAhead + longestSlot + 100*time.Millisecond

func (r *record) quarantine() time.Duration { return quarantine + seconds(2.1/r.Rate) }

// absurd tells that the schedule cannot be one of now: it is further ahead than leases
// reach.
func (r *record) absurd(now time.Time) bool {
	return r.Next.Sub(now) > maxAhead+r.quarantine()+time.Second || r.Paused.Sub(now) > MaxPause+time.Second
}

// seen is a record at its revision.
type seen struct {
	record

	revision uint64
}

// written is a write of ours, in local time.
type written struct {
	revision       uint64
	data           []byte
	sent, answered time.Time
}

// cell is the key, and what is known of it.
type cell struct {
	rate  float64
	batch int
	open  func(context.Context) (jetstream.KeyValue, error)

	kv    jetstream.KeyValue // nil: to be opened
	last  record             // the last one seen, for when the key is lost
	wrote written            // the last write that was confirmed

	// alone says that nobody else had written when last seen: then our own write is the
	// newest, and reading it again would be a round trip for nothing.
	alone bool
}

// aloneFor bounds it to less than a bucket that was lost and made anew is in
// quarantine, so that equal revisions are not taken for the same.
const aloneFor = 250 * time.Millisecond

func newCell(cfg SharedConfig) cell {
	return cell{rate: cfg.Rate, batch: cfg.Batch, open: cfg.Open, last: record{schedule: newSchedule(cfg.Rate)}}
}

// forget makes sure that the next read asks the server.
func (c *cell) forget() { c.alone = false }

// read returns the record; sampled is told when a write of ours is seen, with the
// server's timestamp of it.
func (c *cell) read(ctx context.Context, sampled func(w written, stamped time.Time, epoch string)) (seen, error) {
	if c.alone && time.Since(c.wrote.answered) < aloneFor {
		return seen{c.last, c.wrote.revision}, nil
	}
	if c.kv == nil {
		kv, err := c.open(ctx)
		if err != nil {
			return seen{}, err
		}
		c.kv = kv
	}
	entry, err := c.kv.Get(ctx, bucketKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return seen{}, c.create(ctx)
	case err != nil:
		return seen{}, c.failed(fmt.Errorf("read the shared bucket: %w", err))
	}
	at := seen{revision: entry.Revision()}
	if json.Unmarshal(entry.Value(), &at.record) != nil || at.Epoch == "" {
		return seen{}, c.anew(ctx, at)
	}
	// A bucket made anew counts its revisions from 1 again: the content tells ours.
	c.alone = at.revision == c.wrote.revision && bytes.Equal(entry.Value(), c.wrote.data)
	if c.alone {
		sampled(c.wrote, entry.Created(), at.Epoch)
	}
	c.settle(&at.record, entry.Created())
	return at, nil
}

// settle completes a record that was just read.
func (c *cell) settle(r *record, created time.Time) {
	r.Configured, r.batch = c.rate, c.batch
	if r.Rate <= 0 {
		r.Rate = c.rate
	}
	r.bound()
	if r.Next.IsZero() {
		r.Next = created.Add(r.quarantine())
	}
	c.last = *r
}

// write stores the record in the place of the revision that was read.
func (c *cell) write(ctx context.Context, at seen) error {
	alone := c.alone
	if err := c.put(ctx, at.record, at.revision, c.kv.Update); err != nil {
		return err
	}
	c.alone, c.last = alone, at.record
	return nil
}

// touch writes the record as it is, for the timestamp, and has it read.
func (c *cell) touch(ctx context.Context, at seen) error {
	return cmp.Or(c.put(ctx, at.record, at.revision, c.kv.Update), errAgain)
}

// anew begins the schedule again, with the rate and the pause that were last seen to
// be in force, and has it read.
func (c *cell) anew(ctx context.Context, at seen) error {
	return cmp.Or(c.put(ctx, c.begun(), at.revision, c.kv.Update), errAgain)
}

// create is anew where there is no key.
func (c *cell) create(ctx context.Context) error {
	return cmp.Or(c.put(ctx, c.begun(), 0, func(ctx context.Context, key string, data []byte, _ uint64) (uint64, error) {
		return c.kv.Create(ctx, key, data)
	}), errAgain)
}

func (c *cell) begun() record {
	r := c.last
	r.Next, r.Epoch = time.Time{}, rand.Text()
	return r
}

// put swaps the record for the revision. Without a confirmation it may be stored or
// not: whatever it was to lease is lost.
func (c *cell) put(ctx context.Context, r record, revision uint64, swap func(context.Context, string, []byte, uint64) (uint64, error)) error {
	c.alone = false
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the shared bucket: %w", err)
	}
	sent := time.Now()
	revision, err = swap(ctx, bucketKey, data, revision)
	if err != nil {
		return c.failed(fmt.Errorf("write the shared bucket: %w", err))
	}
	c.wrote = written{revision, data, sent, time.Now()}
	return nil
}

// failed tells a swap that was lost from a server that is out of reach. What was
// opened is then opened again: the bucket may have gone with the server.
func (c *cell) failed(err error) error {
	c.alone = false
	if conflict(err) {
		return errAgain
	}
	c.kv = nil
	return err
}

// conflict reports a compare-and-swap that lost. On a replicated bucket it is
// another code, and errors.Is(err, ErrKeyExists) is false.
func conflict(err error) bool {
	const wrongSequence, wrongSequenceReplicated = 10071, 10164
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == wrongSequence || api.ErrorCode == wrongSequenceReplicated) {
		return true
	}
	return errors.Is(err, jetstream.ErrKeyExists)
}
