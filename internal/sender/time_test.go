package sender

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

const bubbleTimeout = 10 * time.Second

// piped is a sender in a bubble whose connections are pipes to serve, and how to
// end both.
func piped(t *testing.T, connectAfter time.Duration, serve func(conn net.Conn)) (v *V1, end func()) {
	t.Helper()
	var served sync.WaitGroup
	cfg := testConfig("http://127.0.0.1:1")
	cfg.Timeout = bubbleTimeout
	v, err := newV1(cfg, func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(connectAfter):
		}
		near, far := net.Pipe()
		served.Go(func() {
			serve(far)
			_ = far.Close()
		})
		return near, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, func() {
		v.Close()
		served.Wait()
	}
}

func drain(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestTimeouts(t *testing.T) {
	accept := func(conn net.Conn) {
		if request(conn) != nil {
			respond(conn, "200 OK", accepted)
		}
		drain(conn)
	}
	after := func(d time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
				return err
			}
		}
	}
	for name, c := range map[string]struct {
		connect time.Duration
		ready   func(context.Context) error
		serve   func(net.Conn)
		want    delivery.Class
		took    time.Duration
	}{
		"no connection":        {time.Hour, after(0, nil), accept, delivery.NotSent, bubbleTimeout},
		"slow connection":      {9 * time.Second, after(0, nil), accept, delivery.Accepted, 9 * time.Second},
		"no answer":            {0, after(0, nil), drain, delivery.NoAnswer, bubbleTimeout},
		"no answer, all slow":  {9 * time.Second, after(time.Hour, nil), drain, delivery.NoAnswer, time.Hour + 19*time.Second},
		"Ready takes an hour":  {0, after(time.Hour, nil), accept, delivery.Accepted, time.Hour},
		"Ready refuses late":   {0, after(time.Hour, errNotReady), accept, delivery.NotSent, time.Hour},
		"nobody reads":         {0, after(0, nil), func(net.Conn) { <-time.After(time.Minute) }, delivery.NoAnswer, bubbleTimeout},
		"a byte each 10 s":     {0, after(0, nil), drip(10 * time.Second), delivery.NoAnswer, bubbleTimeout},
		"a byte each 3 s":      {0, after(0, nil), drip(3 * time.Second), delivery.NoAnswer, bubbleTimeout},
		"a byte each 10 ms":    {0, after(0, nil), drip(10 * time.Millisecond), delivery.Accepted, 1090 * time.Millisecond},
		"answer in the middle": {0, after(0, nil), slow(7*time.Second, accept), delivery.Accepted, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, end := piped(t, c.connect, c.serve)
				defer end()
				attempt := testAttempt(t)
				attempt.Ready = c.ready
				start := time.Now()
				answer := v.Send(t.Context(), attempt)
				if took := time.Since(start); answer.Class != c.want || took != c.took {
					t.Errorf("%+v after %v, want %v after %v", answer, took, c.want, c.took)
				}
			})
		})
	}
}

func slow(d time.Duration, serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		<-time.After(d)
		serve(conn)
	}
}

// drip answers one byte at a time.
func drip(pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		if request(conn) == nil {
			return
		}
		text := "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n" + padded(70)
		for i := range len(text) {
			<-time.After(pause)
			if _, err := conn.Write([]byte(text[i : i+1])); err != nil {
				return
			}
		}
		drain(conn)
	}
}

// The caller gives up: before the connection, while Ready decides, and while the
// answer is awaited.
func TestCancelled(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	ready := func(context.Context) error { return nil }
	for name, c := range map[string]struct {
		connect time.Duration
		ready   func(context.Context) error
		want    delivery.Class
	}{
		"connecting": {time.Hour, ready, delivery.NotSent},
		"held":       {0, wait, delivery.NotSent},
		"released":   {0, ready, delivery.NoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, end := piped(t, c.connect, drain)
				defer end()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				attempt := testAttempt(t)
				attempt.Ready = c.ready
				start := time.Now()
				if answer := v.Send(ctx, attempt); answer.Class != c.want || time.Since(start) != time.Second {
					t.Errorf("%+v after %v, want %v", answer, time.Since(start), c.want)
				}
			})
		})
	}
}

// A connection that dies while Ready decides has carried nothing: no attempt is
// spent and no outcome is unknown.
func TestConnectionLostWhileReadyDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lose := make(chan struct{})
		v, end := piped(t, 0, func(net.Conn) { <-lose })
		defer end()
		attempt := testAttempt(t)
		attempt.Ready = func(context.Context) error {
			close(lose)
			synctest.Wait()
			return nil
		}
		if answer := v.Send(t.Context(), attempt); answer.Class != delivery.NotSent {
			t.Errorf("%+v", answer)
		}
	})
}

// Close ends what is under way, and leaves nothing running: the bubble would
// report it.
func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, end := piped(t, 0, drain)
		connecting, endConnecting := piped(t, time.Hour, drain)
		answers := make(chan delivery.Answer)
		start := time.Now()
		go func() { answers <- v.Send(t.Context(), testAttempt(t)) }()
		go func() { answers <- connecting.Send(t.Context(), testAttempt(t)) }()
		synctest.Wait()
		end()
		if answer := <-answers; answer.Class != delivery.NoAnswer {
			t.Errorf("under way: %+v", answer)
		}
		endConnecting()
		if answer := <-answers; answer.Class != delivery.NotSent {
			t.Errorf("connecting: %+v", answer)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("closing took %v", took)
		}
	})
}
