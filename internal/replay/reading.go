package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// reading is one pass over the letters. It goes on at next with a new consumer
// when the old one is lost.
type reading struct {
	letters *Letters
	filter  Filter
	visit   func(Letter) error
	next    uint64 // the first letter that was not looked at yet
	visited int
	stopped bool // by visit, or by the limit
}

func (r *reading) done() bool { return r.stopped || r.next > r.filter.Through }

// read visits letters with one consumer, to the end if nothing comes between.
func (r *reading) read(ctx context.Context) error {
	consumer, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	name := consumer.CachedInfo().Name
	defer r.letters.forget(ctx, name)
	for pending := consumer.CachedInfo().NumPending; pending > 0 && !r.done(); {
		read, left, err := r.page(ctx, consumer, int(min(pending, pageSize)))
		if err != nil {
			return err
		}
		if pending = left; read == 0 { // deleted under our eyes
			if pending, err = r.pending(ctx, consumer); err != nil {
				return err
			}
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
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerLife,
	})
	if err != nil {
		return nil, fmt.Errorf("create a reader: %w", err)
	}
	return consumer, nil
}

// page fetches at most n letters and visits those selected. left is how many the
// server has after them.
func (r *reading) page(ctx context.Context, consumer jetstream.Consumer, n int) (read int, left uint64, err error) {
	fetching, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel() // ends the fetch where visit ends the page
	batch, err := consumer.Fetch(n, jetstream.FetchContext(fetching))
	if err != nil {
		return 0, 0, fmt.Errorf("fetch: %w", err)
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return read, left, fmt.Errorf("fetch: %w", err)
		}
		read, left = read+1, meta.NumPending
		letter := newLetter(meta.Sequence.Stream, r.letters.epoch, m.Subject(), m.Headers(), m.Data(), meta.Timestamp)
		if err := r.take(ctx, letter); err != nil || r.done() {
			return read, left, err
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return read, left, fmt.Errorf("fetch: %w", err)
	}
	return read, left, ctx.Err()
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

func (r *reading) pending(ctx context.Context, consumer jetstream.Consumer) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look up the reader: %w", err)
	}
	return info.NumPending, nil
}

// forget deletes the reader; the server does so by itself after consumerLife.
func (l *Letters) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.dlq.DeleteConsumer(ctx, name)
}
