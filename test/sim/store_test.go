package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
)

// owner is the journal's store as one life reaches it.
type owner struct{ l *life }

// callTimeout is how long a call to a server waits that does not answer.
const callTimeout = 5 * time.Second

func (o owner) Mark(ctx context.Context, partition int, id string, data []byte) (sequence uint64, err error) {
	err = o.l.effect(fmt.Sprintf("marker %d", partition), 0, func() error {
		sequence, err = o.l.client.Mark(ctx, partition, id, data)
		return err
	})
	return sequence, o.final(err)
}

func (o owner) Append(ctx context.Context, partition int, kind journal.Kind, marker uint64, id string, data []byte) (answer journal.Appended, err error) {
	err = o.l.effect(fmt.Sprintf("journal %d %s", partition, kind), 0, func() error {
		answer, err = o.l.client.Append(ctx, partition, kind, marker, id, data)
		o.l.w.lock(func() { o.l.w.books.read(partition) })
		return err
	})
	if errors.Is(err, journal.ErrLost) {
		o.l.w.lock(func() { o.l.w.seen.note("refusal: by the fence, " + string(kind)) })
	}
	return answer, o.final(err)
}

func (o owner) Read(ctx context.Context, partition int, marker uint64, each func(journal.Stored) error) error {
	return o.final(o.l.effect(fmt.Sprintf("reads journal %d", partition), 0, func() error {
		return o.l.client.Read(ctx, partition, marker, each)
	}))
}

func (o owner) PurgeIntents(ctx context.Context, partition int, below uint64) error {
	o.l.awake()
	return o.final(o.l.client.PurgeIntents(ctx, partition, below))
}

// final makes the end of the process an error after which the journal does not try
// again.
func (o owner) final(err error) error {
	if errors.Is(err, errDead) {
		return fmt.Errorf("%w: %w", err, context.Canceled)
	}
	return err
}

// nth counts the calls of a name. w.mu is held.
func (l *life) nth(call string) uint64 {
	l.calls[call]++
	return l.calls[call]
}

// journalFault draws what goes wrong with one call, and how long it takes otherwise.
func (l *life) journalFault(c journaltest.Call) (f journaltest.Fault) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	n := []uint64{uint64(l.number), uint64(c.Partition), l.nth(fmt.Sprint("journal ", c.Partition))}
	r := l.w.dice.draw("journal", n...)
	f.Before, f.After = between(r, 100*time.Microsecond, 3*time.Millisecond), between(r, 100*time.Microsecond, 2*time.Millisecond)
	if !l.reaches() {
		return journaltest.Fault{Refuse: true, Before: between(r, callTimeout/2, callTimeout)}
	}
	switch {
	case l.w.meets(journalRefused, 8, n...):
		f.Refuse = true
	case l.w.meets(journalUnheard, 8, n...):
		f.Lose, f.After = true, between(r, time.Millisecond, callTimeout)
	case l.w.meets(journalSlow, 10, n...):
		f.Before = between(r, time.Second, 20*time.Second)
	case c.Op == journaltest.Append && l.w.meets(journalCopied, 10, n...):
		f.Copy = between(r, time.Second, 10*time.Minute)
	}
	return f
}

// witness is an owned journal that notes what is asked of it, and holds it against
// what happened.
type witness struct {
	*journal.Partition
	l *life
}

// Lookup implements delivery.Journal.
func (j witness) Lookup(q journal.Question) journal.Known {
	known := j.Partition.Lookup(q)
	j.l.w.lock(func() {
		verdict := known.Verdict.String()
		if known.Unknown {
			verdict += ", attempt of unknown outcome"
		}
		j.l.w.seen.note("ledger: " + verdict)
		j.l.w.note(j.l.number, "ledger says "+verdict, q.Sequence, "")
	})
	return known
}

// Intend implements delivery.Journal.
func (j witness) Intend(ctx context.Context, e journal.Entry) (journal.Moment, error) {
	j.l.tie("intends", e.Sequence)
	m, err := j.Partition.Intend(ctx, e)
	j.l.tie("intended", e.Sequence)
	if err == nil {
		j.l.w.lock(func() { j.l.of(e.Sequence).intended(e.Key) })
	}
	return m, err
}

// Record implements delivery.Journal.
func (j witness) Record(ctx context.Context, entries ...journal.Entry) error {
	j.l.tie("records", entries[0].Sequence)
	j.l.w.lock(func() {
		for _, e := range entries {
			j.l.w.note(j.l.number, "records "+e.State.String(), e.Sequence, "")
			j.judge(e)
		}
	})
	return j.Partition.Record(ctx, entries...)
}

// judge looks at a record that is about to be stored; what a dead process does is of no
// consequence. w.mu is held.
func (j witness) judge(e journal.Entry) {
	if j.l.dead {
		return
	}
	a := j.l.of(e.Sequence)
	switch e.State {
	case journal.NotSent:
		if a.doubtful {
			j.l.w.violate("I4", "message %d is recorded as not sent by life %d, after an attempt that may have been counted", e.Sequence, j.l.number)
		}
		a.open = false
	case journal.Dying:
		header, err := deadletter.Unpack(e.Letter)
		if err != nil {
			j.l.w.violate("I13", "message %d dies with a letter that cannot be read: %v", e.Sequence, err)
			return
		}
		j.l.w.books.dying(j.l, e.Sequence, deadletter.Reason(header[deadletter.HeaderReason]))
	case journal.Open, journal.Delivered, journal.Unknown, journal.Dead:
	}
}
