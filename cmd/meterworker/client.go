package main

import (
	"fmt"
	"io"
	"os/signal"
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
	NATSURL   *string `name:"nats-url" variable:"NATS_URL" presettext:"nats://127.0.0.1:4222" placeholder:"URL" help:"Addresses of the NATS servers, separated by commas." group:"nats"`
	NATSCreds *string `name:"nats-creds" variable:"NATS_CREDS" placeholder:"FILE" help:"Credentials file of the NATS user." group:"nats"`
	NATSCA    *string `name:"nats-ca" variable:"NATS_CA" placeholder:"FILE" help:"Certificates (PEM) of the authorities that the NATS server is trusted by." group:"nats"`
	NATSCert  *string `name:"nats-cert" variable:"NATS_CERT" placeholder:"FILE" help:"Client certificate (PEM) for NATS; needs its key." group:"nats"`
	NATSKey   *string `name:"nats-key" variable:"NATS_KEY" placeholder:"FILE" help:"Private key (PEM) of the client certificate." group:"nats"`
}

// client is a connection for one command.
type client struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

func (c *client) close() { c.conn.Close() }

// dialClient connects within seconds, or says what to do. flags points to a
// struct that embeds ClientSettings.
func dialClient(p *process, flags any) (*client, error) {
	cfg, err := clientConfig(flags, p.Env)
	if err != nil {
		return nil, err
	}
	if cfg.NATSURL == "" {
		cfg.NATSURL = localServer
	}
	p.Err = &lockedWriter{w: p.Err}
	conn, err := nats.Connect(cfg.NATSURL, clientOptions(cfg, p.Err)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; start `meterworker run` or a NATS server there, or set NATS_URL (--nats-url) to where it is",
			redactURL(cfg.NATSURL), err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return &client{conn, js}, nil
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

func clientOptions(cfg Config, warnings io.Writer) []nats.Option {
	return append(credentials(cfg),
		nats.Name("meterworker client"), nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectBufSize(-1),
		// A denied publish is heard of here only.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			_, _ = fmt.Fprintf(warnings, "meterworker: warning: NATS: %s\n", printableLine(err.Error()))
		}),
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
