package usage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
)

// restricted is a server with the stream and a producer who may do little.
func restricted(t *testing.T) (s *server.Server, stream jetstream.Stream) {
	t.Helper()
	s = startServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "worker", Password: "w"},
			{Username: "producer", Password: "p", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"usage.events.storage.*"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_producer.>"}},
			}},
		}
	})
	_, stream = startStream(t, connect(t, s, nats.UserInfo("worker", "w")), nil)
	return s, stream
}

func producer(t *testing.T, s *server.Server, options ...nats.Option) *usage.Publisher {
	t.Helper()
	js, err := jetstream.New(connect(t, s, append(options, nats.UserInfo("producer", "p"))...))
	if err != nil {
		t.Fatal(err)
	}
	return usage.NewPublisher(js)
}

func messages(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func meter(t *testing.T, name, identifier string) usage.Event {
	t.Helper()
	e, err := usage.New(usage.Params{EventName: name, Customer: "cus_1", Value: 1, Identifier: identifier, Timestamp: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A denied publish ends long before its context, says that nothing is stored, and takes
// neither the caller's error handler nor the next publish with it.
func TestPublishWithoutPermission(t *testing.T) {
	s, stream := restricted(t)
	heard := make(chan error, 2)
	p := producer(t, s, nats.CustomInboxPrefix("_INBOX_producer"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { heard <- err }))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stored := meter(t, "storage", "req-2") // of one moment: published again it is the same message
	for range 2 {                          // the second is not taken for the first
		_, err := p.Publish(ctx, meter(t, "api_calls", "req-1"))
		if !errors.Is(err, usage.ErrRefused) || !errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, usage.ErrUnconfirmed) {
			t.Errorf("Publish: %v, want ErrRefused for want of the permission", err)
		}
		if !strings.Contains(err.Error(), `"usage.events.api_calls.cus_1"`) || !strings.Contains(err.Error(), "give these credentials the permission") {
			t.Errorf("%v names neither subject nor remedy", err)
		}
		if err := <-heard; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("the caller's handler heard %v", err)
		}
		if receipt, err := p.Publish(ctx, stored); err != nil || receipt.Sequence != 1 {
			t.Errorf("after a denial: %+v, %v, want it stored as 1", receipt, err)
		}
	}
	if ctx.Err() != nil {
		t.Error("it took until the deadline")
	}
	if n := messages(t, stream); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

// Who may publish and not receive the answer has stored the event, and hears that nobody
// knows, with each one.
func TestPublishWithoutAnInbox(t *testing.T) {
	s, stream := restricted(t)
	p := producer(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, id := range []string{"req-1", "req-2"} {
		_, err := p.Publish(ctx, meter(t, "storage", id))
		if !errors.Is(err, usage.ErrUnconfirmed) || errors.Is(err, usage.ErrRefused) || !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v, want ErrUnconfirmed for want of an inbox", id, err)
		}
		if err != nil && !strings.Contains(err.Error(), "nats.CustomInboxPrefix") {
			t.Errorf("%v does not say what to do", err)
		}
	}
	if ctx.Err() != nil {
		t.Error("it took until the deadline")
	}
	if n := messages(t, stream); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}
