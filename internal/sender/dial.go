package sender

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

var (
	errClosed = errors.New("the sender is closed")
	errGated  = errors.New("the attempt has ended: nothing more is written for it")
)

// dialer opens the connections and knows those that are open, so that closing
// the sender leaves none behind: Go's transport goes on dialing in the
// background after the request that asked for it has been cancelled.
type dialer struct {
	open dialFunc

	mu     sync.Mutex
	ctx    context.Context // ends with the dialer
	cancel context.CancelFunc
	conns  map[*gatedConn]struct{}
}

func newDialer(open dialFunc, timeout time.Duration, loopback bool) *dialer {
	if open == nil {
		network := &net.Dialer{Timeout: timeout, KeepAlive: pingAfter}
		if loopback {
			network.Control = onlyLoopback
		}
		open = network.DialContext
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &dialer{open: open, ctx: ctx, cancel: cancel, conns: map[*gatedConn]struct{}{}}
}

// onlyLoopback keeps the key on this machine where a resolver was told that
// localhost is somewhere else.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !to.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", address)
	}
	return nil
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.ctx.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	raw, err := d.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &gatedConn{Conn: raw, dialer: d}
	if !d.keep(conn) {
		_ = raw.Close()
		return nil, errClosed
	}
	return conn, nil
}

func (d *dialer) keep(conn *gatedConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.conns[conn] = struct{}{}
	return true
}

func (d *dialer) forget(conn *gatedConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
}

func (d *dialer) close() {
	d.mu.Lock()
	d.cancel()
	var conns []*gatedConn
	for conn := range d.conns {
		conns = append(conns, conn)
	}
	d.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// gatedConn asks the exchange that owns it before each write. It lies below TLS,
// so that what it lets through is what can reach the wire. Without an owner
// (handshake, idle, HTTP/2) all writes pass.
type gatedConn struct {
	net.Conn
	dialer *dialer
	owner  atomic.Pointer[exchange]
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if x := c.owner.Load(); x != nil && !x.admit() {
		return 0, errGated
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) Close() error {
	c.dialer.forget(c)
	return c.Conn.Close()
}

// gateOf finds the gated connection below any layers of TLS; nil if there is none.
func gateOf(conn net.Conn) *gatedConn {
	for {
		switch c := conn.(type) {
		case *gatedConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}
