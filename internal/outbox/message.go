package outbox

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// Message is one message of USAGE in this worker's hands.
type Message struct {
	partition *Partition
	subject   string
	sequence  uint64
	storedAt  time.Time
	body      []byte
	headers   map[string][]string

	deliveries uint64

	raw   *nats.Msg // latest copy; guarded by partition.mu
	since time.Time // last sign of life to the server; guarded by partition.mu
}

// Sequence is the message's number: the one in USAGE, and more from a restored copy
// on, so that no number ever means two messages.
func (m *Message) Sequence() uint64 { return m.sequence }

// Subject is the subject as the producer published it.
func (m *Message) Subject() string { return m.subject }

// StoredAt is when JetStream stored the message, by the server's clock.
func (m *Message) StoredAt() time.Time { return m.storedAt }

// Deliveries is how often JetStream had delivered the message when this worker took it, this
// time included.
func (m *Message) Deliveries() uint64 { return m.deliveries }

// Body is the message's body. It must not be changed.
func (m *Message) Body() []byte { return m.body }

// Header is the first value of a header, or "".
func (m *Message) Header(name string) string {
	if values := m.headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Ack ends the message. An ack that gets lost costs a redelivery, no more: what
// became of the message stands in the journal.
func (m *Message) Ack() error {
	raw := m.partition.release(m)
	err := faultpoint.At(faultpoint.AckUnsent)
	if err == nil {
		err = raw.Ack()
	}
	if err == nil {
		err = faultpoint.At(faultpoint.AckSent)
	}
	if err != nil {
		return fmt.Errorf("ack %d: %w", m.sequence, err)
	}
	return nil
}

// Nak hands the message back, to be delivered again after delay.
func (m *Message) Nak(delay time.Duration) error {
	raw := m.partition.release(m)
	err := faultpoint.At(faultpoint.NakUnsent)
	if err == nil {
		err = raw.NakWithDelay(max(delay, time.Millisecond))
	}
	if err != nil {
		return fmt.Errorf("hand back %d: %w", m.sequence, err)
	}
	return nil
}

// Drop lets go of the message without a word to the server, which delivers it
// again after AckWait, to whoever serves the partition then.
func (m *Message) Drop() { m.partition.release(m) }

// published is the subject before the stream's transform:
// usage.part.<p>.<events|replay>.<event name>.<customer> becomes
// usage.<events|replay>.<event name>.<customer>.
func published(stored string) string {
	partitioned, ok := strings.CutPrefix(stored, "usage.part.")
	_, rest, found := strings.Cut(partitioned, ".")
	if !ok || !found {
		return stored
	}
	return "usage." + rest
}
