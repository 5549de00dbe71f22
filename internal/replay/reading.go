package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reading is one pass over the letters. It goes on at next with a new consumer
// when the old one is lost.
type reading struct {
	letters *Letters
	filter  Filter
	visit   func(Letter) error
	next    uint64 // the first letter that was not looked at yet

	headersOnly bool // letters come without their bodies
	pageSize    int
	visited     int
	stopped     bool // by visit, or by the limit

	delivered uint64 // by the present consumer
}

func (r *reading) done() bool { return r.stopped || r.next > r.filter.Through }

// errGap says that a reader must be replaced: it does not acknowledge, so what got
// lost on the way to us does not come again.
var errGap = errors.New("letters got lost on the way")

// read visits letters with one consumer, to the end if nothing comes between.
func (r *reading) read(ctx context.Context) error {
	consumer, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	defer r.letters.forget(ctx, consumer.CachedInfo().Name)
	r.delivered = 0
	for pending := consumer.CachedInfo().NumPending; pending > 0 && !r.done(); {
		if pending, err = r.page(ctx, consumer, int(min(pending, uint64(r.pageSize)))); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := r.letters.dlq.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubjects: r.filter.subjects(), AckPolicy: jetstream.AckNonePolicy,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerLife, HeadersOnly: r.headersOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("create a reader: %w", err)
	}
	return consumer, nil
}

// page pulls n letters and visits those selected. left is how many the server
// has after them.
func (r *reading) page(ctx context.Context, consumer jetstream.Consumer, n int) (left uint64, err error) {
	read := 0
	err = r.letters.pull(ctx, consumer.CachedInfo().Name, n, func(m *nats.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if r.delivered++; meta.Sequence.Consumer != r.delivered {
			return errGap
		}
		read, left = read+1, meta.NumPending
		letter := newLetter(meta.Sequence.Stream, r.letters.epoch, m.Subject, m.Header, m.Data, meta.Timestamp)
		if err := r.take(ctx, letter); err != nil {
			return err
		}
		if r.done() {
			return errPullOver
		}
		return nil
	})
	if r.done() || r.stopped {
		return 0, err
	}
	if read < n { // late, lost, or deleted under our eyes: a new reader knows
		return 0, errors.Join(ctx.Err(), err, errGap)
	}
	return left, errors.Join(ctx.Err(), err)
}

// take looks at one letter.
func (r *reading) take(ctx context.Context, letter Letter) error {
	if r.next = letter.ID + 1; letter.ID > r.filter.Through || !r.filter.Matches(letter) {
		return ctx.Err()
	}
	if err := r.visit(letter); err != nil {
		r.stopped = true
		return err
	}
	r.visited++
	r.stopped = r.visited == r.filter.Limit
	return ctx.Err()
}

// forget deletes the reader; the server does so by itself after consumerLife.
func (l *Letters) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.dlq.DeleteConsumer(ctx, name)
}
