package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapio"

	"github.com/meterworker/meterworker/internal/console"
)

// openPages prepares the console. Its token is followed until life ends.
func (d *daemon) openPages(life context.Context) (*console.Pages, error) {
	access := console.Access{Loopback: onLoopback(d.cfg.AdminAddr), ReadOnly: d.cfg.AdminReadOnly}
	if d.cfg.AdminTokenFile != "" {
		file, err := newTokenFile(d.cfg.AdminTokenFile)
		if err != nil {
			return nil, err // names the file
		}
		go file.Run(life,
			func() { d.log.Info("the console's token has changed; all are signed out") },
			func(err error) { d.log.Warn("the console's new token is not used", zap.Error(err)) })
		access.Token = file.Current
	}
	k := &desk{cfg: d.cfg.forConsole(), shared: !d.cfg.ownConsoleUser(), open: d.deskOptions, warnings: &lockedWriter{w: &zapio.Writer{Log: d.log, Level: zap.WarnLevel}}}
	return console.NewPages(console.PagesConfig{Operator: k, Access: access, Registry: d.metrics.Registry, Logger: d.log})
}

// onLoopback tells whether an address is reachable from this host only. A name other than
// localhost is not: what it means can change.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// boundAsSaid refuses an address that is called loopback and is not: "localhost" is what the
// hosts file says.
func boundAsSaid(said, bound string) error {
	if onLoopback(said) && !onLoopback(bound) {
		return fmt.Errorf("admin endpoint: METERWORKER_ADMIN_ADDR=%s is not on loopback but %s; set 127.0.0.1 and a port", said, bound)
	}
	return nil
}

// handGrace is how much longer than the drain what was begun by hand may take to end.
const handGrace = 3 * time.Second

// runPages serves the console until stop ends, or until the worker has ended by itself. Where
// the letter in hand hangs at NATS, end does not wait for it without bound.
func (d *daemon) runPages(stop context.Context) (end func()) {
	ctx, cancel := context.WithCancel(stop)
	done, late := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); d.pages.Run(ctx) }()
	go func() {
		<-ctx.Done()
		timer := time.NewTimer(d.cfg.ShutdownTimeout + handGrace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			close(late)
		}
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-late:
			d.log.Warn("what was begun by hand at the console has not ended in time; the audit trail has the intent, and `meterworker dlq list` what is left")
		}
	}
}

// deskOptions say how the console reaches NATS beside the worker: over a connection of its
// own, since what the server denies to it is no trouble of the worker's.
func (d *daemon) deskOptions() ([]nats.Option, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.broker == nil:
		return nil, errors.New("the worker is starting; try again in a moment")
	case d.broker.server != nil:
		return []nats.Option{nats.InProcessServer(d.broker.server)}, nil
	default:
		return nil, nil
	}
}

// desk is where the console's person works: the commands' own code, over connections that
// last for one thing to be done.
type desk struct {
	cfg      Config
	shared   bool // the NATS user is the worker's
	open     func() ([]nats.Option, error)
	warnings io.Writer

	mu       sync.Mutex
	watching *client // for the looks, while somebody watches
	before   *look
}

func (k *desk) dial() (*client, error) {
	options, err := k.open()
	if err != nil {
		return nil, err
	}
	return dialAs(k.cfg, roleOperator, k.warnings, append(options, nats.Name("meterworker console"))...)
}

// with connects and does the work, which ends at once where the server denies a call.
func (k *desk) with(ctx context.Context, work func(context.Context, *client) error) error {
	conn, err := k.dial()
	if err != nil {
		return err
	}
	defer conn.close()
	return k.withRemedy(conn.during(ctx, work))
}

// withRemedy tells of the console's own way out of a denial.
func (k *desk) withRemedy(err error) error {
	if _, isDenied := errors.AsType[*denial](err); isDenied && k.shared {
		return fmt.Errorf("%w, or give the console a user of its own: METERWORKER_ADMIN_NATS_CREDS, or METERWORKER_ADMIN_NATS_URL", err)
	}
	return err
}

// Look implements console.Operator.
func (k *desk) Look(ctx context.Context) json.RawMessage {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.lookOn(ctx)
	if err != nil {
		k.rest()
		s = unknownStatus(time.Now(), err)
	}
	document, err := json.Marshal(s)
	if err != nil {
		return nil // a status is numbers and texts
	}
	return document
}

func (k *desk) lookOn(ctx context.Context) (s status, err error) {
	if k.watching == nil {
		if k.watching, err = k.dial(); err != nil {
			return s, err
		}
	}
	err = k.watching.during(ctx, func(ctx context.Context, conn *client) error {
		now, err := lookAround(ctx, conn.js)
		if err != nil {
			return err
		}
		s = newStatus(k.before, now)
		k.before = now
		return nil
	})
	return s, k.withRemedy(err)
}

// Rest implements console.Operator.
func (k *desk) Rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rest()
}

func (k *desk) rest() {
	if k.watching != nil {
		k.watching.close()
	}
	k.watching, k.before = nil, nil
}
