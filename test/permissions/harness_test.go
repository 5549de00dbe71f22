package permissions

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// patience bounds every wait. It is never what a test measures.
const patience = 90 * time.Second

var binary string

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "meterworker-permissions-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "meterworker")
		build := exec.Command("go", "build", "-o", binary, "github.com/meterworker/meterworker/cmd/meterworker")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot build the binary under test:", err)
			return 1
		}
		return m.Run()
	}()
	os.Exit(code)
}

// world is one test's NATS and Stripe.
type world struct {
	t      *testing.T
	nats   *server
	stripe *simulator.Simulator
	http   *httptest.Server
}

func newWorld(t *testing.T, cfg simulator.Config) *world {
	t.Helper()
	w := &world{t: t, nats: startServer(t), stripe: simulator.New(cfg)}
	w.http = httptest.NewServer(w.stripe)
	t.Cleanup(w.http.Close)
	return w
}

// user is the environment of a process that is one of the users.
func (w *world) user(name string) []string {
	return []string{"NATS_URL=" + w.nats.url(name), "NATS_INBOX_PREFIX=" + inbox(name)}
}

// inbox is the prefix of a user's.
func inbox(user string) string { return "_INBOX_" + strings.ReplaceAll(user, "-", "_") }

func base(t *testing.T) []string {
	t.Helper()
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
}

// command runs one command line as a user, with standard input if there is any.
func (w *world) command(user, in string, args ...string) (output string, code int) {
	w.t.Helper()
	return w.commandWith(w.user(user), in, args...)
}

func (w *world) commandWith(env []string, in string, args ...string) (output string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(base(w.t), env...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is command for what has to succeed.
func (w *world) must(user string, args ...string) string {
	w.t.Helper()
	output, code := w.command(user, "", args...)
	if code != 0 {
		w.t.Fatalf("%s: %v: exit code %d\n%s", user, args, code, output)
	}
	return output
}

// worker is one process of the binary under test.
type worker struct {
	t     *testing.T
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

// start runs a worker that creates nothing, as the user worker unless env says otherwise.
func (w *world) start(env ...string) *worker {
	w.t.Helper()
	p := &worker{t: w.t, admin: freeAddress(w.t), log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(binary, "run")
	p.cmd.Env = append(append(base(w.t), w.user("worker")...),
		"STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE="+w.http.URL, "METERWORKER_ADMIN_ADDR="+p.admin,
		"METERWORKER_MANAGE_STREAMS=false", "METERWORKER_ATTEMPT_TIMEOUT=1s")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if w.t.Failed() {
			w.t.Logf("worker log:\n%s", p.log)
		}
	})
	return p
}

// end waits for the process to end by itself and returns its exit code.
func (p *worker) end() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("worker does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *worker) signal(s syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	return p.end()
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

// unready reports whether the worker is not ready and says each of the words.
func (p *worker) unready(words ...string) bool {
	status, body := p.get("/readyz")
	if status != http.StatusServiceUnavailable {
		return false
	}
	for _, word := range words {
		if !strings.Contains(body, word) {
			return false
		}
	}
	return true
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
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for %s; Stripe's totals: %+v", patience, what, w.stripe.Totals())
		}
		<-ticker.C
	}
}

func event(t *testing.T, meter, customer, identifier string) usage.Event {
	t.Helper()
	e, err := usage.New(usage.Params{EventName: meter, Customer: customer, Identifier: identifier, Value: 1, Timestamp: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// publish stores n events of a meter as a user, as a Go service does.
func (w *world) publish(user, meter, name string, n int) []usage.Event {
	w.t.Helper()
	publisher := usage.NewPublisher(w.nats.connect(user))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events := make([]usage.Event, n)
	var wait sync.WaitGroup
	for i := range events {
		events[i] = event(w.t, meter, fmt.Sprintf("cus_%d", i%50), fmt.Sprintf("%s-%d", name, i))
		wait.Go(func() {
			if _, err := publisher.Publish(ctx, events[i]); err != nil {
				w.t.Error(err)
			}
		})
	}
	wait.Wait()
	return events
}

// bad stores a message that is no event.
func (w *world) bad(subject string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.nats.connect("producer").Publish(ctx, subject, []byte("this is no event")); err != nil {
		w.t.Fatal(err)
	}
}

// letters is how many dead letters there are.
func (w *world) letters() uint64 {
	return w.nats.stream("USAGE_DLQ").CachedInfo().State.Msgs
}

// audit compares Stripe's books with what was published.
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

// settled reports whether every stored message is acked.
func (w *world) settled() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	consumers := w.nats.stream("USAGE").ListConsumers(ctx)
	seen := 0
	for info := range consumers.Info() {
		if seen++; info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return seen == 24 && consumers.Err() == nil
}

// handler collects what a connection is told beside its calls.
type handler struct{ errors chan error }

func newHandler() handler { return handler{make(chan error, 1000)} }

func (h handler) hear(_ *nats.Conn, _ *nats.Subscription, err error) { h.errors <- err }

// jetStream is that of a connection.
func jetStream(t *testing.T, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
