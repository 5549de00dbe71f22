package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// A Server is what nats.InProcessServer takes.
var _ nats.InProcessConnProvider = (*Server)(nil)

// holdVariable makes the test binary a process that starts a server in the
// folder it names, prints the address, and holds both until it is killed.
const holdVariable = "EMBEDDED_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func hold(dir string) {
	s, err := Start(context.Background(), Config{StoreDir: dir, Port: -1})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.ClientURL())
	select {}
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{StoreDir: dir, Port: -1})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func connect(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatalf("jetstream: %v", err)
	}
	return js
}

func createStream(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatalf("create stream: %v", err)
	}
}

func publish(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		if _, err := js.Publish(t.Context(), "kept", []byte(strconv.Itoa(i))); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
}

func stored(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), "KEPT")
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestRestartKeepsMessages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	for life, want := range []uint64{10, 20, 30} {
		s := start(t, dir)
		js := connect(t, s.ClientURL())
		if life == 0 {
			createStream(t, js)
		}
		publish(t, js, 10)
		if got := stored(t, js); got != want {
			t.Errorf("life %d holds %d messages, want %d", life, got, want)
		}
		js.Conn().Close()
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}

func TestEveryWriteIsSynced(t *testing.T) {
	s := start(t, t.TempDir())
	cfg := s.nats.JetStreamConfig()
	if cfg == nil || !cfg.SyncAlways {
		t.Errorf("JetStream configuration %+v does not sync every write", cfg)
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	s := start(t, t.TempDir())
	if url := s.ClientURL(); !strings.HasPrefix(url, "nats://127.0.0.1:") {
		t.Errorf("ClientURL() = %q, want 127.0.0.1", url)
	}
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
}

func TestInProcessConnectionSkipsTCP(t *testing.T) {
	s := start(t, t.TempDir())
	js := connect(t, "nats://127.0.0.1:1", nats.InProcessServer(s)) // nothing listens on port 1
	createStream(t, js)
	publish(t, js, 3)
	if got := stored(t, js); got != 3 {
		t.Errorf("stored %d messages, want 3", got)
	}
}

func TestServerNamesDiffer(t *testing.T) {
	one, two := start(t, t.TempDir()), start(t, t.TempDir())
	if a, b := one.nats.Name(), two.nats.Name(); a == b {
		t.Errorf("both servers are named %q", a)
	}
}

func TestSecondStartInOneProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	_, err := Start(t.Context(), Config{StoreDir: dir, Port: -1})
	wantRefusal(t, err, dir, os.Getpid())

	// The refused start must have left the first one's lock alone.
	_, err = Start(t.Context(), Config{StoreDir: dir, Port: -1})
	wantRefusal(t, err, dir, os.Getpid())

	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	start(t, dir)
}

func wantRefusal(t *testing.T, err error, dir string, pid int) {
	t.Helper()
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("second Start: %v, want ErrLocked", err)
	}
	for _, want := range []string{dir, strconv.Itoa(pid), "METERWORKER_DATA_DIR", "NATS_URL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}

func TestKilledProcessLeavesMessagesAndNoLock(t *testing.T) {
	dir := t.TempDir()
	holder, url := startHolder(t, dir)
	js := connect(t, url, nats.NoReconnect())
	createStream(t, js)
	publish(t, js, 20)

	_, err := Start(t.Context(), Config{StoreDir: dir, Port: -1})
	wantRefusal(t, err, dir, holder.Process.Pid)

	if err := holder.Process.Kill(); err != nil {
		t.Fatalf("kill -9: %v", err)
	}
	_ = holder.Wait() // "signal: killed" is what we want
	s := start(t, dir)
	if got := stored(t, connect(t, s.ClientURL())); got != 20 {
		t.Errorf("after kill -9 the store holds %d messages, want 20", got)
	}
}

func startHolder(t *testing.T, dir string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://") {
		t.Fatalf("holder printed %q, %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	port := listener.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()

	_, err = Start(t.Context(), Config{StoreDir: dir, Port: port})
	if !errors.Is(err, ErrPortInUse) {
		t.Fatalf("Start on a taken port: %v, want ErrPortInUse", err)
	}
	for _, want := range []string{listener.Addr().String(), "NATS_URL", "another port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
	start(t, dir) // the refused start must not keep the folder
}

func TestFatalLineDoesNotEndTheProcess(t *testing.T) {
	dir := t.TempDir()
	// A file where JetStream wants its folder: nats-server calls that fatal.
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{StoreDir: dir, Port: -1})
	if err == nil || !strings.Contains(err.Error(), "JetStream") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Start: %v, want an error about JetStream that names %s", err, dir)
	}
}

func TestStartRefusesBadConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no folder", Config{Port: -1}, "METERWORKER_DATA_DIR"},
		{"folder is a file", Config{StoreDir: file, Port: -1}, file},
		{"port too large", Config{StoreDir: t.TempDir(), Port: 65536}, "65536"},
		{"port below random", Config{StoreDir: t.TempDir(), Port: -2}, "-2"},
		{"negative limit", Config{StoreDir: t.TempDir(), Port: -1, MaxStore: -1}, "negative"},
		{"foreign address", Config{StoreDir: t.TempDir(), Host: "192.0.2.1", Port: 4999}, "192.0.2.1:4999"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Start(t.Context(), tt.cfg)
			if err == nil {
				_ = s.Close()
				t.Fatal("Start succeeded")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not name %q", err, tt.want)
			}
		})
	}
}

func TestCancelledStartLeavesTheFolderFree(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Config{StoreDir: dir, Port: -1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Start: %v, want context.Canceled", err)
	}
	start(t, dir)
}

func TestMaxStoreIsTheServersLimit(t *testing.T) {
	const limit = 8 << 20
	s, err := Start(t.Context(), Config{StoreDir: t.TempDir(), Port: -1, MaxStore: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	js := connect(t, s.ClientURL())
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}, MaxBytes: 2 * limit})
	if err == nil {
		t.Error("a stream twice as large as the store was accepted")
	}
}

func TestCloseIsIdempotentAndWaits(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if s.nats.Running() {
				t.Error("Close returned while the server runs")
			}
		})
	}
	group.Wait()
	if err := s.Health(); err == nil {
		t.Error("a closed server calls itself healthy")
	}
	again := start(t, dir)
	if err := s.Close(); err != nil { // must not take the new server's lock away
		t.Errorf("late Close: %v", err)
	}
	_, err := Start(t.Context(), Config{StoreDir: dir, Port: -1})
	wantRefusal(t, err, dir, os.Getpid())
	if err := again.Health(); err != nil {
		t.Errorf("Health of the second server: %v", err)
	}
}
