package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/internal/webhook"
)

const (
	demoRate    = 1000 // requests a second: Stripe's live limit
	demoBurst   = 20
	demoLatency = 20 * time.Millisecond

	// demoReportWindow is shorter than Stripe's 10 s, which would be most of the demo.
	demoReportWindow = 2 * time.Second
)

// demoStage is everything that the demo runs on: a folder that is removed at the
// end, a NATS server in it, the simulated Stripe, and the workers.
type demoStage struct {
	folder  string
	server  *embedded.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	stripe  *simulator.Simulator
	http    *http.Server
	base    string // of the simulated Stripe
	key     string
	secret  string // of the webhooks
	daemons []*daemon

	serving sync.WaitGroup     // the simulated Stripe
	halt    context.CancelFunc // of the workers
	working sync.WaitGroup     // the workers
	mu      sync.Mutex
	failed  error // of the workers
}

// openStage starts what the workers need. Close must follow when it succeeds.
func openStage(ctx context.Context, log *zap.Logger) (*demoStage, error) {
	folder, err := os.MkdirTemp("", "meterworker-demo-")
	if err != nil {
		return nil, fmt.Errorf("%w; set TMPDIR to a folder that this user may write", err)
	}
	s := &demoStage{folder: folder, key: "sk_test_" + rand.Text(), secret: "whsec_" + rand.Text(), halt: func() {}}
	if err := s.open(ctx, log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *demoStage) open(ctx context.Context, log *zap.Logger) (err error) {
	s.server, err = embedded.Start(ctx, embedded.Config{StoreDir: filepath.Join(s.folder, "nats"), Port: -1, Logger: log.Named("nats")})
	if err != nil {
		return err
	}
	if s.conn, err = nats.Connect("", append(connOptions("meterworker demo", log), nats.InProcessServer(s.server))...); err != nil {
		return fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	return s.openStripe(ctx)
}

func (s *demoStage) openStripe(ctx context.Context) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("simulated Stripe: %w", err)
	}
	meters := make([]simulator.Meter, len(demoMeters))
	for i, name := range demoMeters {
		meters[i].EventName = name
	}
	s.stripe = simulator.New(simulator.Config{
		Keys: []string{s.key}, Rate: demoRate, Burst: demoBurst, Latency: demoLatency, Meters: meters,
		ReportWindow: demoReportWindow,
	})
	s.base = "http://" + listener.Addr().String()
	s.http = &http.Server{
		Handler: s.stripe, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: zap.NewStdLog(zap.NewNop()), // broken connections are part of the demo
	}
	s.serving.Go(func() { _ = s.http.Serve(listener) }) // ends with close
	return nil
}

// start runs the workers until ctx ends, as `meterworker run` would run them. A
// worker that fails ends ctx's child, which start returns, with its error.
func (s *demoStage) start(ctx context.Context, replicas int, log *zap.Logger) (context.Context, error) {
	working, fail := context.WithCancelCause(ctx)
	s.halt = func() { fail(nil) }
	cfg, err := s.config()
	if err != nil {
		return nil, err
	}
	for i := range replicas {
		s.daemons = append(s.daemons, newDaemon(cfg, log.Named("worker-"+strconv.Itoa(i+1))))
	}
	for i, d := range s.daemons {
		if i == 1 { // the first makes the streams, the others find them
			await(working, demoStartWithin, func() bool { return s.daemons[0].assembled() != nil })
		}
		s.working.Go(func() {
			if err := d.run(working); err != nil {
				s.mu.Lock()
				s.failed = errors.Join(s.failed, err)
				s.mu.Unlock()
				fail(err)
			}
		})
	}
	return working, nil
}

// config is that of one worker, by the same loader as for `meterworker run`; what
// the user has set for real workers is not read. The replicas share the account's rate.
func (s *demoStage) config() (Config, error) {
	result, err := loadConfig(&Settings{}, environment{
		"NATS_URL":         s.server.ClientURL(),
		"STRIPE_API_KEY":   s.key,
		"STRIPE_API_BASE":  s.base,
		"METERWORKER_RATE": strconv.Itoa(demoRate),
		// The hangs of the simulated Stripe end with it; the default of 10 s would
		// be most of the demo.
		"METERWORKER_ATTEMPT_TIMEOUT":  "2s",
		"METERWORKER_SHUTDOWN_TIMEOUT": "5s",
		"METERWORKER_ADMIN_ADDR":       "127.0.0.1:0",
		"METERWORKER_WEBHOOK_ADDR":     "127.0.0.1:0",
		"STRIPE_WEBHOOK_SECRET":        s.secret,
	}, keyRequired, false)
	return result.Config, err
}

// shared reports whether the workers serve every partition, each the ones that
// are proposed to it: nothing is going to move.
func (s *demoStage) shared() bool {
	served := 0
	for _, d := range s.daemons {
		f := d.assembled()
		if f == nil || f.members.Live() != len(s.daemons) {
			return false
		}
		for p := range f.holdings() {
			if mine, _ := f.members.Proposed(p); !mine {
				return false
			}
			served++
		}
	}
	return served == s.daemons[0].cfg.Partitions
}

// notify has Stripe deliver its reports to the first worker until ctx ends.
func (s *demoStage) notify(ctx context.Context) {
	to := simulator.Endpoint{URL: "http://" + s.daemons[0].receives() + webhook.Path, Secrets: []string{s.secret}}
	s.serving.Go(func() { s.stripe.Notify(ctx, to) })
}

// assembled is the worker's fleet, nil before it has opened the streams.
func (d *daemon) assembled() *fleet {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fleet
}

// stop drains the workers, which need Stripe and NATS for that, and returns what
// they failed on.
func (s *demoStage) stop() error {
	s.halt()
	s.working.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// close ends everything and removes the folder.
func (s *demoStage) close() error {
	_ = s.stop()
	if s.http != nil {
		_ = s.http.Close() // what hangs is cut
	}
	s.serving.Wait()
	if s.conn != nil {
		s.conn.Close()
	}
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	if removed := os.RemoveAll(s.folder); removed != nil {
		err = errors.Join(err, fmt.Errorf("remove the demo's folder: %w", removed))
	}
	return err
}
