package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// patience bounds every wait. It is never what a test measures.
const patience = 90 * time.Second

var binary string

func TestMain(m *testing.M) {
	// The server under test syncs every write; a goroutine in fsync keeps its processor,
	// and on two of them the simulator would answer in bursts.
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // parallel tests wait more than they work
		panic(err)
	}
	code := func() int {
		dir, err := os.MkdirTemp("", "meterworker-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "meterworker")
		args := append([]string{"build"}, raceFlag...)
		build := exec.Command("go", append(args, "-o", binary, "github.com/meterworker/meterworker/cmd/meterworker")...)
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot build the binary under test:", err)
			return 1
		}
		return m.Run()
	}()
	os.Exit(code)
}

// world is one test's NATS, Stripe and workers.
type world struct {
	t      *testing.T
	nats   *natsserver.Server
	stripe *simulator.Simulator
	http   *httptest.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

func newWorld(t *testing.T, cfg simulator.Config) *world {
	t.Helper()
	w := &world{t: t, stripe: simulator.New(cfg)}
	w.http = httptest.NewServer(w.stripe)
	t.Cleanup(w.http.Close)
	w.nats = startNATS(t, t.TempDir(), -1)
	conn, err := nats.Connect(w.nats.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w.conn = conn
	if w.js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	return w
}

func startNATS(t *testing.T, dir string, port int) *natsserver.Server {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(patience) {
		t.Fatal("nats-server does not start")
	}
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	return server
}

// worker is one process of the binary under test.
type worker struct {
	t     *testing.T
	w     *world
	env   []string
	cmd   *exec.Cmd
	admin string
	log   *lockedBuffer
	done  chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start runs a worker with the environment that every test shares and env.
func (w *world) start(env ...string) *worker {
	w.t.Helper()
	return w.startAt(freeAddress(w.t), env)
}

// killAndRestart ends the process with SIGKILL and starts it again as it was.
func (p *worker) killAndRestart() *worker {
	p.t.Helper()
	p.kill()
	return p.w.startAt(p.admin, p.env)
}

func (w *world) startAt(admin string, env []string) *worker {
	w.t.Helper()
	p := &worker{t: w.t, w: w, env: env, admin: admin, log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(binary, "run")
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(),
		"NATS_URL=" + w.nats.ClientURL(), "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=" + w.http.URL,
		"METERWORKER_ADMIN_ADDR=" + p.admin,
	}, env...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if w.t.Failed() {
			w.t.Logf("worker log:\n%s", tail(p.log.String(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *worker) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
}

// terminate drains the worker and returns its exit code.
func (p *worker) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("worker does not stop")
	}
	return p.cmd.ProcessState.ExitCode()
}

// get asks the admin address; status 0 while nobody answers.
func (p *worker) get(path string) (status int, body string) {
	response, err := http.Get("http://" + p.admin + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(data)
}

func (p *worker) ready() bool {
	status, _ := p.get("/readyz")
	return status == http.StatusOK
}

// metric is one sample of /metrics, by its full name with labels; 0 if absent.
func (p *worker) metric(sample string) float64 {
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		var value float64
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == sample {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				p.t.Fatalf("metric line %q: %v", line, err)
			}
			return value
		}
	}
	return 0
}

// until waits for a condition, or fails with what was waited for.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for %s; Stripe's totals: %+v", patience, what, w.stripe.Totals())
		}
		<-ticker.C
	}
}

// plan is the traffic of a test: what Stripe must count, by identifier.
type plan struct {
	events []usage.Event
}

func event(t *testing.T, meter, customer, identifier string, value int64) usage.Event {
	t.Helper()
	e, err := usage.New(usage.Params{EventName: meter, Customer: customer, Identifier: identifier, Value: value, Timestamp: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func traffic(t *testing.T, n, customers, meters int) plan {
	t.Helper()
	var p plan
	for i := range n {
		p.events = append(p.events, event(t, fmt.Sprintf("meter_%d", i%meters), fmt.Sprintf("cus_%d", i%customers), fmt.Sprintf("id-%d", i), int64(i%7+1)))
	}
	return p
}

// publish stores the events, 64 at a time, and returns when each is confirmed.
func (w *world) publish(events []usage.Event) {
	w.t.Helper()
	publisher := usage.NewPublisher(w.js)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wait sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, e := range events {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if _, err := publisher.Publish(ctx, e); err != nil {
				w.t.Error(err)
			}
		})
	}
	wait.Wait()
}

// audit compares Stripe's books with what was published: as sets of identifiers and in units.
func (w *world) audit(events []usage.Event) {
	w.t.Helper()
	want := map[simulator.Event]int64{}
	for _, e := range events {
		want[simulator.Event{EventName: e.EventName(), Customer: e.Customer(), Identifier: e.Identifier()}] = e.Units()
	}
	if report := w.stripe.Books().CheckEvents(want); !report.Balanced() {
		w.t.Errorf("the books do not balance: %s", report)
	}
}
