package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof" // what it adds to the default mux, nobody serves
	"time"

	"go.uber.org/zap"
)

// longestProfile bounds what is asked for with ?seconds=.
const longestProfile = 5 * time.Minute

// profile serves /debug/pprof/ on an address of its own, where there is one: the admin
// address may be open to others.
func (d *daemon) profile(life context.Context) (end func(), err error) {
	if d.cfg.PprofAddr == "" {
		return func() {}, nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(life, "tcp", d.cfg.PprofAddr)
	if err != nil {
		return nil, fmt.Errorf("profiles: %w; set METERWORKER_PPROF_ADDR to a free address on loopback", err)
	}
	if bound, ok := listener.Addr().(*net.TCPAddr); !ok || !bound.IP.IsLoopback() { // "localhost" is what the hosts file says
		_ = listener.Close()
		return nil, errors.New("profiles: METERWORKER_PPROF_ADDR is not on loopback; set 127.0.0.1 and a port")
	}
	server := &http.Server{
		Handler: profiles(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: longestProfile, IdleTimeout: time.Minute,
		ErrorLog: zap.NewStdLog(d.log),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Warn("profiles are not served any more", zap.Error(err))
		}
	}()
	d.log.Info("profiles", zap.String("url", "http://"+listener.Addr().String()+"/debug/pprof/"))
	return func() { _ = server.Close(); <-served }, nil // a profile under way is cut
}

func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
