package journaltest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/journal"
)

// Op is a method of journal.Store.
type Op uint8

// The methods.
const (
	Mark Op = iota + 1
	Append
	Read
	Purge
)

// Call is what a fault is drawn for.
type Call struct {
	Op        Op
	Partition int
	Kind      journal.Kind // of a Mark or an Append
	N         int          // counts the client's calls, from 1
}

// Fault is what happens to one call. The zero value is none.
type Fault struct {
	Refuse bool          // it is not done, and answered with ErrFault
	Lose   bool          // it is done, and answered with ErrFault; a Read breaks off half-way
	Before time.Duration // until it reaches the server, even when the caller gives up
	After  time.Duration // from there to the answer
	Copy   time.Duration // a copy of a write arrives this much after it; 0: none
}

// Client is one process's journal.Store.
type Client struct {
	store   *Store
	crashed chan struct{}
	crash   sync.Once

	mu     sync.Mutex
	calls  int
	faults func(Call) Fault
}

var _ journal.Store = (*Client)(nil)

// Client returns a store for one process; faults draws the fault of each call, nil:
// none.
func (s *Store) Client(faults func(Call) Fault) *Client {
	return &Client{store: s, faults: faults, crashed: make(chan struct{})}
}

// SetFaults replaces what draws the faults.
func (c *Client) SetFaults(faults func(Call) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = faults
}

// Crash ends the process as far as the store can tell: nothing that it calls from now
// on has an effect, or an answer other than an error that is final. What had left
// for the server still arrives. Its partitions can then be closed without
// writing anything.
func (c *Client) Crash() { c.crash.Do(func() { close(c.crashed) }) }

func (c *Client) draw(call Call) Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	call.N = c.calls
	if c.faults == nil {
		return Fault{}
	}
	return c.faults(call)
}

// dead returns an error that the journal takes for final, once the process or the
// call has ended.
func (c *Client) dead(ctx context.Context) error {
	select {
	case <-c.crashed:
		return fmt.Errorf("journaltest: the process has crashed: %w", context.Canceled)
	default:
		return ctx.Err()
	}
}

// pass lets d pass.
func (c *Client) pass(ctx context.Context, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.crashed:
		case <-ctx.Done():
		}
	}
	return c.dead(ctx)
}

// Mark implements journal.Store.
func (c *Client) Mark(ctx context.Context, partition int, id string, data []byte) (uint64, error) {
	answer, err := c.write(ctx, Mark, write{partition: partition, kind: journal.OwnerKind, id: id, data: data})
	return answer.Sequence, err
}

// Append implements journal.Store.
func (c *Client) Append(ctx context.Context, partition int, kind journal.Kind, marker uint64, id string, data []byte) (journal.Appended, error) {
	return c.write(ctx, Append, write{partition: partition, kind: kind, fenced: true, marker: marker, id: id, data: data})
}

func (c *Client) write(ctx context.Context, op Op, w write) (journal.Appended, error) {
	w.data = slices.Clone(w.data)
	if err := c.dead(ctx); err != nil {
		return journal.Appended{}, err
	}
	fault := c.draw(Call{Op: op, Partition: w.partition, Kind: w.kind})
	began := time.Now()
	if fault.Refuse {
		return journal.Appended{}, c.failed(ctx, fault.Before+fault.After)
	}
	if fault.Copy > 0 {
		c.store.delay(w, began.Add(fault.Before+fault.Copy))
	}
	if err := c.pass(ctx, fault.Before); err != nil {
		c.store.delay(w, began.Add(fault.Before)) // it has left already
		return journal.Appended{}, err
	}
	answer, err := c.store.arrive(w)
	if fault.Lose {
		return journal.Appended{}, c.failed(ctx, fault.After)
	}
	if dead := c.pass(ctx, fault.After); dead != nil {
		return journal.Appended{}, dead
	}
	return answer, err
}

// failed lets d pass and answers nothing of use.
func (c *Client) failed(ctx context.Context, d time.Duration) error {
	if err := c.pass(ctx, d); err != nil {
		return err
	}
	return ErrFault
}

// Read implements journal.Store.
func (c *Client) Read(ctx context.Context, partition int, marker uint64, each func(journal.Stored) error) error {
	if err := c.dead(ctx); err != nil {
		return err
	}
	fault := c.draw(Call{Op: Read, Partition: partition})
	if err := c.pass(ctx, fault.Before); err != nil {
		return err
	}
	if fault.Refuse {
		return c.failed(ctx, fault.After)
	}
	messages, err := c.store.read(partition, marker)
	if err != nil {
		return err
	}
	if fault.Lose {
		messages = messages[:len(messages)/2]
	}
	for _, m := range messages {
		if err := each(m); err != nil {
			return err
		}
	}
	if fault.Lose {
		return c.failed(ctx, fault.After)
	}
	return c.pass(ctx, fault.After)
}

// PurgeIntents implements journal.Store.
func (c *Client) PurgeIntents(ctx context.Context, partition int, below uint64) error {
	if err := c.dead(ctx); err != nil {
		return err
	}
	fault := c.draw(Call{Op: Purge, Partition: partition})
	if err := c.pass(ctx, fault.Before); err != nil {
		return err
	}
	if fault.Refuse {
		return c.failed(ctx, fault.After)
	}
	c.store.purge(partition, below)
	if fault.Lose {
		return c.failed(ctx, fault.After)
	}
	return c.pass(ctx, fault.After)
}
