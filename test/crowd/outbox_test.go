package crowd

import (
	"container/heap"
	"strings"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

const (
	partitions = 24

	fetchWaits = time.Second // for messages
)

// outbox is the stream, with a consumer for each partition.
type outbox struct {
	mu         sync.Mutex
	last       uint64
	partitions [partitions]consumer
	unsettled  int
	again      int           // messages that were handed out once more
	drained    chan struct{} // closed when the last message is settled
}

// consumer hands out delayed messages that are due before new ones, as JetStream does.
type consumer struct {
	fresh   []*message
	delayed backlog
	news    chan struct{} // closed and replaced when there is something
}

// backlog is ordered by the time from which a message may be handed out again.
type backlog []*message

func (b *backlog) Len() int           { return len(*b) }
func (b *backlog) Less(i, j int) bool { return (*b)[i].due.Before((*b)[j].due) }
func (b *backlog) Swap(i, j int)      { (*b)[i], (*b)[j] = (*b)[j], (*b)[i] }
func (b *backlog) Push(m any)         { *b = append(*b, m.(*message)) }
func (b *backlog) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}

type message struct {
	outbox    *outbox
	partition int
	sequence  uint64
	subject   string
	body      []byte
	at        time.Time
	due       time.Time
}

func newOutbox() *outbox {
	o := &outbox{drained: make(chan struct{})}
	for p := range o.partitions {
		o.partitions[p].news = make(chan struct{})
	}
	return o
}

func (o *outbox) publish(e usage.Event) error {
	body, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	m := &message{outbox: o, sequence: o.last, subject: e.Subject(), body: body, at: time.Now()}
	m.partition = partitionOf(m.subject)
	c := &o.partitions[m.partition]
	c.fresh = append(c.fresh, m)
	o.unsettled++
	c.wake()
	return nil
}

// partitionOf spreads customers as evenly as JetStream's own mapping does.
func partitionOf(subject string) int {
	hash := uint32(2166136261) // FNV-1a, which JetStream uses, too
	for _, b := range []byte(strings.Join(strings.Split(subject, ".")[2:], "")) {
		hash = (hash ^ uint32(b)) * 16777619
	}
	return int(hash % partitions)
}

func (c *consumer) wake() {
	close(c.news)
	c.news = make(chan struct{})
}

// take hands out up to n messages, or says when there may be some.
func (o *outbox) take(p, n int) (taken []*message, due time.Time, news <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &o.partitions[p]
	now := time.Now()
	for len(taken) < n && len(c.delayed) > 0 && !c.delayed[0].due.After(now) {
		taken = append(taken, heap.Pop(&c.delayed).(*message))
	}
	o.again += len(taken)
	more := min(n-len(taken), len(c.fresh))
	taken = append(taken, c.fresh[:more]...)
	c.fresh = c.fresh[more:]
	due = now.Add(fetchWaits)
	if len(c.delayed) > 0 && c.delayed[0].due.Before(due) {
		due = c.delayed[0].due
	}
	return taken, due, c.news
}

// pull is one partition as its owner sees it.
type pull struct {
	outbox    *outbox
	partition int
	stop      <-chan struct{}
	takes     time.Duration // a round trip
}

// Fetch implements delivery.Outbox.
func (p pull) Fetch(n int, each func(delivery.Message)) error {
	<-time.After(p.takes)
	end := time.Now().Add(fetchWaits)
	for time.Now().Before(end) {
		taken, due, news := p.outbox.take(p.partition, n)
		for _, m := range taken {
			each(m)
		}
		if len(taken) > 0 {
			return nil
		}
		select {
		case <-time.After(time.Until(due)):
		case <-news:
		case <-p.stop:
			return nil
		}
	}
	return nil
}

func (m *message) Sequence() uint64     { return m.sequence }
func (m *message) Subject() string      { return m.subject }
func (m *message) Header(string) string { return "" }
func (m *message) Body() []byte         { return m.body }
func (m *message) StoredAt() time.Time  { return m.at }

// Ack implements delivery.Message.
func (m *message) Ack() error {
	m.outbox.mu.Lock()
	defer m.outbox.mu.Unlock()
	if m.outbox.unsettled--; m.outbox.unsettled == 0 {
		close(m.outbox.drained)
	}
	return nil
}

// Nak implements delivery.Message.
func (m *message) Nak(delay time.Duration) error {
	m.outbox.mu.Lock()
	defer m.outbox.mu.Unlock()
	m.due = time.Now().Add(delay)
	c := &m.outbox.partitions[m.partition]
	heap.Push(&c.delayed, m)
	c.wake()
	return nil
}

// Drop implements delivery.Message: it comes again when AckWait is over.
func (m *message) Drop() { _ = m.Nak(30 * time.Second) }
