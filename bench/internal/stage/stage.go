// Package stage is where benchmarks play: a NATS server with every write synced, the
// simulator and any number of workers, the latter as processes of their own. It
// judges nothing.
package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// Config is what the benchmark varies.
type Config struct {
	Rate            int    // requests a second, of the workers and of the simulator's bucket
	Latency, Jitter string // of the simulator; the jitter to either side

	Bare float64 // requests a second of the bare loop; 0 is no limit
}

// Stage is the servers, ready for workers. Close ends everything on it.
type Stage struct {
	NATSPid int // of a server that is a process of its own

	cfg     Config
	dir     string
	binary  string
	nats    *embedded.Server // nil where it is a process of its own
	natsURL string
	stripe  string
	ends    []func()
	named   int
}

// Worker is one running worker.
type Worker struct {
	Admin string // base URL
	Pid   int
	end   func()
}

// Stop ends the worker in order, and waits for it.
func (w *Worker) Stop() { w.end() }

// Open builds the worker and starts the servers.
func Open(ctx context.Context, cfg Config) (s *Stage, err error) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0))) // the server in this process syncs every write
	s = &Stage{cfg: cfg}
	if s.dir, err = os.MkdirTemp("", "meterworker-bench-"); err != nil {
		return nil, err
	}
	s.binary = filepath.Join(s.dir, "meterworker")
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/meterworker/meterworker/cmd/meterworker")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build: %w: %s", err, out), s.Close())
	}
	if s.nats, err = embedded.Start(ctx, embedded.Config{StoreDir: filepath.Join(s.dir, "nats"), Port: -1}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.natsURL = s.nats.ClientURL()
	if err := s.startStripe(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends what was started, the latest first.
func (s *Stage) Close() error {
	for len(s.ends) > 0 {
		last := len(s.ends) - 1
		s.ends[last]()
		s.ends = s.ends[:last]
	}
	var err error
	if s.nats != nil {
		err = s.nats.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Store is the folder in which the server keeps its streams.
func (s *Stage) Store() string { return filepath.Join(s.dir, "nats") }

// JetStream connects to the server.
func (s *Stage) JetStream() (jetstream.JetStream, error) {
	conn, err := nats.Connect(s.natsURL)
	if err != nil {
		return nil, err
	}
	s.ends = append(s.ends, conn.Close)
	return jetstream.New(conn)
}

// Publish stores a usage event, without waiting for the acknowledgement.
func Publish(js jetstream.JetStream, p usage.Params) (jetstream.PubAckFuture, error) {
	return PublishBelow(js, "", p)
}

// PublishBelow stores it under its subject with a prefix.
func PublishBelow(js jetstream.JetStream, prefix string, p usage.Params) (jetstream.PubAckFuture, error) {
	event, err := usage.New(p)
	if err != nil {
		return nil, err
	}
	body, err := event.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return js.PublishAsync(prefix+event.Subject(), body, jetstream.WithStallWait(time.Minute))
}

// StartWorker starts one more worker and waits until it is ready.
func (s *Stage) StartWorker(ctx context.Context) (*Worker, error) {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	admin := free.Addr().String()
	_ = free.Close()
	s.named++
	cmd := exec.CommandContext(ctx, s.binary, "run", "--log-level", "error")
	cmd.Env = append(os.Environ(), "NATS_URL="+s.natsURL, "STRIPE_API_KEY=sk_test_bench", "STRIPE_API_BASE="+s.stripe,
		fmt.Sprint("METERWORKER_RATE=", s.cfg.Rate), "METERWORKER_ADMIN_ADDR="+admin, fmt.Sprint("HOSTNAME=bench-", s.named))
	cmd.Stderr = os.Stderr
	end, err := s.start(cmd)
	if err != nil {
		return nil, err
	}
	w := &Worker{Admin: "http://" + admin, Pid: cmd.Process.Pid, end: end}
	for range 600 {
		if Get(ctx, w.Admin+"/readyz", nil) == nil {
			return w, nil
		}
		Pause(ctx, 100*time.Millisecond)
	}
	return nil, errors.New("the worker does not become ready within a minute")
}

// Streams has the streams made, by a worker that is gone again when it returns.
func (s *Stage) Streams(ctx context.Context) error {
	first, err := s.StartWorker(ctx)
	if err == nil {
		first.Stop()
	}
	return err
}

// Totals is what the simulator has seen so far.
func (s *Stage) Totals(ctx context.Context) (t simulator.Totals, err error) {
	return t, Get(ctx, s.stripe+"/_simulator/totals", &t)
}

// Books is everything that the simulator has counted.
func (s *Stage) Books(ctx context.Context) (b simulator.Books, err error) {
	return b, Get(ctx, s.stripe+"/_simulator/books", &b)
}

func (s *Stage) startStripe(ctx context.Context) (err error) {
	s.stripe, err = s.listening(exec.CommandContext(ctx, s.binary, "simulate", "--addr", "127.0.0.1:0",
		"--latency", s.cfg.Latency, "--jitter", s.cfg.Jitter, "--rate", fmt.Sprint(s.cfg.Rate)))
	return err
}

// start starts a process; end, which may be called again, ends it in order.
func (s *Stage) start(cmd *exec.Cmd) (end func(), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	s.ends = append(s.ends, end)
	return end, nil
}

// Get reads JSON; into may be nil. An answer other than 200 is an error.
func Get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// Pause lets time pass.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
