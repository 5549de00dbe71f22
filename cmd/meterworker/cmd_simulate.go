package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/simulator"
)

// SimulateCmd runs the simulated Stripe as a server of its own.
type SimulateCmd struct {
	Addr            string        `default:"127.0.0.1:12111" placeholder:"HOST:PORT" help:"Address to listen on; port 0 is any free one. Loopback unless another is named here: the simulator asks for no credentials worth the name."`
	TLSDir          string        `name:"tls-dir" placeholder:"DIR" help:"Serve https, with a certificate of its own making that is kept in this folder. DIR/trust holds what clients have to trust, in the form of SSL_CERT_DIR."`
	TLSHost         []string      `name:"tls-host" placeholder:"HOST" help:"A host name or address that the certificate is for, beside those of loopback; repeatable."`
	Rate            float64       `default:"1000" placeholder:"N" help:"Requests a second before it answers 429; 0 is no limit."`
	Burst           int           `default:"20" placeholder:"N" help:"Requests at once before it answers 429; at least 1."`
	StreamRate      float64       `default:"10000" placeholder:"N" help:"Events a second over API v2 before it answers 429; 0 is no limit."`
	StreamBurst     int           `default:"200" placeholder:"N" help:"Events at once over API v2 before it answers 429; at least 100."`
	Latency         time.Duration `default:"0s" placeholder:"DURATION" help:"How long an accepted request takes."`
	Jitter          time.Duration `default:"0s" placeholder:"DURATION" help:"Spread of the latency, to either side."`
	ManyPerCustomer bool          `help:"Take concurrent requests for one customer and meter, which Stripe refuses."`
	Memory          time.Duration `default:"24h" placeholder:"DURATION" help:"How long an identifier is remembered."`
	Seed            uint64        `default:"0" placeholder:"N" help:"Seed of faults with a probability, jitter and request ids."`
	Meter           []string      `sep:"none" placeholder:"NAME[:FORMULA]" help:"A meter of the account, with sum (default), count or last; repeatable. Without any, every event name has a meter."`
	Fault           []string      `sep:"none" placeholder:"KIND[:PROBABILITY]" help:"A fault to play on requests with events, always or with a probability up to 1; repeatable. A wrong kind lists the right ones."`
	WebhookURL      string        `name:"webhook-url" placeholder:"URL" help:"Where to deliver thin events about usage that was rejected later, such as http://127.0.0.1:4242/webhooks."`
	WebhookSecret   []string      `name:"webhook-secret" sep:"none" placeholder:"SECRET" help:"Signing secret (whsec_) of these events; repeatable, as during a rotation. An invented one will do."`
	Output          string        `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"Form of the books at the end: text or json."`
}

// Help shows how the command is used.
func (*SimulateCmd) Help() string {
	return "Prints its address, serves until SIGINT or SIGTERM, prints the books of what it counted and exits 0. " +
		"It takes any key of the form sk_test_… or rk_test_…, and is steered over HTTP below /_simulator/.\n\nExamples:\n\n" +
		"  meterworker simulate\n" +
		"  meterworker simulate --addr 127.0.0.1:0 --rate 25 --fault error_503:0.01 -o json\n" +
		"  STRIPE_API_KEY=sk_test_x STRIPE_API_BASE=http://127.0.0.1:12111 meterworker run\n" +
		"  METERWORKER_API=v2 STRIPE_API_KEY=sk_test_x STRIPE_API_BASE=http://127.0.0.1:12111 STRIPE_METER_EVENTS_BASE=http://127.0.0.1:12111 meterworker run\n" +
		"  meterworker simulate --addr :12111 --tls-dir ./tls --tls-host simulator"
}

// Run serves until ctx ends.
func (c *SimulateCmd) Run(ctx context.Context, p *process) error {
	cfg, err := c.config()
	if err != nil {
		return &usageError{err}
	}
	faults, err := parseFaults(c.Fault)
	if err != nil {
		return &usageError{err}
	}
	sim := simulator.New(cfg)
	if err := sim.Inject(faults...); err != nil {
		return &usageError{fmt.Errorf("--fault: %w", err)}
	}
	security, err := c.security()
	if err != nil {
		return err
	}
	notify, err := c.notify(sim)
	if err != nil {
		return &usageError{err}
	}
	ctx, end := context.WithCancel(ctx)
	var delivering sync.WaitGroup
	delivering.Go(func() { notify(ctx) })
	defer delivering.Wait()
	defer end()
	if err := serveSimulator(ctx, p, c.Addr, security, sim); err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(p.Out, sim.Books())
	}
	return printBooks(p.Out, sim.Books())
}

// notify delivers webhooks, where an address was given.
func (c *SimulateCmd) notify(sim *simulator.Simulator) (func(context.Context), error) {
	switch u, err := url.Parse(c.WebhookURL); {
	case c.WebhookURL == "" && len(c.WebhookSecret) > 0:
		return nil, errors.New("--webhook-secret has no meaning without --webhook-url")
	case c.WebhookURL == "":
		return func(context.Context) {}, nil
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("--webhook-url is not a URL such as http://127.0.0.1:4242/webhooks")
	case len(c.WebhookSecret) == 0:
		return nil, errors.New("--webhook-url needs a --webhook-secret, the same that the worker has")
	}
	return func(ctx context.Context) {
		sim.Notify(ctx, simulator.Endpoint{URL: c.WebhookURL, Secrets: c.WebhookSecret})
	}, nil
}

// security is nil for plain http.
func (c *SimulateCmd) security() (*tls.Config, error) {
	if c.TLSDir == "" {
		if len(c.TLSHost) > 0 {
			return nil, &usageError{errors.New("--tls-host has no meaning without --tls-dir")}
		}
		return nil, nil //nolint:nilnil // no security, no error: plain http
	}
	certificate, err := simulatorCertificate(c.TLSDir, c.TLSHost, time.Now())
	if err != nil {
		return nil, fmt.Errorf("simulate: %w; set --tls-dir to a folder of this user's", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

func (c *SimulateCmd) config() (simulator.Config, error) {
	const leastMemory = time.Millisecond
	switch {
	case math.IsNaN(c.Rate) || c.Rate < 0 || c.Rate > mostRate:
		return simulator.Config{}, fmt.Errorf("--rate=%v is not within 0 to 1000000 requests a second", c.Rate)
	case c.Burst < 1:
		return simulator.Config{}, fmt.Errorf("--burst=%d is not at least 1", c.Burst)
	case math.IsNaN(c.StreamRate) || c.StreamRate < 0 || c.StreamRate > mostRate:
		return simulator.Config{}, fmt.Errorf("--stream-rate=%v is not within 0 to 1000000 events a second", c.StreamRate)
	case c.StreamBurst < 100:
		return simulator.Config{}, fmt.Errorf("--stream-burst=%d is not at least 100, one request's events", c.StreamBurst)
	case c.Latency < 0 || c.Jitter < 0:
		return simulator.Config{}, errors.New("--latency and --jitter are not negative")
	case c.Memory < leastMemory:
		return simulator.Config{}, fmt.Errorf("--memory=%s is below %s", c.Memory, leastMemory)
	}
	meters, err := parseMeters(c.Meter)
	if c.Rate == 0 {
		c.Rate = -1 // the simulator's word for no limit
	}
	if c.StreamRate == 0 {
		c.StreamRate = -1
	}
	return simulator.Config{
		StreamRate: c.StreamRate, StreamBurst: c.StreamBurst, StreamInTestMode: true, // it takes no live key
		Rate: c.Rate, Burst: c.Burst, Latency: c.Latency, Jitter: c.Jitter, ManyPerCustomer: c.ManyPerCustomer,
		Memory: c.Memory, Seed: c.Seed, Meters: meters,
	}, err
}

func parseMeters(texts []string) ([]simulator.Meter, error) {
	formulas := []string{simulator.FormulaSum, simulator.FormulaCount, simulator.FormulaLast}
	meters := make([]simulator.Meter, len(texts))
	for i, text := range texts {
		name, formula := text, simulator.FormulaSum
		if colon := strings.LastIndexByte(text, ':'); colon >= 0 {
			name, formula = text[:colon], text[colon+1:]
		}
		if name == "" || !slices.Contains(formulas, formula) {
			return nil, fmt.Errorf("--meter=%q is not NAME or NAME:FORMULA with one of %s", text, strings.Join(formulas, ", "))
		}
		meters[i] = simulator.Meter{EventName: name, Formula: formula}
	}
	return meters, nil
}

func parseFaults(texts []string) ([]simulator.Fault, error) {
	faults := make([]simulator.Fault, len(texts))
	for i, text := range texts {
		kind, chance, given := strings.Cut(text, ":")
		faults[i].Kind = simulator.Kind(kind)
		if !given {
			continue
		}
		probability, err := strconv.ParseFloat(chance, 64)
		// A probability of 0 means always to the simulator, and never to a person.
		if err != nil || !(probability > 0 && probability <= 1) {
			return nil, fmt.Errorf("--fault=%q: the probability is not above 0 and at most 1", text)
		}
		faults[i].Probability = probability
	}
	return faults, nil
}

// serveSimulator serves until ctx ends. Requests that hang by design do not
// hold up the end.
func serveSimulator(ctx context.Context, p *process, addr string, security *tls.Config, handler http.Handler) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("simulate: %w; set --addr to a free address", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: zap.NewStdLog(zap.NewNop()), // broken connections are what it is asked for
	}
	scheme, serve := "http", server.Serve
	if security != nil { // with HTTP/2, as Stripe has it
		server.TLSConfig = security
		scheme, serve = "https", func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(listener) }()
	if ip, ok := listener.Addr().(*net.TCPAddr); ok && !ip.IP.IsLoopback() {
		p.warn([]string{"the simulator listens beyond loopback: whoever reaches it may steer it"})
	}
	if _, err := fmt.Fprintf(p.Out, "listening on %s://%s\n", scheme, listener.Addr()); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-failed:
		return fmt.Errorf("simulate: %w", err)
	case <-ctx.Done():
	}
	return closeServer(ctx, server)
}

func closeServer(ctx context.Context, server *http.Server) error {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(closing) != nil {
		return server.Close()
	}
	return nil
}

// printBooks is the summary for people.
func printBooks(w io.Writer, books simulator.Books) error {
	var b strings.Builder
	units := map[string]int64{}
	double := 0
	for _, e := range books.Events {
		units[e.EventName] += e.Units
		if e.Times > 1 {
			double++
		}
	}
	fmt.Fprintf(&b, "requests %d, peak %d in one second, 429 for the rate %d, contention %d\n",
		books.Requests, books.PeakPerSecond, books.RateLimited, books.Contended)
	fmt.Fprintf(&b, "events counted %d, duplicates refused %d, refused later %d, counted more than once %d\n",
		books.Counted, books.Duplicates, books.RefusedLater, double)
	for _, name := range slices.Sorted(maps.Keys(units)) {
		fmt.Fprintf(&b, "units of %s: %d\n", printableLine(name), units[name])
	}
	for _, kind := range slices.Sorted(maps.Keys(books.Faults)) {
		fmt.Fprintf(&b, "fault %s: played %d times\n", kind, books.Faults[kind])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
