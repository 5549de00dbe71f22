package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Bounds of one connection. The slowest honest client is a scraper of a few
// hundred kilobytes; everything else is small.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute // above the usual scrape interval of 15 to 60 s
	maxHeader     = 16 << 10        // bytes

	// closeTimeout bounds the wait for requests under way at the end.
	closeTimeout = 5 * time.Second
)

// Server is a listening admin endpoint.
type Server struct {
	addr net.Addr
	done chan struct{}
	err  error // valid once done is closed
}

// Serve listens on addr, "host:port" with port 0 for any free one, and serves
// handler until ctx ends. It returns as soon as the address is bound; an address
// that is taken is an error that names it and the remedy. When ctx ends no
// further connection is accepted, and requests under way have five seconds.
// logger receives the server's own lines; nil drops them.
func Serve(ctx context.Context, addr string, handler http.Handler, logger *zap.Logger) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w; set METERWORKER_ADMIN_ADDR to a free address", err)
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	s := &Server{addr: listener.Addr(), done: make(chan struct{})}
	go s.serve(ctx, newHTTPServer(handler, logger), listener)
	return s, nil
}

func newHTTPServer(handler http.Handler, logger *zap.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(logger),
	}
}

// serve runs until the listener fails or ctx ends.
func (s *Server) serve(ctx context.Context, server *http.Server, listener net.Listener) {
	defer close(s.done)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case s.err = <-failed:
		return
	case <-ctx.Done():
	}
	// A context of its own: the caller's has ended already.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		s.err = errors.Join(fmt.Errorf("admin endpoint: requests cut after %s: %w", closeTimeout, err), server.Close())
	}
	// Serve has returned with this: nothing of ours runs any more.
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		s.err = errors.Join(s.err, err)
	}
}

// Addr is the bound address, with the port that was chosen for 0.
func (s *Server) Addr() string { return s.addr.String() }

// Done is closed when the server has stopped, after ctx ended or by a failure.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait returns when the server has stopped: nil after an orderly end.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}
