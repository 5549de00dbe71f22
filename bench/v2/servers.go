package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

// build has the worker and the NATS server that go.mod names.
func (b *bench) build(ctx context.Context) error {
	for name, pkg := range map[string]string{
		"meterworker": "github.com/meterworker/meterworker/cmd/meterworker",
		"nats-server": "github.com/nats-io/nats-server/v2",
	} {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, name), pkg)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return nil
}

// process is one of the processes that are measured.
type process struct {
	name string
	cmd  *exec.Cmd
}

// servers are the processes of one round.
type servers struct {
	*bench

	nats, stripe, pprof, natsPprof string // addresses
	store                          string
	processes                      []process
}

// open starts NATS, fills the outbox, and starts the simulator. Events are published before
// every write is synced: that is what is measured, not the producers.
func (s *servers) open(ctx context.Context) (err error) {
	if s.store, err = os.MkdirTemp(cmp.Or(s.bench.store, s.dir), "nats-"); err != nil {
		return err
	}
	if s.nats, err = free(ctx); err != nil {
		return err
	}
	if err := s.startNATS(ctx, "2m"); err != nil {
		return err
	}
	if err := errors.Join(s.provision(ctx), s.publish(ctx)); err != nil {
		return err
	}
	s.stop()
	if err := s.startNATS(ctx, "always"); err != nil {
		return err
	}
	return s.startStripe(ctx)
}

func (s *servers) close() error {
	s.stop()
	return os.RemoveAll(s.store)
}

// stop ends the processes, the latest first.
func (s *servers) stop() {
	for len(s.processes) > 0 {
		last := s.processes[len(s.processes)-1]
		s.processes = s.processes[:len(s.processes)-1]
		_ = last.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = last.cmd.Wait()
	}
}

func (s *servers) start(name string, cmd *exec.Cmd) error {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, process{name, cmd})
	return nil
}

func free(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func (s *servers) startNATS(ctx context.Context, sync string) error {
	config := filepath.Join(s.store, "nats.conf")
	if s.profile != "" {
		port, err := free(ctx)
		if err != nil {
			return err
		}
		s.natsPprof = "http://" + port
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(s.natsPprof, "http://"), ":")
	text := fmt.Sprintf("listen: %q\nprof_port: %s\njetstream {\n  store_dir: %q\n  sync_interval: %q\n}\nlog_file: %q\n",
		s.nats, cmp.Or(port, "0"), filepath.Join(s.store, "jetstream"), sync, filepath.Join(s.store, "nats.log"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "nats-server"), "-c", config)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=8") // a write that is synced holds a processor
	if err := s.start("NATS", cmd); err != nil {
		return err
	}
	for range 600 {
		if conn, err := nats.Connect("nats://" + s.nats); err == nil {
			js, err := jetstream.New(conn)
			if err == nil {
				_, err = js.AccountInfo(ctx)
			}
			conn.Close()
			if err == nil {
				return nil
			}
		}
		stage.Pause(ctx, 100*time.Millisecond)
	}
	return errors.New("the NATS server does not start")
}

func (s *servers) provision(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "meterworker"), "provision", "--mode", "test", "--nats-url", "nats://"+s.nats)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("provision: %w: %s", err, out)
	}
	return nil
}

func identifier(i int) string { return "bench-" + strconv.Itoa(i) }

func (s *servers) publish(context.Context) error {
	conn, err := nats.Connect("nats://" + s.nats)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		return err
	}
	for i := range s.events {
		if _, err := stage.Publish(js, usage.Params{
			EventName: fmt.Sprintf("meter_%d", i%3), Customer: fmt.Sprintf("cus_%d", i%10000), Identifier: identifier(i),
			Value: 1, Timestamp: time.Now(), Dimensions: map[string]string{"region": "eu"},
		}); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	return nil
}

func (s *servers) startStripe(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "meterworker"), "simulate", "--addr", "127.0.0.1:0", "--rate", "0",
		"--stream-rate", fmt.Sprint(s.rate), "--latency", s.latency, "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.start("simulator", cmd); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the simulator does not start: %w", err)
	}
	s.stripe = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return nil
}

// unlimited is the highest rate that the worker takes.
const unlimited = 1_000_000

func (s *servers) startWorker(ctx context.Context) error {
	rate := s.rate
	if rate == 0 {
		rate = unlimited
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "meterworker"), "run", "--log-level", "error")
	cmd.Env = append(os.Environ(), "NATS_URL=nats://"+s.nats, "STRIPE_API_KEY=sk_test_bench", "METERWORKER_API=v2",
		"STRIPE_API_BASE="+s.stripe, "STRIPE_METER_EVENTS_BASE="+s.stripe, "METERWORKER_RATE="+strconv.FormatFloat(rate, 'f', -1, 64),
		"METERWORKER_ADMIN_ADDR=127.0.0.1:0")
	if s.profile != "" {
		address, err := free(ctx)
		if err != nil {
			return err
		}
		s.pprof = "http://" + address
		cmd.Env = append(cmd.Env, "METERWORKER_PPROF_ADDR="+address)
	}
	return s.start("worker", cmd)
}

func (s *servers) startLoop(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.start("loop", exec.CommandContext(ctx, self, "-loop", s.nats, s.stripe))
}

// writes is how many messages the journal has stored, each of them synced.
func (s *servers) writes(ctx context.Context) (uint64, error) {
	conn, err := nats.Connect("nats://" + s.nats)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, "USAGE_JOURNAL")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// balance holds the books against what was published.
func (s *servers) balance(ctx context.Context) error {
	expected := make(map[string]int64, s.events)
	for i := range s.events {
		expected[identifier(i)] = 1
	}
	body, err := json.Marshal(expected)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.stripe+"/_simulator/check", bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 2 * time.Minute}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var report simulator.Report
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return fmt.Errorf("the books cannot be checked: %s: %w", response.Status, err)
	}
	if !report.Balanced() || report.Counted != s.events {
		return fmt.Errorf("the books do not balance: %s", report)
	}
	return nil
}
