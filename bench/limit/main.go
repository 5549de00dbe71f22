// Command limit measures how much of Stripe's rate limit one worker uses, and what
// a strict bucket refuses: the worker and the simulator as processes of their own,
// against an embedded NATS server with every write synced, draining a backlog.
//
//	go run ./bench/limit -seconds 30
//
// It prints one line: requests a second as a share of the rate, refusals, the peak in
// any sliding second, and calls that were beside another for the same customer
// and meter. It judges nothing.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/embedded"
	"github.com/meterworker/meterworker/usage"
)

func main() {
	b := bench{}
	flag.IntVar(&b.seconds, "seconds", 30, "length of the measurement")
	flag.IntVar(&b.rate, "rate", 1000, "requests a second, of worker and bucket")
	flag.IntVar(&b.customers, "customers", 3000, "customers of the traffic")
	flag.StringVar(&b.latency, "latency", "80ms", "of the simulator")
	flag.StringVar(&b.jitter, "jitter", "20ms", "of the simulator, to either side")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

type bench struct {
	seconds, rate, customers int
	latency, jitter          string

	dir    string
	stripe string
	admin  string
}

// totals is the part of the simulator's tallies that is looked at.
type totals struct {
	Requests   int `json:"requests"`
	Limited    int `json:"rate_limited"`
	Peak       int `json:"peak_per_second"`
	Violations int `json:"violations"`
}

func (b *bench) run(ctx context.Context) (err error) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0))) // the server in this process syncs every write
	if b.dir, err = os.MkdirTemp("", "meterworker-limit-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	binary := filepath.Join(b.dir, "meterworker")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/meterworker/meterworker/cmd/meterworker").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	server, err := embedded.Start(ctx, embedded.Config{StoreDir: filepath.Join(b.dir, "nats"), Port: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	stopStripe, err := b.startStripe(ctx, binary)
	if err != nil {
		return err
	}
	defer stopStripe()
	return b.measure(ctx, binary, server.ClientURL())
}

// measure lets a first worker create the streams, fills them, and measures a second
// one from the moment at which it is ready.
func (b *bench) measure(ctx context.Context, binary, url string) error {
	stop, err := b.startWorker(ctx, binary, url)
	if err != nil {
		return err
	}
	stop()
	if err := b.publish(url); err != nil {
		return err
	}
	if stop, err = b.startWorker(ctx, binary, url); err != nil {
		return err
	}
	defer stop()
	pause(ctx, 3*time.Second) // connections and lanes are warm
	first, began := b.look(ctx), time.Now()
	pause(ctx, time.Duration(b.seconds)*time.Second)
	last, took := b.look(ctx), time.Since(began).Seconds()
	perSecond := float64(last.Requests-first.Requests) / took
	_, _ = fmt.Fprintf(os.Stdout, "%.1f requests/s = %.2f %% of %d/s; refused %d; peak %d in a sliding second; beside another %d\n",
		perSecond, 100*perSecond/float64(b.rate), b.rate, last.Limited-first.Limited, last.Peak, last.Violations)
	return nil
}

func (b *bench) startStripe(ctx context.Context, binary string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, binary, "simulate", "--addr", "127.0.0.1:0",
		"--latency", b.latency, "--jitter", b.jitter, "--rate", fmt.Sprint(b.rate))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the simulator does not start: %w", err)
	}
	b.stripe = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return ender(cmd), nil
}

func (b *bench) startWorker(ctx context.Context, binary, url string) (stop func(), err error) {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.admin = "http://" + free.Addr().String()
	_ = free.Close()
	cmd := exec.CommandContext(ctx, binary, "run", "--log-level", "error")
	cmd.Env = append(os.Environ(), "NATS_URL="+url, "STRIPE_API_KEY=sk_test_bench", "STRIPE_API_BASE="+b.stripe,
		fmt.Sprint("METERWORKER_RATE=", b.rate), "METERWORKER_ADMIN_ADDR="+free.Addr().String())
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = ender(cmd)
	for range 600 {
		if b.get(ctx, b.admin+"/readyz", nil) == nil {
			return stop, nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	stop()
	return nil, errors.New("the worker does not become ready within a minute")
}

// ender ends a process in order, and waits for it.
func ender(cmd *exec.Cmd) func() {
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// publish stores ten seconds' worth more than the measurement takes.
func (b *bench) publish(url string) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	for i := range b.rate * (b.seconds + 10) {
		event, err := usage.New(usage.Params{
			EventName: fmt.Sprintf("meter_%d", i%3), Customer: fmt.Sprintf("cus_%d", i%b.customers),
			Identifier: fmt.Sprintf("bench-%d", i), Value: 1, Timestamp: time.Now(),
		})
		if err != nil {
			return err
		}
		body, err := event.MarshalJSON()
		if err != nil {
			return err
		}
		if _, err := js.PublishAsync(event.Subject(), body, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	return nil
}

func (b *bench) look(ctx context.Context) (t totals) {
	_ = b.get(ctx, b.stripe+"/_simulator/totals", &t) // zeroes show in the line
	return t
}

func (b *bench) get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 5 * time.Second}
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

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
