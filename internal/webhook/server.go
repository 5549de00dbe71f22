package webhook

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Bounds of one connection: Stripe sends some hundred bytes at once.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 20 * time.Second // storing takes 5 s at most
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10 // bytes
	closeTimeout  = 5 * time.Second
)

// Server is the listening endpoint.
type Server struct {
	addr net.Addr
	done chan struct{}
}

// Serve listens on addr and serves handler until ctx ends; then requests under way have
// five seconds. It returns as soon as the address is bound.
func Serve(ctx context.Context, addr string, handler http.Handler, log *zap.Logger) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("webhook endpoint: %w; set METERWORKER_WEBHOOK_ADDR to a free address", err)
	}
	s := &Server{addr: listener.Addr(), done: make(chan struct{})}
	go s.serve(ctx, newHTTPServer(handler), listener, log)
	return s, nil
}

func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: zap.NewStdLog(zap.NewNop()), // scanners of the internet are no news
	}
}

func (s *Server) serve(ctx context.Context, server *http.Server, listener net.Listener, log *zap.Logger) {
	defer close(s.done)
	var failure error
	failed := make(chan struct{})
	go func() { defer close(failed); failure = server.Serve(listener) }()
	select {
	case <-failed:
		log.Error("the webhook endpoint has failed; Stripe's reports do not arrive until a restart", zap.Error(failure))
		return
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if server.Shutdown(closing) != nil {
		_ = server.Close() // what was under way is delivered again
	}
	<-failed
}

// Addr is the bound address.
func (s *Server) Addr() string { return s.addr.String() }

// Wait returns when the server has stopped.
func (s *Server) Wait() { <-s.done }
