package replay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

// ErrNotFound says that there is no dead letter of that number any more, or yet.
var ErrNotFound = errors.New("not found (replayed or discarded already?)")

const (
	callTimeout = 5 * time.Second
	metaEpoch   = "epoch" // where package outbox stamps its streams

	// pageSize bounds the letters in memory: 32 of the largest that a server takes
	// by default (1 MiB) are half of what the client keeps for a slow reader.
	pageSize = 32

	// headerPageSize is for letters without bodies, which have a few KiB at most.
	headerPageSize = 500

	// pageTimeout bounds the wait for a page whose letters are there.
	pageTimeout = 5 * time.Second

	// consumerLife is how long the server keeps a reader that asks for nothing, as
	// while somebody scrolls. A longer pause costs a new one.
	consumerLife = time.Minute

	// mostTries bounds the attempts to go on reading at one place.
	mostTries = 5
)

// Letters are the dead letters of one outbox.
type Letters struct {
	js    jetstream.JetStream
	dlq   jetstream.Stream
	usage jetstream.Stream
	epoch string
}

// Open finds the streams. It creates and changes nothing.
func Open(ctx context.Context, js jetstream.JetStream) (*Letters, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	dlq, err := find(ctx, js, outbox.DLQStream)
	if err != nil {
		return nil, err
	}
	usage, err := find(ctx, js, outbox.UsageStream)
	if err != nil {
		return nil, err
	}
	l := &Letters{js: js, dlq: dlq, usage: usage, epoch: usage.CachedInfo().Config.Metadata[metaEpoch]}
	if l.epoch == "" {
		l.epoch = strconv.FormatInt(usage.CachedInfo().Created.UnixNano(), 36)
	}
	if theirs := dlq.CachedInfo().Config.Metadata[metaEpoch]; theirs != "" && theirs != l.epoch {
		return nil, fmt.Errorf("stream %s belongs to another %s stream (epoch %s, not %s): one of them was restored or recreated alone; restore both from the same moment",
			outbox.DLQStream, outbox.UsageStream, theirs, l.epoch)
	}
	return l, nil
}

func find(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("stream %s does not exist on this server; check NATS_URL, or start `meterworker run`, which creates it", name)
	case err != nil:
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream, nil
}

// Get reads one letter. The error wraps [ErrNotFound] where there is none.
func (l *Letters) Get(ctx context.Context, id uint64) (Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := l.dlq.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, fmt.Errorf("dead letter %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	return newLetter(id, l.epoch, m.Subject, m.Header, m.Data, m.Time), nil
}

// Each visits the letters that the filter selects, oldest first, page by page.
// Letters that die while it reads are left out. It ends early with what visit
// returns, or when ctx ends.
func (l *Letters) Each(ctx context.Context, f Filter, visit func(Letter) error) error {
	return l.read(ctx, &reading{letters: l, filter: f, visit: visit, pageSize: pageSize})
}

// headers is [Letters.Each] without the bodies, many letters a page.
func (l *Letters) headers(ctx context.Context, f Filter, visit func(Letter) error) error {
	return l.read(ctx, &reading{letters: l, filter: f, visit: visit, headersOnly: true, pageSize: headerPageSize})
}

func (l *Letters) read(ctx context.Context, r *reading) error {
	if r.filter.Through == 0 {
		last, err := l.Last(ctx)
		if err != nil {
			return err
		}
		r.filter.Through = last
	}
	r.next = max(r.filter.From, 1)
	for tries := 1; !r.done(); tries++ {
		from := r.next
		err := r.read(ctx)
		if r.stopped || err == nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.next > from {
			tries = 0
		}
		if tries >= mostTries || pause(ctx, tries) != nil {
			return fmt.Errorf("read dead letters from %d on: %w", r.next, err)
		}
	}
	return nil
}

// Last is the number of the newest dead letter there ever was.
func (l *Letters) Last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := l.dlq.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", outbox.DLQStream, err)
	}
	return info.State.LastSeq, nil
}

// pause waits longer with each try that came to nothing, about 3 s in all: a leader
// change is over by then.
func pause(ctx context.Context, tries int) error {
	timer := time.NewTimer(time.Duration(tries) * 300 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
