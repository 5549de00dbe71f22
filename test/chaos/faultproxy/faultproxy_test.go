package faultproxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must come; brief is how long nothing must come.
const (
	patience = 20 * time.Second
	brief    = 50 * time.Millisecond
)

// echo starts a server that answers every byte with itself, and a proxy before it.
func echo(t *testing.T) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	p, err := Start(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("heard %q (%v), want %q", got, err, want)
	}
}

// silent fails when anything comes within a moment.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(brief)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("read %d bytes, error %v; want silence", n, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func wantReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("the connection ended with %v, want a reset", err)
	}
}

func heal(t *testing.T, p *Proxy) {
	t.Helper()
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
}

func TestEverythingPassesInOrder(t *testing.T) {
	conn := dial(t, echo(t))
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite() // the echo ends with it, so the half-close was passed on
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back (%v), want the %d that were sent", len(got), err, len(sent))
	}
}

func TestHeldBytesArriveAfterwards(t *testing.T) {
	for _, d := range []Direction{Up, Down} {
		p := echo(t)
		conn := dial(t, p)
		say(t, conn, "before")
		hear(t, conn, "before")
		p.Set(d, Hold)
		say(t, conn, "during")
		silent(t, conn)
		heal(t, p)
		hear(t, conn, "during")
	}
}

func TestSwallowedBytesEndTheConnection(t *testing.T) {
	p := echo(t)
	conn, idle := dial(t, p), dial(t, p)
	say(t, idle, "made")
	hear(t, idle, "made")
	p.Part(Swallow)
	say(t, conn, "lost")
	silent(t, conn)
	heal(t, p)
	wantReset(t, conn)
	say(t, idle, "intact")
	hear(t, idle, "intact")
}

func TestHalfOpen(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	p.Set(Down, Swallow)
	say(t, conn, "it arrives, the answer does not")
	silent(t, conn)
	heal(t, p)
	wantReset(t, conn)
}

func TestDelay(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	p.Delay(2 * brief)
	began := time.Now()
	say(t, conn, "late")
	hear(t, conn, "late")
	if took := time.Since(began); took < 4*brief {
		t.Errorf("there and back in %s, want at least %s", took, 4*brief)
	}
}

func TestCutAfterBytes(t *testing.T) {
	for _, tt := range []struct {
		d    Direction
		want int
	}{{Up, 5}, {Down, 5}} {
		p := echo(t)
		p.CutAfter(tt.d, 5)
		conn := dial(t, p)
		say(t, conn, "1234567890")
		got, err := io.ReadAll(conn)
		if len(got) > tt.want || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("direction %d: %d bytes, error %v; want at most %d and a reset", tt.d, len(got), err, tt.want)
		}
		p.CutAfter(tt.d, 6)
		whole := dial(t, p)
		say(t, whole, "12345")
		hear(t, whole, "12345")
	}
}

func TestReset(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	say(t, conn, "there")
	hear(t, conn, "there")
	p.Reset()
	wantReset(t, conn)
	again := dial(t, p)
	say(t, again, "again")
	hear(t, again, "again")
}

func TestRefuse(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	say(t, conn, "there")
	hear(t, conn, "there")
	p.Refuse()
	wantReset(t, conn)
	if refused, err := net.Dial("tcp", p.Addr()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a port that refuses: %v, %v", refused, err)
	}
	heal(t, p)
	again := dial(t, p)
	say(t, again, "again")
	hear(t, again, "again")
}

// A target that is not there looks like one that resets.
func TestNobodyBehind(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	p, err := Start(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	conn, err := net.Dial("tcp", p.Addr())
	if errors.Is(err, unix.ECONNRESET) {
		return // it came as soon as that
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	wantReset(t, conn)
}
