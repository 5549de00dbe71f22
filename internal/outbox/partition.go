package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// fetchWait bounds one pull. A drain waits for the pull under way, so that no
// message is left with a worker that has gone.
const fetchWait = time.Second

// Partition pulls one partition's messages and keeps the held ones alive.
type Partition struct {
	number   int
	streams  *Streams
	consumer jetstream.Consumer
	ackWait  time.Duration

	mu   sync.Mutex
	held map[uint64]*Message
}

// Partition returns the partition's puller. Only the owner may use it. The error
// is a [Refused] when the stream or the consumer is not what it was.
func (s *Streams) Partition(ctx context.Context, number int) (*Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := s.reopen(ctx, number)
	if err != nil {
		return nil, err
	}
	return &Partition{
		number: number, streams: s, consumer: consumer,
		ackWait: consumer.CachedInfo().Config.AckWait, held: map[uint64]*Message{},
	}, nil
}

// reopen returns the consumer, and creates it again when somebody has deleted it.
// Then everything that is kept comes again and the journal recognises it, as long as it
// is the same stream.
func (s *Streams) reopen(ctx context.Context, number int) (jetstream.Consumer, error) {
	if err := s.unchanged(ctx); err != nil {
		return nil, err
	}
	return s.consumer(ctx, number)
}

// Fetch hands up to n messages to each, as they arrive, and returns when the
// pull is over: n came, or a second has passed. It is not cut short: what the
// server has sent is handed out.
func (p *Partition) Fetch(n int, each func(*Message)) error {
	err := p.pull(n, func(raw *nats.Msg) error {
		if err := faultpoint.At(faultpoint.Fetched); err != nil {
			return err
		}
		if m := p.take(raw); m != nil {
			each(m)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pull partition %d: %w", p.number, p.explain(err))
	}
	return nil
}

// explain looks, after a failed pull, whether the consumer is gone; if so, it is there
// again for the next pull.
func (p *Partition) explain(err error) error {
	if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrConsumerDeleted) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, gone := p.streams.reopen(ctx, p.number)
	return errors.Join(err, gone)
}

// take returns the message, or nil for a copy of one that is held already.
func (p *Partition) take(raw *nats.Msg) *Message {
	meta, err := raw.Metadata()
	if err != nil {
		return nil // not a JetStream delivery; nothing to settle
	}
	p.streams.heard.raise(UsageStream, meta.Sequence.Stream)
	sequence := p.streams.logical(meta.Sequence.Stream)
	p.mu.Lock()
	defer p.mu.Unlock()
	if held, ok := p.held[sequence]; ok {
		held.raw, held.since = raw, time.Now()
		return nil
	}
	m := &Message{
		partition: p, raw: raw, since: time.Now(),
		subject: published(raw.Subject), sequence: sequence,
		storedAt: meta.Timestamp, body: raw.Data, headers: raw.Header, deliveries: meta.NumDelivered,
	}
	p.held[m.sequence] = m
	return m
}

func (p *Partition) release(m *Message) *nats.Msg {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[m.sequence] == m {
		delete(p.held, m.sequence)
	}
	return m.raw
}

// Held is how many messages are in this worker's hands.
func (p *Partition) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

// KeepAlive tells the server of held messages that work is in progress, each at
// least three times an AckWait, until ctx ends.
func (p *Partition) KeepAlive(ctx context.Context) {
	ticker := time.NewTicker(p.ackWait / 6)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, raw := range p.due(time.Now()) {
				_ = raw.InProgress() // a lost heartbeat costs a redelivery, which take recognises
			}
		}
	}
}

func (p *Partition) due(now time.Time) []*nats.Msg {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []*nats.Msg
	for _, m := range p.held {
		if now.Sub(m.since) >= p.ackWait/3 {
			m.since = now
			due = append(due, m.raw)
		}
	}
	return due
}

// Backlog is what waits in the partition.
type Backlog struct {
	Pending int       // not delivered yet
	Unacked int       // delivered, not settled; those handed back with a delay included
	Floor   uint64    // every sequence up to it is acked
	Oldest  time.Time // lower bound of when the oldest unsettled message was stored; zero: nothing waits
}

// Backlog asks the server.
func (p *Partition) Backlog(ctx context.Context) (Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := p.consumer.Info(ctx)
	if err != nil {
		return Backlog{}, fmt.Errorf("backlog of partition %d: %w", p.number, err)
	}
	b := Backlog{Pending: int(info.NumPending), Unacked: info.NumAckPending, Floor: info.AckFloor.Stream}
	if b.Pending+b.Unacked == 0 {
		return b, nil
	}
	if b.Oldest, err = p.oldest(ctx, b.Floor+1); err != nil {
		return b, fmt.Errorf("oldest message of partition %d: %w", p.number, err)
	}
	return b, nil
}
