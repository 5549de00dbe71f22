package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/embedded"
)

// broker is the connection to NATS, and the server itself where it is embedded.
type broker struct {
	conn   *nats.Conn
	server *embedded.Server // nil for a server elsewhere
}

// connect starts the embedded server, or dials the configured one. A server that
// is not there yet is waited for in the background.
func connect(ctx context.Context, c Config, name string, log *zap.Logger) (*broker, error) {
	if c.NATSURL != "" {
		conn, err := dial(c, name, log)
		return &broker{conn: conn}, err
	}
	server, err := embedded.Start(ctx, embedded.Config{StoreDir: c.DataDir, Port: embeddedPort, Logger: log})
	if err != nil {
		return nil, err //nolint:wrapcheck // says itself what and what to do
	}
	conn, err := nats.Connect("", append(connOptions(name, log), nats.InProcessServer(server))...)
	if err != nil {
		_ = server.Close()
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	log.Info("embedded NATS server is ready", zap.String("url", server.ClientURL()), zap.String("data_dir", c.DataDir))
	return &broker{conn: conn, server: server}, nil
}

// embeddedPort is NATS' own, on loopback, so that every client finds it.
const embeddedPort = 4222

func (b *broker) close() {
	b.conn.Close()
	if b.server != nil {
		_ = b.server.Close()
	}
}

func dial(c Config, name string, log *zap.Logger) (*nats.Conn, error) {
	options := append(connOptions(name, log), nats.RetryOnFailedConnect(true))
	if c.NATSCreds != "" {
		options = append(options, nats.UserCredentials(c.NATSCreds))
	}
	if c.NATSCA != "" {
		options = append(options, nats.RootCAs(c.NATSCA))
	}
	if c.NATSCert != "" {
		options = append(options, nats.ClientCert(c.NATSCert, c.NATSKey))
	}
	conn, err := nats.Connect(c.NATSURL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// connOptions never give up: usage waits in the stream meanwhile. A denied
// publish is heard of by the error handler only.
func connOptions(name string, log *zap.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second), nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),          // what is not sent at once is to be known as not sent
		nats.NoCallbacksAfterClientClose(), // an orderly end is no lost connection
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("NATS connection lost", zap.Error(err)) }),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info("NATS connection is back", zap.String("server", c.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", zap.Error(err)) }),
	}
}
