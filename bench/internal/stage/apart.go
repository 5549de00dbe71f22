package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bare is the stream that the bare loop drains; its subjects are those of usage events
// with [BarePrefix] before them.
const (
	Bare       = "BARE"
	BarePrefix = "bare."
)

// Count is what the sink has seen so far.
type Count struct {
	Requests    int `json:"requests"`
	Connections int `json:"connections"`
}

// OpenApart is Open with the NATS server as a process of its own, so that its
// time is nobody else's, and with the sink in place of the simulator.
func OpenApart(ctx context.Context, cfg Config) (s *Stage, err error) {
	s = &Stage{cfg: cfg}
	if s.dir, err = os.MkdirTemp("", "meterworker-bench-"); err != nil {
		return nil, err
	}
	if err := s.openApart(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stage) openApart(ctx context.Context) (err error) {
	s.binary = filepath.Join(s.dir, "meterworker")
	for name, source := range map[string]string{
		"meterworker": "github.com/meterworker/meterworker/cmd/meterworker",
		"bare":        "github.com/meterworker/meterworker/bench/bare",
		"sink":        "github.com/meterworker/meterworker/bench/sink",
		"nats-server": "github.com/nats-io/nats-server/v2",
	} {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.dir, name), source)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	if err := s.startNATS(ctx); err != nil {
		return err
	}
	if s.stripe, err = s.listening(exec.CommandContext(ctx, filepath.Join(s.dir, "sink"), "-latency", s.cfg.Latency)); err != nil {
		return err
	}
	if err := s.Streams(ctx); err != nil {
		return err
	}
	return s.bareStream(ctx)
}

// natsConfig has the server choose its port, tell it in a file, and sync every write.
const natsConfig = `
listen: "127.0.0.1:-1"
ports_file_dir: %q
jetstream { store_dir: %q, sync_interval: always }
`

func (s *Stage) startNATS(ctx context.Context) error {
	config := filepath.Join(s.dir, "nats.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, natsConfig, s.dir, filepath.Join(s.dir, "nats")), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "nats-server"), "-c", config)
	if _, err := s.start(cmd); err != nil {
		return err
	}
	s.NATSPid = cmd.Process.Pid
	file := filepath.Join(s.dir, fmt.Sprintf("nats-server_%d.ports", s.NATSPid))
	for range 300 {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0 {
			s.natsURL = ports.NATS[0]
			return nil
		}
		Pause(ctx, 100*time.Millisecond)
	}
	return errors.New("the NATS server does not tell its port within 30 s")
}

// listening starts a server that says "listening on URL".
func (s *Stage) listening(cmd *exec.Cmd) (url string, err error) {
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if _, err := s.start(cmd); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s does not start: %w", filepath.Base(cmd.Path), err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on ")), nil
}

func (s *Stage) bareStream(ctx context.Context) error {
	js, err := s.JetStream()
	if err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: Bare, Subjects: []string{BarePrefix + ">"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
	})
	return err
}

// StartBare starts a bare loop; Admin of what it returns is empty.
func (s *Stage) StartBare(ctx context.Context) (*Worker, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "bare"), "-nats", s.natsURL, "-stripe", s.stripe, "-stream", Bare, "-rate", fmt.Sprint(s.cfg.Bare))
	cmd.Stderr = os.Stderr
	end, err := s.start(cmd)
	if err != nil {
		return nil, err
	}
	return &Worker{Pid: cmd.Process.Pid, end: end}, nil
}

// Use has workers started from another binary; "" is the one that was built.
func (s *Stage) Use(binary string) {
	s.binary = filepath.Join(s.dir, "meterworker")
	if binary != "" {
		s.binary = binary
	}
}

// Count asks the sink.
func (s *Stage) Count(ctx context.Context) (c Count, err error) {
	return c, Get(ctx, s.stripe+"/count", &c)
}

// Arrivals is when each identifier arrived at the sink, in nanoseconds of Unix time.
func (s *Stage) Arrivals(ctx context.Context) (at map[string]int64, err error) {
	return at, Get(ctx, s.stripe+"/arrivals", &at)
}
