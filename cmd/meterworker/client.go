package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// localServer is where the embedded server of `meterworker run` listens.
const localServer = "nats://127.0.0.1:4222"

// dialTimeout bounds the connection of a command that a person waits for.
const dialTimeout = 3 * time.Second

// ClientSettings say how a command reaches the NATS server that the worker uses.
// It never starts one of its own.
type ClientSettings struct {
	ConfigFile
	NATSURL         *string `name:"nats-url" variable:"NATS_URL" presettext:"nats://127.0.0.1:4222" placeholder:"URL" help:"Addresses of the NATS servers, separated by commas." group:"nats"`
	NATSCreds       *string `name:"nats-creds" variable:"NATS_CREDS" placeholder:"FILE" help:"Credentials file of the NATS user." group:"nats"`
	NATSCA          *string `name:"nats-ca" variable:"NATS_CA" placeholder:"FILE" help:"Certificates (PEM) of the authorities that the NATS server is trusted by." group:"nats"`
	NATSCert        *string `name:"nats-cert" variable:"NATS_CERT" placeholder:"FILE" help:"Client certificate (PEM) for NATS; needs its key." group:"nats"`
	NATSKey         *string `name:"nats-key" variable:"NATS_KEY" placeholder:"FILE" help:"Private key (PEM) of the client certificate." group:"nats"`
	NATSInboxPrefix *string `name:"nats-inbox-prefix" variable:"NATS_INBOX_PREFIX" preset:"_INBOX" placeholder:"SUBJECT" help:"Where answers of the server are received: the prefix that the NATS user may subscribe to." group:"nats"`
}

// client is a connection for one command.
type client struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	cfg      Config
	needs    role
	warnings io.Writer

	mu      sync.Mutex
	refused error  // what the server refused first
	abandon func() // ends the command's work at a refusal; nil where each call sees to its own
}

func (c *client) close() { c.conn.Close() }

// withClient connects and does the work. Where the server refuses a call, which it tells
// the connection only, the work ends at once and the error says what was refused.
func withClient(ctx context.Context, p *process, flags any, needs role, work func(context.Context, *client) error) error {
	conn, err := dialClient(p, flags, needs)
	if err != nil {
		return err
	}
	defer conn.close()
	return conn.during(ctx, work)
}

// during does the work, and ends it at a refusal.
func (c *client) during(ctx context.Context, work func(context.Context, *client) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.abandon = func() {
		cancel()
		c.close() // a call that outlasts an interruption ends, too
	}
	c.mu.Unlock()
	return c.explain(work(ctx, c))
}

// dialClient connects within seconds, or says what to do. flags points to a
// struct that embeds ClientSettings.
func dialClient(p *process, flags any, needs role) (*client, error) {
	cfg, err := clientConfig(flags, p.Env)
	if err != nil {
		return nil, err
	}
	if cfg.NATSURL == "" {
		cfg.NATSURL = localServer
	}
	p.Err = &lockedWriter{w: p.Err}
	return dialAs(cfg, needs, p.Err)
}

// dialAs connects with settings that were read; warnings may be written to at any time.
func dialAs(cfg Config, needs role, warnings io.Writer, more ...nats.Option) (_ *client, err error) {
	c := &client{cfg: cfg, needs: needs, warnings: warnings}
	c.conn, err = nats.Connect(cfg.NATSURL, slices.Concat(clientOptions(cfg), []nats.Option{nats.ErrorHandler(c.hear)}, more)...)
	if refusal := asLogin(err, cfg); refusal != nil {
		return nil, refusal
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; start `meterworker run` or a NATS server there, or set NATS_URL (--nats-url) to where it is",
			redactURL(cfg.NATSURL), err)
	}
	if c.js, err = jetstream.New(c.conn); err != nil {
		c.close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return c, nil
}

// hear is told what the server answers to no call.
func (c *client) hear(_ *nats.Conn, _ *nats.Subscription, err error) {
	var refusal error
	if d := asDenial(err, natsUser(c.cfg), c.needs); d != nil {
		refusal = d
	} else if l := asLogin(err, c.cfg); l != nil {
		refusal = l
	} else {
		c.warn(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = refusal
	}
	if c.abandon != nil {
		c.abandon()
	}
}

func (c *client) warn(err error) {
	_, _ = fmt.Fprintf(c.warnings, "meterworker: warning: NATS: %s\n", printableLine(err.Error()))
}

// refusal is what the server refused first, nil where it refused nothing.
func (c *client) refusal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// explain puts a refusal in the place of what it led to.
func (c *client) explain(err error) error {
	refusal := c.refusal()
	if refusal != nil && err == nil { // of what may fail, as the clearing away of a reader
		c.warn(refusal)
		return nil
	}
	return cmp.Or(refusal, err)
}

// answerable finds out whether answers can reach us, for a command whose first call
// stores something.
func (c *client) answerable() error {
	sub, err := c.conn.SubscribeSync(c.conn.NewInbox())
	if err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // goes with the connection
	if err := c.conn.FlushTimeout(dialTimeout); err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	if d := asDenial(c.conn.LastError(), natsUser(c.cfg), c.needs); d != nil {
		return d
	}
	return nil
}

// clientConfig reads the settings of the connection alone: the others are the
// worker's, and a client must not fail over them.
func clientConfig(flags any, env environment) (Config, error) {
	settings, problems := gather(givenFlags(flags), env)
	l := &loader{settings: settings, problems: problems}
	var cfg Config
	l.nats(&cfg)
	if len(l.problems) > 0 {
		return Config{}, &configError{Problems: l.problems}
	}
	return cfg, nil
}

func clientOptions(cfg Config) []nats.Option {
	return append(credentials(cfg),
		nats.Name("meterworker client"), nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectBufSize(-1),
	)
}

// lockedWriter lets the connection's callbacks write beside the command.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// reportBrokenPipe makes a write to a closed pipe an error instead of the end of the
// process, for commands that must finish what they have begun.
func reportBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
