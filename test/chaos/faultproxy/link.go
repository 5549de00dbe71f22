package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// link is one connection through the proxy.
type link struct {
	proxy *Proxy
	ends  [2]net.Conn // client, server; the server is nil when it was not reached
	once  sync.Once
	gone  chan struct{} // closed with the connection
}

// reset ends the connection with RST on both sides.
func (l *link) reset() { l.end(true) }

func (l *link) end(abruptly bool) {
	l.once.Do(func() {
		close(l.gone)
		for _, conn := range l.ends {
			if conn == nil {
				continue
			}
			if tcp, ok := conn.(*net.TCPConn); ok && abruptly {
				_ = tcp.SetLinger(0) // makes Close send RST
			}
			_ = conn.Close()
		}
		l.proxy.mu.Lock()
		defer l.proxy.mu.Unlock()
		delete(l.proxy.links, l)
	})
}

// pump carries one direction until its source ends; then it passes the end on. Any
// fault ends the whole connection.
func (l *link) pump(d Direction, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	passed := int64(0)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if lost := l.forward(d, to, buffer[:n], &passed); lost != nil {
				l.reset()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			l.finish(d, to)
			return
		case err != nil:
			l.reset()
			return
		}
	}
}

// finish passes a half-close on once the bytes before it may pass.
func (l *link) finish(d Direction, to net.Conn) {
	if _, err := l.admitted(d); err != nil {
		l.reset()
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

func (l *link) forward(d Direction, to net.Conn, piece []byte, passed *int64) error {
	r, err := l.admitted(d)
	if err != nil {
		return err
	}
	if err := l.pause(r.delay); err != nil {
		return err
	}
	limit := r.cut[d]
	if limit > 0 && *passed+int64(len(piece)) >= limit {
		_, _ = to.Write(piece[:max(0, limit-*passed)])
		return net.ErrClosed
	}
	*passed += int64(len(piece))
	_, err = to.Write(piece)
	return err // ends the connection; nobody reads it
}

// admitted returns the rules once bytes may pass in a direction, or an error when
// the connection is over, because it ended or because the bytes were swallowed.
func (l *link) admitted(d Direction) (rules, error) {
	swallowed := false
	for {
		r := l.proxy.now()
		switch r.mode[d] {
		case Pass:
			if swallowed {
				return r, errParted
			}
			return r, nil
		case Swallow:
			swallowed = true
		case Hold:
		}
		select {
		case <-r.changed:
		case <-l.gone:
			return r, net.ErrClosed
		}
	}
}

func (l *link) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-l.gone:
		return net.ErrClosed
	}
}
