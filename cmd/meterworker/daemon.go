package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/internal/replay"
	"github.com/meterworker/meterworker/internal/sender"
)

// daemon is one worker with all its parts.
type daemon struct {
	cfg     Config
	log     *zap.Logger
	metrics *metrics.Set
	gate    *delivery.Gate
	admin   *console.Server
	pages   *console.Pages
	clock   *clockWatch
	tracer  delivery.Tracer // nil: nothing is traced

	forgotten time.Time     // see warnForgotten
	granted   atomic.Uint64 // permits
	expiring  *expiring

	mu      sync.Mutex
	opening string // what the start waits for; "" once it is over
	broker  *broker
	fleet   *fleet
	letters *outbox.DeadLetters
	hooks   string // where webhooks are received; "" while they are not
}

// runDaemon is the worker's whole life: it serves until stop ends, then drains
// within the shutdown timeout.
func runDaemon(stop context.Context, cfg Config, log *zap.Logger) error {
	return newDaemon(cfg, log).run(stop)
}

func newDaemon(cfg Config, log *zap.Logger) *daemon {
	d := &daemon{cfg: cfg, log: log, opening: "starting"}
	d.metrics = metrics.New(metricLabels())
	d.gate = delivery.NewGate(d.breakerChanged, mathrand.Float64)
	d.clock = &clockWatch{counts: &delivery.Skew{}, log: log}
	return d
}

func (d *daemon) run(stop context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(stop)) // what serves the drain, too
	defer end()
	if err := d.listen(life); err != nil {
		return err
	}
	unwatch, err := d.watch(life)
	if err != nil {
		return err
	}
	defer unwatch()
	b, err := connect(stop, d.cfg, "meterworker", d.log)
	if err != nil {
		return err
	}
	defer b.close()
	d.mu.Lock() // /readyz looks already
	d.broker = b
	d.mu.Unlock()
	defer d.runPages(stop)()
	streams, err := d.openStreams(stop)
	if err == nil {
		err = d.serve(stop, life, streams)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// errStopped says that the worker was told to stop before it had begun to serve.
var errStopped = errors.New("stopped while starting")

func metricLabels() metrics.Labels {
	labels := metrics.Labels{BreakerStates: delivery.States(), LookupResults: append(journal.Verdicts(), delivery.ResultUnknown)}
	labels.WebhookResults, labels.RejectionCodes = webhookLabels()
	for _, r := range deadletter.Reasons() {
		labels.Reasons = append(labels.Reasons, string(r))
	}
	for _, c := range delivery.Classes() {
		labels.Classes = append(labels.Classes, c.String())
	}
	return labels
}

// listen opens the admin address first of all: a worker that waits for NATS is
// alive and not ready.
func (d *daemon) listen(life context.Context) (err error) {
	if d.pages, err = d.openPages(life); err != nil {
		return err
	}
	handler := console.New(console.Config{Registry: d.metrics.Registry, Ready: d.ready, Pages: d.pages, Logger: d.log})
	if d.admin, err = console.Serve(life, d.cfg.AdminAddr, handler, d.log); err != nil {
		return err // names the address and the remedy
	}
	return boundAsSaid(d.cfg.AdminAddr, d.admin.Addr())
}

func (d *daemon) waiting(reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opening = reason
}

// serve puts the parts together and runs them: first what everything needs, the
// fleet last; at the end in the opposite order.
func (d *daemon) serve(stop, life context.Context, streams *outbox.Streams) error {
	stop, fatal := context.WithCancelCause(stop)
	defer fatal(nil)
	cut, cutNow := context.WithCancel(life)
	defer cutNow()
	keys, err := d.keys(life)
	if err != nil {
		return err
	}
	v1, err := sender.New(sender.Config{
		BaseURL: d.cfg.APIBase, Version: d.cfg.Version, Timeout: d.cfg.AttemptTimeout, MaxConns: maxConns,
		Key: keys, Live: func() bool { return d.cfg.Live },
	})
	if err != nil {
		return err // names the setting
	}
	defer v1.Close()
	shared := ratelimit.NewShared(ratelimit.SharedConfig{Rate: d.cfg.Rate, Batch: d.batch(), Open: streams.Control, Trouble: d.leases})
	bucket := ratelimit.NewBucket(ratelimit.Config{
		Lessor: shared, Granted: d.permitted, Ceiling: func() float64 { return d.ceiling(shared.Rate()) },
	})
	go bucket.Run(life)
	way, err := d.way(v1, keys, bucket)
	if err != nil {
		return err // names the setting
	}
	defer way.close()
	if err := d.assemble(stop, cut, fatal, streams, way, shared); err != nil {
		return err
	}
	closeWebhooks, err := d.openWebhooks(stop, life, streams, v1, bucket)
	if err != nil {
		return err
	}
	defer closeWebhooks()
	return d.drainAfter(stop, cutNow)
}

// maxConns is how many requests may be under way at once over HTTP/1: the rate
// of 1,000/s at a latency of a second.
const maxConns = 1024

// ceiling is this worker's part of the rate while the breaker ramps up: the share is the
// fleet's. 0 means none.
func (d *daemon) ceiling(rate float64) float64 {
	share := d.gate.Share()
	d.mu.Lock()
	f := d.fleet
	d.mu.Unlock()
	if share >= 1 || f == nil {
		return 0
	}
	return share * rate / float64(max(1, f.members.Live()))
}

func (d *daemon) permitted(waited time.Duration, rate float64) {
	d.metrics.Permits.Inc()
	d.granted.Add(1)
	d.metrics.PermitSeconds.Observe(waited.Seconds())
	d.metrics.RateLimit.Set(rate)
}

// leases tells that the replicas' shared bucket is out of reach, or back.
func (d *daemon) leases(err error) {
	if err != nil {
		d.log.Warn("no permits: nothing is sent until the shared bucket can be reached", zap.Error(err))
		return
	}
	d.log.Info("the shared bucket can be reached again")
}

// keys is the source of the current key: a watched file, or the environment.
func (d *daemon) keys(life context.Context) (func() string, error) {
	if d.cfg.KeyFile == "" {
		return d.cfg.Key.Reveal, nil
	}
	file, err := sender.NewKeyFile(sender.KeyFileConfig{
		Path: d.cfg.KeyFile,
		OnChange: func(sender.Key) {
			d.log.Info("the Stripe key has changed", zap.String("file", d.cfg.KeyFile))
			d.gate.Resume()
		},
		OnError: func(err error) { d.log.Warn("the new Stripe key is not used", zap.Error(err)) },
	})
	if err != nil {
		return nil, err // names the file and the remedy
	}
	go file.Run(life)
	return func() string { return file.Current().Reveal() }, nil
}

func (d *daemon) assemble(stop, cut context.Context, fatal context.CancelCauseFunc, streams *outbox.Streams, w way, shared *ratelimit.Shared) error {
	members, err := d.join(stop, streams)
	if err != nil {
		return err
	}
	letters := streams.DeadLetters()
	d.clock.Sender = w.sender
	worker := delivery.NewWorker(delivery.Config{
		SafeWindow: d.cfg.SafeWindow, AcceptForeign: d.cfg.AcceptForeignDuplicates, Epoch: streams.Epoch(),
		Ahead: w.ahead, Random: mathrand.Float64, Shared: w.shared,
	}, delivery.Parts{
		Sender: d.clock, Permits: w.permits, DeadLetters: letters, Gate: d.gate, Skew: d.clock.counts, Tracer: d.tracer, Metrics: d.metrics, Log: d.log,
		Lanes: w.lanes,
	})
	f := &fleet{
		cfg: d.cfg, streams: streams, members: members, orders: &orders{open: streams.Durable, gate: d.gate, log: d.log},
		worker: worker, metrics: d.metrics, log: d.log,
		nonce: rand.Text()[:12],
		rate:  shared.Rate, used: permitCount{all: &d.granted}, cut: cut, fatal: fatal,
		held: map[int]*holding{}, refused: map[int]time.Time{}, claims: make(chan struct{}, claimsAtOnce),
		given: make(chan struct{}, 1),
	}
	f.guard = &guard{continuity: streams.Continuity(), gate: d.gate, log: d.log, stop: f.giveUp, reconnects: d.reconnects}
	f.store = guardedStore{journal.NewJetStream(streams.JetStream(), d.metrics.FenceRefusals.Inc), f.guard}
	d.expiring = &expiring{metrics: d.metrics, open: func(ctx context.Context) (nextLetter, error) { return replay.Open(ctx, streams.JetStream()) }}
	d.mu.Lock()
	d.fleet, d.letters, d.opening = f, letters, ""
	d.mu.Unlock()
	return nil
}

// reconnects counts the connections to NATS; with each one the store may be another.
func (d *daemon) reconnects() uint64 { return d.broker.conn.Stats().Reconnects }

// join enters the fleet under a name that a restart keeps and no other live
// worker has: the host's, and the admin address, which one process can bind.
func (d *daemon) join(stop context.Context, streams *outbox.Streams) (*outbox.Members, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	var members *outbox.Members
	err = d.persist(stop, func(ctx context.Context) (err error) {
		members, err = streams.Members(ctx, host+"/"+d.admin.Addr())
		return err
	})
	return members, err
}

// drainAfter serves until stop ends; then what is in flight may finish until
// shortly before the shutdown timeout, and is cut.
func (d *daemon) drainAfter(stop context.Context, cut context.CancelFunc) error {
	done := make(chan struct{})
	go func() { defer close(done); d.fleet.run(stop) }()
	watch, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	go d.observe(watch)
	guarding, unguard := context.WithCancel(watch)
	guarded := make(chan struct{})
	go func() { defer close(guarded); d.fleet.guard.run(guarding) }()
	d.log.Info("serving", zap.String("admin", d.admin.Addr()), zap.Float64("rate", d.cfg.Rate), zap.String("mode", d.cfg.Mode), zap.Int("partitions", d.cfg.Partitions))
	if d.cfg.API == apiV2 {
		d.log.Info("API v2: one identifier must not be used for two customers or two meters, since a duplicate is dropped in silence")
	}
	<-stop.Done()
	d.waiting("draining")
	d.log.Info("draining", zap.Duration("within", d.cfg.ShutdownTimeout))
	timer := time.AfterFunc(d.cfg.ShutdownTimeout-min(3*time.Second, d.cfg.ShutdownTimeout/4), cut)
	defer timer.Stop()
	select {
	case <-done:
	case <-time.After(d.cfg.ShutdownTimeout):
		d.log.Warn("not everything was handed back in time; JetStream will deliver it again")
	}
	unguard()
	<-guarded
	leaving, cancel := context.WithTimeout(watch, time.Second)
	defer cancel()
	if err := d.fleet.members.Leave(leaving); err != nil {
		d.log.Warn("could not leave the members", zap.Error(err))
	}
	if cause := context.Cause(stop); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	d.log.Info("stopped")
	return nil
}

func (d *daemon) breakerChanged(state, reason string) {
	d.metrics.State(state, delivery.States())
	switch state {
	case delivery.StateHalted:
		d.log.Error("halted: nothing is sent until this is mended; then do what the reason says, put a new key into the file, or run `meterworker resume`", zap.String("reason", reason))
	case delivery.StateOpen, delivery.StatePaused:
		d.log.Warn(state+": nothing is fetched, usage waits in the outbox", zap.String("reason", reason))
	default:
		if d.gate == nil {
			return // closed, to begin with
		}
		d.log.Info("breaker", zap.String("state", state), zap.String("reason", reason))
	}
}

// setupError is a refusal of the streams as they are: like bad configuration it is
// for a person to mend.
type setupError struct{ err error }

func (e *setupError) Error() string { return e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// ExitCode is that of bad configuration.
func (e *setupError) ExitCode() int { return exitUsage }
