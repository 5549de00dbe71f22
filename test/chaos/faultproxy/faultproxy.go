// Package faultproxy is a TCP proxy that behaves like a bad network on command: it
// delays, holds back, swallows, resets and refuses. Tests put it between two
// processes to part them while both go on running.
//
// Invariants:
//
//   - In the mode [Pass] every byte arrives, once and in order, and a half-close is
//     passed on.
//   - Bytes are never left out of the middle of a stream: what [Swallow] took ends its
//     connection with a reset at the latest when the mode changes, as a peer
//     would find that was out of reach for long.
//   - A mode applies to the connections that exist and to those to come.
//
// States: a proxy is in one mode at a time, for each direction; closed is final.
package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Mode is what the proxy does with bytes.
type Mode uint8

// The modes.
const (
	Pass    Mode = iota // bytes arrive
	Hold                // bytes wait, connections stay: a short partition, which TCP survives
	Swallow             // bytes vanish, connections stay until the mode changes: a long partition
)

// Direction is a way through the proxy.
type Direction uint8

// The directions.
const (
	Up   Direction = iota // from the client to the target
	Down                  // from the target to the client
)

// rules are what applies now. They are replaced, never changed.
type rules struct {
	mode    [2]Mode
	delay   time.Duration
	cut     [2]int64 // bytes of a connection until it is reset; 0: never
	changed chan struct{}
}

// Proxy stands in front of one target. Its methods may be called from any goroutine.
type Proxy struct {
	target  string
	address string

	mu       sync.Mutex
	rules    rules
	listener net.Listener // nil while it refuses
	links    map[*link]struct{}
	closed   bool
	running  sync.WaitGroup
}

// Start listens on a free port of 127.0.0.1 and passes everything to target, which
// need not be there yet.
func Start(target string) (*Proxy, error) {
	p := &Proxy{target: target, address: "127.0.0.1:0", links: map[*link]struct{}{}}
	p.rules.changed = make(chan struct{})
	if err := p.listen(); err != nil {
		return nil, err
	}
	p.address = p.listener.Addr().String()
	return p, nil
}

// Addr is where clients connect, host and port; it stays the same.
func (p *Proxy) Addr() string { return p.address }

// Set puts a direction into a mode.
func (p *Proxy) Set(d Direction, m Mode) {
	p.change(func(r *rules) { r.mode[d] = m })
}

// Part puts both directions into a mode: [Hold] or [Swallow] make a partition.
func (p *Proxy) Part(m Mode) {
	p.change(func(r *rules) { r.mode = [2]Mode{m, m} })
}

// Delay holds every piece back for d before it goes on.
func (p *Proxy) Delay(d time.Duration) {
	p.change(func(r *rules) { r.delay = d })
}

// CutAfter resets each connection once n bytes have gone that way on it, counted
// from its beginning; 0 is never.
func (p *Proxy) CutAfter(d Direction, n int64) {
	p.change(func(r *rules) { r.cut[d] = n })
}

// Reset ends all connections with a TCP reset, once.
func (p *Proxy) Reset() {
	for _, l := range p.open() {
		l.reset()
	}
}

// Refuse closes the port and resets all connections: clients find nobody there.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	p.Reset()
}

// Heal passes everything again, and opens the port if it was closed. The error is
// that somebody else has taken the port meanwhile.
func (p *Proxy) Heal() error {
	p.change(func(r *rules) { *r = rules{changed: r.changed} })
	return p.listen()
}

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Refuse()
	p.running.Wait()
}

func (p *Proxy) change(edit func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.rules.changed)
	edit(&p.rules)
	p.rules.changed = make(chan struct{})
}

func (p *Proxy) now() rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*link
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

// listen opens the port unless it is open.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.address) //nolint:noctx // nothing to cancel: it does not wait
	if err != nil {
		return fmt.Errorf("fault proxy for %s: %w", p.target, err)
	}
	p.listener = listener
	p.running.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed, by Refuse or Close
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second) //nolint:noctx // bounded
	l := &link{proxy: p, ends: [2]net.Conn{client, server}, gone: make(chan struct{})}
	if err != nil || !p.keep(l) {
		l.reset()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(Up, client, server) })
	pumps.Go(func() { l.pump(Down, server, client) })
	pumps.Wait()
	l.end(false)
}

// keep takes a new connection in, unless the port was closed while it was made.
func (p *Proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// errParted says that a connection has lost bytes and must not go on.
var errParted = errors.New("bytes were swallowed")
