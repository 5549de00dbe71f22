package sender

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/faultpoint"
)

// maxReply bounds a reply's body in bytes: Stripe's are below 2 KiB.
const maxReply = 64 << 10

type stage uint8

const (
	connecting stage = iota // no connection yet
	held                    // a connection is there, Ready decides
	released                // Ready said yes: bytes may be written
	ended                   // no byte may be written
)

var (
	errSecondUse     = errors.New("one attempt is one request")
	errConnectionDue = errors.New("no connection in time")
	errAnswerDue     = errors.New("no whole answer in time")
	errReconnected   = errors.New("the connection was lost before the request was written")
	errRefusedReady  = errors.New("aborted before sending")
)

// exchange is one attempt's request: the http.RoundTripper of a client that
// lives as long. It sees to the wire what stripe-go leaves open, and records what
// came back before stripe-go can hide it behind a JSON error.
type exchange struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	v       *V1
	attempt delivery.Attempt

	// seen belongs to the goroutine that called Send.
	seen observation

	mu      sync.Mutex
	stage   stage
	written bool        // a byte of the request may be on the wire
	due     *time.Timer // bounds the stage it was started for
	gate    *gatedConn  // nil for HTTP/2
	aborted error       // why nothing was to be sent
	ready   time.Time   // when Ready said yes
}

func newExchange(ctx context.Context, v *V1, attempt delivery.Attempt) *exchange {
	x := &exchange{v: v, attempt: attempt}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.seen.identifier = attempt.Event.Identifier()
	return x
}

// outcome is what Send's goroutine saw; err is what stripe-go returned, and
// matters only where it gave up before there was a request.
func (x *exchange) outcome(err error) observation {
	if x.seen.end == endNone {
		x.seen.end, x.seen.err = endUnsent, err
	}
	return x.seen
}

// RoundTrip sends the request once. stripe-go gets an empty object for a reply:
// its decoder would add nothing to the observation.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	out, err := x.prepare(req)
	if err == nil {
		err = x.carry(out)
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Request: req,
		Body: io.NopCloser(strings.NewReader("{}")),
	}, nil
}

// carry makes the request, and records what comes of it.
func (x *exchange) carry(out *http.Request) error {
	x.seen.end = endUnsent // until known better
	x.due = time.AfterFunc(x.v.timeout, func() { x.cancel(errConnectionDue) })
	resp, err := x.v.transport.RoundTrip(out)
	if err == nil && resp.StatusCode/100 == 3 && faultpoint.Seeded(faultpoint.RedirectFollowed) {
		resp, err = x.follow(resp, out) //nolint:bodyclose // readBody closes it
	}
	if err == nil {
		x.seen.status, x.seen.header, x.seen.at = resp.StatusCode, resp.Header, time.Now()
		err = x.readBody(resp)
	}
	if err == nil {
		err = faultpoint.At(faultpoint.Answered)
	}
	if err != nil {
		x.fail(err)
		return err
	}
	x.finish()
	return nil
}

// follow goes where a redirect leads, as a seeded bug.
func (x *exchange) follow(resp *http.Response, out *http.Request) (*http.Response, error) {
	_ = resp.Body.Close() // nothing of it is read
	to, err := resp.Location()
	if err != nil {
		return nil, err
	}
	again := out.WithContext(x.ctx) // not traced: else it would be refused as a second connection
	again.URL, again.Host, again.Body, again.ContentLength = to, to.Host, http.NoBody, 0
	return x.v.transport.RoundTrip(again)
}

// prepare takes over stripe-go's request. Without GetBody Go's transport cannot
// send it again when a kept-alive connection dies, which it otherwise does for
// a request with an Idempotency-Key. stripe-go leaves the length open (chunked);
// with a length a cut request cannot be taken for a whole one.
func (x *exchange) prepare(req *http.Request) (*http.Request, error) {
	if x.seen.end != endNone {
		return nil, errSecondUse
	}
	form, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_ = req.Body.Close()
	out := req.Clone(x.traced(req.Context()))
	out.Header.Set("Stripe-Version", x.v.version)
	out.Header.Del("X-Stripe-Client-User-Agent") // the output of uname
	out.GetBody = nil
	out.Body = io.NopCloser(bytes.NewReader(form))
	out.ContentLength = int64(len(form))
	return out, nil
}

// traced has a request of this exchange stop before its first byte.
func (x *exchange) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: x.gotConn, WroteRequest: x.wroteRequest})
}

func (x *exchange) wroteRequest(httptrace.WroteRequestInfo) {
	if x.attempt.Written != nil {
		x.attempt.Written()
	}
	if err := faultpoint.At(faultpoint.Written); err != nil {
		x.cancel(err)
	}
}

// readBody records the reply's body. The body of 101 is the bare connection.
func (x *exchange) readBody(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if len(body) > maxReply {
		x.seen.oversize, err = true, nil
	} else {
		x.seen.body = body
	}
	return err
}

// gotConn is called on Send's goroutine with a connection that carries no byte
// of the request yet.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	if !x.hold(info.Conn) {
		return
	}
	err := faultpoint.At(faultpoint.Connected)
	if err == nil && x.attempt.Ready != nil {
		err = x.attempt.Ready(x.ctx)
	}
	if err == nil {
		err = context.Cause(x.ctx)
	}
	if err != nil {
		x.abort(fmt.Errorf("%w: %w", errRefusedReady, err))
		return
	}
	x.release()
}

// hold stops the clock for connecting. A second connection for the same attempt
// means that HTTP/2 lost the first before writing: the permit and the age check
// were for that one, so the attempt ends unsent.
func (x *exchange) hold(conn net.Conn) bool {
	x.mu.Lock()
	again := x.stage != connecting
	x.stage = held
	if x.gate = ownGate(conn); x.gate != nil {
		x.gate.owner.Store(x) // shut until released
	}
	x.mu.Unlock()
	switch {
	case again:
		x.abort(errReconnected)
	case !x.due.Stop():
		x.abort(errConnectionDue)
	default:
		return true
	}
	return false
}

// ownGate is the gate of a connection that serves one request at a time; nil for
// HTTP/2, whose connection must stay open for other attempts.
func ownGate(conn net.Conn) *gatedConn {
	if c, ok := conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol == "h2" {
		return nil
	}
	return gateOf(conn)
}

// release lets bytes flow and starts the clock for the answer. Writes of HTTP/2
// cannot be told apart by attempt, so from here on it counts as written.
func (x *exchange) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stage, x.ready = released, time.Now()
	x.written = x.gate == nil
	x.due = time.AfterFunc(x.v.timeout, func() { x.cancel(errAnswerDue) })
}

// abort keeps the gate shut (HTTP/1.1) and cancels (HTTP/2 looks before it writes
// a header), so that no byte is written.
func (x *exchange) abort(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stage, x.aborted = ended, err
	if x.gate == nil {
		x.written = false
	}
	x.cancel(err)
}

// admit reports whether the owner of a connection may write to it, and notes
// that it does.
func (x *exchange) admit() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage != released || !x.written && x.stale(time.Now()) {
		return false
	}
	x.written = true
	return true
}

// stale reports whether the process was frozen between Ready's word and the first byte,
// by either clock: the word was about the age of earlier attempts.
func (x *exchange) stale(now time.Time) bool {
	return max(now.Sub(x.ready), now.Round(0).Sub(x.ready.Round(0))) > x.v.timeout
}

// fail ends the exchange without a whole answer. The gate shuts before written
// is read: "not written" is final.
func (x *exchange) fail(err error) {
	x.mu.Lock()
	x.stage = ended
	written, aborted := x.written, x.aborted
	x.due.Stop()
	x.mu.Unlock()
	x.seen.end = endUnsent
	if written {
		x.seen.end = endCut
	}
	x.seen.err = cmp.Or(aborted, context.Cause(x.ctx), err)
}

// finish gives the connection back to the pool, which may have lent it to the
// next attempt by now.
func (x *exchange) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.due.Stop()
	if x.gate != nil {
		x.gate.owner.CompareAndSwap(x, nil)
	}
	x.stage = ended
	x.seen.end = endAnswered
}
