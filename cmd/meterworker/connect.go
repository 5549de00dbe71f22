package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/embedded"
)

// broker is the connection to NATS, and the server itself where it is embedded.
type broker struct {
	conn     *nats.Conn
	server   *embedded.Server // nil for a server elsewhere
	refusals *refusals
}

// connect starts the embedded server, or dials the configured one. A server that
// is not there yet is waited for in the background.
func connect(ctx context.Context, c Config, name string, log *zap.Logger) (*broker, error) {
	if c.NATSURL != "" {
		return dial(c, name, log)
	}
	roomToSync()
	server, err := embedded.Start(ctx, embedded.Config{StoreDir: c.DataDir, Port: embeddedPort, Logger: log})
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect("", append(connOptions(name, log), nats.InProcessServer(server))...)
	if err != nil {
		_ = server.Close()
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	log.Info("embedded NATS server is ready", zap.String("url", server.ClientURL()), zap.String("data_dir", c.DataDir))
	return &broker{conn: conn, server: server, refusals: newRefusals(c, log)}, nil
}

// embeddedPort is NATS' own, on loopback, so that every client finds it.
const embeddedPort = 4222

// embeddedProcessors is how many goroutines may run at once beside an embedded
// server. Each of its writes is synced, and a goroutine in fsync keeps its
// processor for a while; with two of them the requests to Stripe left in bursts (up
// to 91 of 5,000 refused by a strict bucket), with eight they did not.
const embeddedProcessors = 8

// roomToSync raises GOMAXPROCS to embeddedProcessors; it returns the former value.
func roomToSync() int {
	return runtime.GOMAXPROCS(max(embeddedProcessors, runtime.GOMAXPROCS(0)))
}

func (b *broker) close() {
	b.conn.Close()
	if b.server != nil {
		_ = b.server.Close()
	}
}

func dial(c Config, name string, log *zap.Logger) (*broker, error) {
	r := newRefusals(c, log)
	options := append(connOptions(name, log), nats.RetryOnFailedConnect(true), nats.ErrorHandler(r.hear), nats.DisconnectErrHandler(r.lost))
	conn, err := nats.Connect(c.NATSURL, append(options, credentials(c)...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redactURL(c.NATSURL), err)
	}
	return &broker{conn: conn, refusals: r}, nil
}

// credentials are who we are and whom we trust.
func credentials(c Config) []nats.Option {
	var options []nats.Option
	if c.NATSInboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(c.NATSInboxPrefix))
	}
	if c.NATSCreds != "" {
		options = append(options, nats.UserCredentials(c.NATSCreds))
	}
	if c.NATSCA != "" {
		options = append(options, nats.RootCAs(c.NATSCA))
	}
	if c.NATSCert != "" {
		options = append(options, nats.ClientCert(c.NATSCert, c.NATSKey))
	}
	return options
}

// connOptions never give up, however often the credentials are refused: usage waits in
// the stream meanwhile, and the file of credentials is read anew for each try.
func connOptions(name string, log *zap.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second), nats.Timeout(5 * time.Second),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),          // what is not sent at once is to be known as not sent
		nats.NoCallbacksAfterClientClose(), // an orderly end is no lost connection
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("NATS connection lost", zap.Error(err)) }),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info("NATS connection is back", zap.String("server", c.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", zap.Error(err)) }),
	}
}
