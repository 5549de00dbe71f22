package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
)

// pullGrace is how long after a pull's end the server's last word may take.
const pullGrace = time.Second

// errPullOver ends a pull: no more will come of it, or no more is wanted.
var errPullOver = errors.New("the pull is over")

// pull asks for n letters and hands each on as it arrives. It stands in for jetstream's
// Fetch, which takes a stored message without a body and with a header "Status" for a word
// of the server's: such a letter would end every page that it is part of. Here the two
// are told apart by the reply subject, which a stored message has.
func (l *Letters) pull(ctx context.Context, consumer string, n int, each func(*nats.Msg) error) error {
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires"` // in nanoseconds
	}{n, pageTimeout})
	if err != nil {
		return err
	}
	conn := l.js.Conn()
	arrived := make(chan *nats.Msg, n+8) // the letters, and the server's words beside them
	sub, err := conn.ChanSubscribe(conn.NewInbox(), arrived)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is gone, and the subscription with it
	next := jetstream.DefaultAPIPrefix + "CONSUMER.MSG.NEXT." + outbox.DLQStream + "." + consumer
	if err := conn.PublishRequest(next, sub.Subject, request); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	err = collect(ctx, n, arrived, each)
	if errors.Is(err, errPullOver) {
		return nil
	}
	return err
}

// collect returns when n letters have come, when each or the server says that it is over,
// or when the server should have said so.
func collect(ctx context.Context, n int, arrived <-chan *nats.Msg, each func(*nats.Msg) error) error {
	timer := time.NewTimer(pageTimeout + pullGrace)
	defer timer.Stop()
	for n > 0 {
		select {
		case m := <-arrived:
			if m.Reply == "" {
				if err := serversWord(m); err != nil {
					return err
				}
				continue
			}
			n--
			if err := each(m); err != nil {
				return err
			}
			timer.Reset(pageTimeout + pullGrace) // a visit may take its time
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serversWord is what a message that is not stored says; nil for a sign of life.
func serversWord(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "100":
		return nil
	case "404", "408":
		return errPullOver
	default:
		return fmt.Errorf("pull: the server answers %s %s", status, m.Header.Get("Description"))
	}
}
