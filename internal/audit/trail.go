package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

const callTimeout = 5 * time.Second

// mostTries bounds the attempts to store one record.
const mostTries = 3

// Trail is the audit trail of one outbox.
type Trail struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open finds the stream. It creates and changes nothing.
func Open(ctx context.Context, js jetstream.JetStream) (*Trail, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, outbox.AuditStream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("stream %s does not exist, and nothing is done by hand without a record; create it with `meterworker provision`, or start `meterworker run` of this version once", outbox.AuditStream)
	case err != nil:
		return nil, fmt.Errorf("look up stream %s: %w", outbox.AuditStream, err)
	}
	return &Trail{js: js, stream: stream}, nil
}

// Run is one command that mutates.
type Run struct {
	trail    *Trail
	template Record
	part     int
}

// Begin prepares the records of one command. Nothing is stored yet.
func (t *Trail) Begin(action Action, who Who, why string, command []string) *Run {
	return &Run{trail: t, template: Record{Run: rand.Text(), Action: action, Who: who, Why: why, Command: command}}
}

// Intent stores what is about to be done. Only when it returns nil may that be done.
func (r *Run) Intent(ctx context.Context, what Record) error {
	r.part++
	if err := r.store(ctx, Intent, what); err != nil {
		return fmt.Errorf("nothing was done, since it cannot be recorded: %w", err)
	}
	return nil
}

// Result stores what came of the last intent. It is stored even when ctx has ended: what
// was done is done.
func (r *Run) Result(ctx context.Context, what Record) error {
	if err := r.store(context.WithoutCancel(ctx), Result, what); err != nil {
		return fmt.Errorf("it was done, but the result could not be recorded: %w", err)
	}
	return nil
}

func (r *Run) store(ctx context.Context, stage Stage, what Record) error {
	record := r.template
	record.Stage, record.Part, record.At = stage, r.part, time.Now().UTC()
	record.Total, record.Counts, record.Letters, record.Changes, record.Note = what.Total, what.Counts, what.Letters, what.Changes, what.Note
	return r.trail.append(ctx, record)
}

// append stores a record and awaits the PubAck.
func (t *Trail) append(ctx context.Context, record Record) error {
	data, err := record.encode()
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: record.subject(), Data: data, Header: nats.Header{jetstream.MsgIDHeader: {record.messageID()}}}
	for try := 1; ; try++ {
		ack, err := t.appendOnce(ctx, m)
		var refused *jetstream.APIError
		switch {
		case err == nil && ack.Stream != outbox.AuditStream:
			return fmt.Errorf("stream %s took the record instead of %s: let %s alone have the subjects usage.audit.*", ack.Stream, outbox.AuditStream, outbox.AuditStream)
		case err == nil:
			return nil
		case errors.As(err, &refused) || ctx.Err() != nil || try == mostTries:
			return fmt.Errorf("store a record in %s: %w", outbox.AuditStream, err)
		}
	}
}

func (t *Trail) appendOnce(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return t.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)) // append does
}
