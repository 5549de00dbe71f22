// Package natstest runs a nats-server with JetStream in a test's process: on loopback, on a
// free port that it keeps over restarts, with its store in a folder of the test's.
package natstest

import (
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startWithin bounds the wait for a server; no test waits for it to pass.
const startWithin = time.Minute

// Server is one server. It is stopped with the test.
type Server struct {
	t    testing.TB
	opts natsserver.Options

	*natsserver.Server // the running one, or the last that ran
}

// Start starts a server; change alters its options before.
func Start(t testing.TB, change ...func(*natsserver.Options)) *Server {
	t.Helper()
	s := &Server{t: t, opts: natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}}
	for _, c := range change {
		c(&s.opts)
	}
	s.Run()
	t.Cleanup(s.Stop)
	return s
}

// Synced has every write synced, as we ship it.
func Synced(o *natsserver.Options) { o.SyncAlways = true }

// Run starts the server again after Stop, on its port and its store.
func (s *Server) Run() {
	s.t.Helper()
	opts := s.opts // the server writes into its options
	server, err := natsserver.NewServer(&opts)
	if err != nil {
		s.t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(startWithin) {
		s.t.Fatal("nats-server does not start")
	}
	s.Server, s.opts.Port = server, opts.Port
}

// Stop stops the server and waits until it is gone. It may be called more than once.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Restart is Stop and Run.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Run()
}

// Connect returns a connection of its own, which comes back by itself after a restart and
// is closed with the test.
func (s *Server) Connect() jetstream.JetStream {
	s.t.Helper()
	closed := make(chan struct{})
	conn, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		conn.Close()
		<-closed
	})
	js, err := jetstream.New(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}
