package sender

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey  = "sk_test_51abcDEFghiJKL0123456789"
	ours     = "req-1"
	accepted = `{"object":"billing.meter_event","identifier":"req-1","livemode":false}`
)

// longEnough is a time-out that no test waits for.
const longEnough = time.Minute

var errNotReady = errors.New("past the safe window")

func testConfig(base string) Config {
	return Config{
		BaseURL: base, Timeout: longEnough,
		Key:  func() string { return testKey },
		Live: func() bool { return false },
	}
}

func newSender(t *testing.T, cfg Config, dial dialFunc) *V1 {
	t.Helper()
	v, err := newV1(cfg, dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func testEvent(t *testing.T, change func(*usage.Params)) usage.Event {
	t.Helper()
	p := usage.Params{EventName: "api_calls", Identifier: ours, Customer: "cus_1", Value: 7}
	if change != nil {
		change(&p)
	}
	event, err := usage.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

func testAttempt(t *testing.T) delivery.Attempt {
	t.Helper()
	return delivery.Attempt{
		Event: testEvent(t, nil), IdempotencyKey: "key-1",
		Ready: func(context.Context) error { return nil },
	}
}

// listen serves each connection of a loopback listener with serve, numbered from
// 1, and waits for all of them at the end of the test.
func listen(t *testing.T, serve func(conn *net.TCPConn, n int)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				serve(conn.(*net.TCPConn), n)
				_ = conn.Close()
			}()
			defer func() { <-served }()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}
