package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nuid"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	defaultHost = "127.0.0.1" // nats-server's own default is every interface
	defaultPort = 4222

	// readyWithin bounds the wait for the listener after the store was read.
	// A start after kill -9 with five million subjects took 12 s in trials.
	readyWithin = 60 * time.Second
)

// ErrPortInUse says that something else listens on the address.
var ErrPortInUse = errors.New("address is in use")

// Config says where the server stores and listens.
type Config struct {
	// StoreDir is the folder of the streams and of the lock; it is created
	// when missing, readable by its owner only. Required.
	StoreDir string
	// Host to listen on; empty is 127.0.0.1. There is no authentication, so
	// anything wider lets the network publish usage.
	Host string
	// Port to listen on; 0 is 4222, -1 any free one.
	Port int
	// MaxStore bounds the streams in bytes; 0 is 75 % of the disk that is
	// free or already holds them.
	MaxStore int64
	// Logger receives the server's lines; nil drops them.
	Logger *zap.Logger
}

// Server is a running NATS server. Its methods may be called from any goroutine.
type Server struct {
	nats *natsserver.Server
	log  *serverLog
	lock *folderLock

	closing  sync.Once
	closeErr error
}

// Start locks the store folder, starts a server on it and returns once clients
// can connect and JetStream has read its streams, which takes some seconds a
// few million messages. Errors wrap ErrLocked or ErrPortInUse where those are
// the cause, and name the remedy. ctx is looked at before and after the store
// is read; a read under way is not cut short, since the store would have to
// recover from that too.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded NATS server: %w", err)
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("create store folder %q: %w; set METERWORKER_DATA_DIR to a folder that this user may write", cfg.StoreDir, err)
	}
	lock, err := lockFolder(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	s, err := startLocked(ctx, cfg, lock)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.StoreDir == "" {
		return cfg, errors.New("embedded NATS server: no store folder; set METERWORKER_DATA_DIR")
	}
	if cfg.Port < -1 || cfg.Port > 65535 {
		return cfg, fmt.Errorf("embedded NATS server: port %d is not between 1 and 65535", cfg.Port)
	}
	if cfg.MaxStore < 0 {
		return cfg, fmt.Errorf("embedded NATS server: store limit of %d bytes is negative", cfg.MaxStore)
	}
	// Absolute, so that a later change of directory cannot split the store.
	dir, err := filepath.Abs(cfg.StoreDir)
	if err != nil {
		return cfg, fmt.Errorf("store folder %q: %w", cfg.StoreDir, err)
	}
	cfg.StoreDir = dir
	if cfg.Host == "" {
		cfg.Host = defaultHost
	}
	if cfg.Port == 0 {
		cfg.Port = defaultPort
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return cfg, nil
}

// startLocked starts the server on a folder whose lock the caller holds.
func startLocked(ctx context.Context, cfg Config, lock *folderLock) (*Server, error) {
	if err := probe(ctx, cfg); err != nil {
		return nil, err
	}
	ns, err := natsserver.NewServer(options(cfg))
	if err != nil {
		return nil, fmt.Errorf("configure embedded NATS server: %w", err)
	}
	s := &Server{nats: ns, log: &serverLog{log: cfg.Logger}, lock: lock}
	ns.SetLoggerV2(s.log, false, false, false)
	ns.Start()
	if err := s.started(ctx, cfg); err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	return s, nil
}

func options(cfg Config) *natsserver.Options {
	return &natsserver.Options{
		// Unique, so that two embedded servers in one network of leaf nodes
		// or on one dashboard are never taken for each other.
		ServerName:        "meterworker-" + nuid.Next(),
		Host:              cfg.Host,
		Port:              cfg.Port,
		JetStream:         true,
		StoreDir:          cfg.StoreDir,
		JetStreamMaxStore: cfg.MaxStore,
		SyncAlways:        true,
		NoSigs:            true,
	}
}

// probe refuses a taken port before the store is opened: nats-server notices
// only after it has read every stream.
func probe(ctx context.Context, cfg Config) error {
	if cfg.Port == natsserver.RANDOM_PORT {
		return nil
	}
	address := net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err == nil {
		return listener.Close()
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return portError(address)
	}
	return fmt.Errorf("listen on %s: %w; give the embedded NATS server another address, or set NATS_URL to an existing one", address, err)
}

func portError(address string) error {
	return fmt.Errorf("%w: something else, perhaps a NATS server, listens on %s; "+
		"set NATS_URL=nats://%s to use it, or give the embedded server another port", ErrPortInUse, address, address)
}

// started reports why a server that returned from its start is not usable.
func (s *Server) started(ctx context.Context, cfg Config) error {
	if err := s.log.err(); err != nil {
		return fmt.Errorf("start embedded NATS server in %q: %w", cfg.StoreDir, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start embedded NATS server: %w", err)
	}
	if !s.nats.ReadyForConnections(readyWithin) {
		return fmt.Errorf("embedded NATS server in %q accepts no connections after %s; its log lines say why", cfg.StoreDir, readyWithin)
	}
	return s.Health()
}

// ClientURL is the address that producers on this host connect to.
func (s *Server) ClientURL() string { return s.nats.ClientURL() }

// InProcessConn opens a connection that skips TCP; with it a Server serves as
// the argument of nats.InProcessServer.
func (s *Server) InProcessConn() (net.Conn, error) { return s.nats.InProcessConn() }

// Health is nil while the server and its JetStream work. A disk that was full
// stays an error until a restart, even when there is space again: the server
// keeps the failed write in mind.
func (s *Server) Health() error {
	if err := s.log.err(); err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	status := s.nats.Healthz(&natsserver.HealthzOptions{})
	if status.StatusCode != http.StatusOK {
		return fmt.Errorf("embedded NATS server: %s", status.Error)
	}
	return nil
}

// Close stops the server, waits until its store is on disk, and unlocks the
// folder. Connections are cut, so drain them first. Further calls wait for the
// first and return what it did.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
		s.closeErr = s.lock.release()
	})
	return s.closeErr
}
