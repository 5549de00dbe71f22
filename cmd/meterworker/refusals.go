package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// refusals is what NATS refuses to the daemon's connection. At the start a denial is final:
// trying again does not help. Later the worker goes on with what it may, is not
// ready, and says once what it lacks; nothing is lost, since what cannot be recorded is
// neither sent nor acked.
type refusals struct {
	cfg Config
	log *zap.Logger

	undenied context.Context // ends at the first denial, which is its cause
	deny     context.CancelCauseFunc

	mu     sync.Mutex
	denied *denial
	at     time.Time       // when it was heard last
	told   map[string]bool // what was logged since the connection was lost last
}

// deniedFor is how long after a denial the worker is not ready. It is longer than any call is
// apart from its like: trimming, every five minutes.
const deniedFor = 2 * trimEvery

func newRefusals(c Config, log *zap.Logger) *refusals {
	r := &refusals{cfg: c, log: log, told: map[string]bool{}}
	r.undenied, r.deny = context.WithCancelCause(context.Background())
	return r
}

// hear is told what the server answers to no call.
func (r *refusals) hear(_ *nats.Conn, _ *nats.Subscription, err error) {
	if d := asDenial(err, natsUser(r.cfg), roleWorker); d != nil {
		r.denial(d)
		return
	}
	if l := asLogin(err, r.cfg); l != nil {
		if r.news(l.reason) {
			r.log.Error("NATS does not let us in; nothing is lost, usage waits in the stream", zap.Error(l))
		}
		return
	}
	r.log.Warn("NATS", zap.Error(err))
}

func (r *refusals) denial(d *denial) {
	r.mu.Lock()
	r.denied, r.at = d, time.Now()
	r.mu.Unlock()
	r.deny(d)
	if r.news(d.family()) {
		r.log.Error("NATS denies what the worker needs; nothing is lost, usage waits in the stream", zap.Error(d))
	}
}

// news reports whether this is to be logged: a denied call is made again and again.
func (r *refusals) news(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told[what]
	r.told[what] = true
	return !told
}

// lost starts afresh with the next connection, which may be that of a user who may more.
func (r *refusals) lost(_ *nats.Conn, err error) {
	r.mu.Lock()
	r.denied, r.told = nil, map[string]bool{}
	r.mu.Unlock()
	r.log.Warn("NATS connection lost", zap.Error(err))
}

// trouble is why NATS is of no use now, "" while it is.
func (b *broker) trouble() string {
	r := b.refusals
	if status := b.conn.Status(); status != nats.CONNECTED {
		if l := asLogin(b.conn.LastError(), r.cfg); l != nil {
			return "not connected: " + l.Error()
		}
		return fmt.Sprintf("not connected: NATS at %s is not reachable (%s); check NATS_URL and that the server runs", redactURL(r.cfg.NATSURL), status)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.denied != nil && time.Since(r.at) < deniedFor {
		return r.denied.Error()
	}
	return ""
}
