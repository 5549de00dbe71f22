package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// Config is what a partition needs to know.
type Config struct {
	Worker string        // name of the claiming worker, for people
	Nonce  string        // unique to this process: prefix of every message id
	Window time.Duration // how long an identifier is remembered (36 d)
	Limit  int64         // memory of this partition's ledger, in bytes; see Partition.SetLimit
	Lost   []Span        // times whose records are missing: see Span
}

// marker is the body of an owner marker. Only the position of the marker means
// anything; the body is for people.
type marker struct {
	Version int       `json:"version"`
	Worker  string    `json:"worker"`
	At      time.Time `json:"at"`
}

func newMarker(worker string, now time.Time) ([]byte, error) {
	data, err := json.Marshal(marker{Version: formatVersion, Worker: worker, At: now.UTC()})
	if err != nil {
		return nil, fmt.Errorf("encode owner marker: %w", err)
	}
	return data, nil
}

// openIntent is an intent without a record.
type openIntent struct {
	entry Entry
	stamp time.Time
}

// Claim takes the partition over: it appends a marker, reads everything before
// it into a ledger, and records what a former owner left open as unknown. When it
// returns, the former owner can begin nothing any more.
//
// It retries until ctx ends; ErrLost means that yet another worker came after us.
func Claim(ctx context.Context, store Store, cfg Config, partition int) (*Partition, error) {
	c := claim{store: store, cfg: cfg, partition: partition}
	if err := c.mark(ctx); err != nil {
		return nil, err
	}
	if err := c.read(ctx); err != nil {
		return nil, err
	}
	if err := c.fit(); err != nil {
		return nil, err
	}
	p := newPartition(&c)
	if err := p.adopt(ctx, c.open); err != nil {
		_ = p.Close(ctx)
		return nil, err
	}
	return p, nil
}

type claim struct {
	store     Store
	cfg       Config
	partition int

	id     string
	marker uint64
	clock  serverClock
	ledger *Ledger
	open   map[uint64]openIntent

	entries []Entry // room for those of one message

	untidy  int    // entries read since the last look at the ledger's size
	ordinal uint64 // last one seen since the last marker
}

// tidyEvery is how many entries are read between two looks at the ledger's size:
// a few megabytes.
const tidyEvery = 1 << 16

// maxMarking is how long the same marker is written again and again, and so how much
// too old the ages of this life are at most: they are reckoned from the first try.
const maxMarking = time.Minute

func (c *claim) mark(ctx context.Context) error {
	var body []byte
	return again(ctx, func() (err error) {
		if now := time.Now(); c.id == "" || elapsed(c.clock.before, now) > maxMarking {
			c.clock.before = now
			// Random, since a clock that was stepped back may show the same time twice, and
			// a marker under a used id would not be stored.
			c.id = fmt.Sprintf("%s-%d-%s", c.cfg.Nonce, c.partition, rand.Text()[:10])
			if body, err = newMarker(c.cfg.Worker, now); err != nil {
				return err
			}
		}
		c.marker, err = c.store.Mark(ctx, c.partition, c.id+"-m", body)
		c.clock.after = time.Now()
		if err != nil {
			return err
		}
		return faultpoint.At(faultpoint.MarkerStored)
	})
}

func (c *claim) read(ctx context.Context) error {
	return again(ctx, func() error {
		c.ledger, c.open = newLedger(), map[uint64]openIntent{}
		c.ledger.lost = c.cfg.Lost
		c.clock.marker, c.clock.latest, c.untidy, c.ordinal = time.Time{}, time.Time{}, 0, 0
		// Ages need the marker's stamp, which comes last.
		defer func() { c.ledger.settle(c.clock) }()
		return c.store.Read(ctx, c.partition, c.marker, c.message)
	})
}

func (c *claim) message(m Stored) error {
	if m.Time.After(c.clock.latest) {
		c.clock.latest = m.Time
	}
	if m.Kind == OwnerKind {
		return c.owner(m)
	}
	body, err := unpackInto(c.entries, m.Data)
	if err != nil {
		return unreadable(c.partition, m, err)
	}
	c.entries = body.entries
	if body.ordinal <= c.ordinal {
		return nil // a late copy of a write that was read already
	}
	c.ordinal = body.ordinal
	c.ledger.compare(m.Time, body.wall)
	for _, e := range body.entries {
		c.entry(e, m.Time, body.wall)
	}
	if c.untidy += len(body.entries); c.untidy < tidyEvery {
		return nil
	}
	c.untidy = 0
	return c.fit()
}

func (c *claim) owner(m Stored) error {
	c.ordinal = 0
	if m.Sequence == c.marker {
		c.clock.marker = m.Time
	}
	var body marker
	if err := json.Unmarshal(m.Data, &body); err != nil {
		return unreadable(c.partition, m, fmt.Errorf("%w: %w", ErrFormat, err))
	}
	if body.Version != formatVersion {
		return unreadable(c.partition, m, fmt.Errorf("%w: marker version %d", ErrFormat, body.Version))
	}
	return nil
}

// entry takes one entry in. Every record closes the sequence's intent; a dying
// letter does, too: nothing is sent for it any more, and an attempt that may have been
// counted was recorded as unknown before it.
func (c *claim) entry(e Entry, stamp, wall time.Time) {
	if e.State != Open {
		delete(c.open, e.Sequence)
		c.ledger.apply(e, stamp)
		return
	}
	if wall.Before(stamp) {
		stamp = wall
	}
	if old, ok := c.open[e.Sequence]; !ok || stamp.Before(old.stamp) {
		c.open[e.Sequence] = openIntent{e, stamp}
	}
}

// fit drops what is out of the window, and what is over the limit. For the limit
// the time of the claim counts, not that of the message just read: a burst of weeks
// ago may be forgotten now.
func (c *claim) fit() error {
	c.ledger.Expire(c.clock.latest, c.cfg.Window)
	now := c.clock.latest
	if local := c.clock.before.Round(0); local.After(now) {
		now = local
	}
	_, err := c.ledger.Shrink(c.cfg.Limit, now)
	return err
}

// again calls f until it succeeds, with a growing pause, unless the error is
// final (ErrLost, ErrBroken, an unreadable format, no memory) or ctx ends.
func again(ctx context.Context, f func() error) error {
	pause := 20 * time.Millisecond
	for {
		err := f()
		if err == nil || final(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w; last answer of the journal: %w", ctx.Err(), err)
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}
