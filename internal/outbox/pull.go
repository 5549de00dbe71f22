package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullGrace is how long after a pull's end the server's last word may take.
const pullGrace = time.Second

// pullRequest is what the server is asked for.
type pullRequest struct {
	Batch   int           `json:"batch"`
	Expires time.Duration `json:"expires"` // in nanoseconds
}

// errPullOver is the server's word that no more will come of a pull.
var errPullOver = errors.New("the pull is over")

// pull asks for up to n messages and hands each on as it arrives. It is what
// jetstream's Fetch does, but for one thing: a message without a body and with a header
// "Status", which a producer may store, is taken by Fetch for a word of the server's. It
// would end every pull that it is part of, and never be seen. Here the two are told
// apart by what a producer cannot choose: a stored message comes with the
// subject on which it is acked, a word of the server's with none.
func (p *Partition) pull(n int, each func(*nats.Msg) error) error {
	return p.streams.pull(p.consumer.CachedInfo().Name, n, each)
}

// pull is that of any consumer of USAGE.
func (s *Streams) pull(consumer string, n int, each func(*nats.Msg) error) error {
	request, err := json.Marshal(pullRequest{n, fetchWait})
	if err != nil {
		return err
	}
	conn := s.js.Conn()
	arrived := make(chan *nats.Msg, n+8) // the messages, and the server's words beside them
	sub, err := conn.ChanSubscribe(conn.NewInbox(), arrived)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is gone, and the subscription with it
	next := jetstream.DefaultAPIPrefix + "CONSUMER.MSG.NEXT." + UsageStream + "." + consumer
	if err := conn.PublishRequest(next, sub.Subject, request); err != nil {
		return err
	}
	return collect(n, arrived, each)
}

// collect returns when n messages have come, when the server says that no more will,
// or when it should have said so.
func collect(n int, arrived <-chan *nats.Msg, each func(*nats.Msg) error) error {
	timer := time.NewTimer(fetchWait + pullGrace)
	defer timer.Stop()
	for n > 0 {
		var err error
		select {
		case m := <-arrived:
			if m.Reply == "" {
				err = serversWord(m)
				break
			}
			n--
			err = each(m)
		case <-timer.C:
			return nil
		}
		if errors.Is(err, errPullOver) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serversWord is what a message that is not stored says; nil for a sign of life.
func serversWord(m *nats.Msg) error {
	status, words := m.Header.Get("Status"), m.Header.Get("Description")
	switch status {
	case "100":
		return nil
	case "404", "408":
		return errPullOver
	case "503":
		return nats.ErrNoResponders
	}
	if status == "409" && strings.Contains(strings.ToLower(words), "consumer deleted") {
		return jetstream.ErrConsumerDeleted
	}
	return fmt.Errorf("the server answers %s %s", status, words)
}
