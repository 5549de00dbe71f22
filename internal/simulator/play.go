package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	oversize       = 64 << 20 // bytes of OversizeBody
	headerSize     = 10 << 20 // bytes of HugeHeader
	bombMembers    = 10 << 10 // gzip members of 1 MiB each: 10 GiB
	interimAnswers = 100
	slowByte       = 10 * time.Second
)

// kindSpec is how one kind of fault is played: by an answer, or by hand where an
// answer is not enough.
type kindSpec struct {
	stage    stage
	recorded bool // the event may have been counted
	reply    func(scene) answer
	perform  func(scene)
}

// scene is a fault being played on a call. answer is the true one if the fault
// is recorded, and otherwise one that looks true.
type scene struct {
	w      http.ResponseWriter
	call   *call
	fault  Fault
	answer answer
}

var kinds = map[Kind]kindSpec{
	Error500:     {stage: executing, recorded: true, reply: serverError(500)},
	Error502HTML: {stage: edge, recorded: true, reply: html(502, "<html><body><h1>502 Bad Gateway</h1></body></html>")},
	Error503:     {stage: edge, recorded: true, reply: serverError(503)},
	Error520:     {stage: edge, recorded: true, reply: html(520, "error code: 520")},
	Error599:     {stage: edge, recorded: true, reply: serverError(599)},
	Error999:     {stage: edge, recorded: true, reply: serverError(999)},

	Reset:    {stage: edge, recorded: true, perform: scene.reset},
	Cut:      {stage: edge, recorded: true, perform: scene.cut},
	CutBody:  {stage: edge, recorded: true, perform: scene.cutBody},
	Hang:     {stage: edge, recorded: true, perform: scene.hang},
	SlowBody: {stage: edge, recorded: true, perform: scene.slowBody},

	RateLimited: {stage: edge, reply: func(p scene) answer {
		orDefault(&p.fault.Reason, "global-rate")
		return rateLimited(p.fault.Reason)
	}},
	LockTimeout: {stage: executing, reply: func(scene) answer { return lockTimeout() }},
	KeyInUse:    {stage: edge, reply: func(scene) answer { return keyInUse() }},
	ConcurrentRequests: {stage: edge, reply: refusal(409, "too_many_concurrent_requests",
		"Too many concurrent requests for this resource.")},
	Unauthorized: {stage: edge, reply: refusal(401, "api_key_expired", "Expired API Key provided.")},
	Forbidden: {stage: edge, reply: refusal(403, "more_permissions_required",
		"The provided key does not have the required permissions for this endpoint.")},
	Redirect:      {stage: edge, reply: scene.redirect},
	RouteNotFound: {stage: edge, reply: func(p scene) answer { return unknownRoute(p.call) }},
	Refused:       {stage: edge, reply: scene.refused},
	DuplicateOther: {stage: edge, reply: func(scene) answer {
		return duplicate("another-identifier")
	}},
	RejectedLater: {stage: afterwards},
	NotCounted:    {stage: afterwards},

	EmptyOK:         {stage: edge, recorded: true, reply: func(scene) answer { return answer{status: 200} }},
	HTMLOK:          {stage: edge, recorded: true, reply: html(200, "<!DOCTYPE html><html><body>Welcome</body></html>")},
	OtherIdentifier: {stage: edge, recorded: true, reply: scene.otherIdentifier},
	WrongLivemode:   {stage: edge, recorded: true, reply: scene.wrongLivemode},
	NoContent:       {stage: edge, recorded: true, reply: func(scene) answer { return answer{status: 204} }},
	OversizeBody:    {stage: edge, recorded: true, perform: scene.oversizeBody},
	EndlessBody:     {stage: edge, recorded: true, perform: scene.endlessBody},
	GzipBomb:        {stage: edge, recorded: true, perform: scene.gzipBomb},
	HugeHeader:      {stage: edge, recorded: true, perform: scene.hugeHeader},
	InterimFlood:    {stage: edge, recorded: true, perform: scene.interimFlood},
}

// noAnswer are the kinds after which no whole answer has come: status 0.
var noAnswer = map[Kind]bool{Reset: true, Cut: true, CutBody: true, Hang: true, EndlessBody: true}

// play records where asked, enters the call, and only then lets the client see.
func (s *Simulator) play(p scene) {
	p.call.entry.Fault = p.fault.Kind
	p.answer = s.truth(p.call, p.fault.Recorded)
	p.call.entry.Fault = p.fault.Kind // the call's last fault is the one the client sees
	kind := kinds[p.fault.Kind]
	if kind.reply != nil {
		s.write(p.w, p.call, p.fault.dress(kind.reply(p)))
		return
	}
	p.answer = p.fault.dress(p.answer)
	end := p.answer
	if noAnswer[p.fault.Kind] {
		end.status = 0
	}
	s.close(p.call, end)
	kind.perform(p)
}

// truth is the true answer or, where the event is not to be counted, one that
// looks true.
func (s *Simulator) truth(c *call, recorded bool) answer {
	switch path := c.request.URL.Path; {
	case recorded:
	case path == pathEvents:
		return accepted(c.form.event, isLive(bearer(c.request)), c.at)
	case path == pathStream:
		return succeed(struct{}{})
	}
	return s.answer(c)
}

// dress puts the fault's headers on an answer.
func (f Fault) dress(a answer) answer {
	for name, value := range map[string]string{"Retry-After": f.RetryAfter, "Stripe-Should-Retry": f.ShouldRetry} {
		if value != "" {
			a = a.with(name, value)
		}
	}
	if f.Replayed {
		a = a.with("Idempotent-Replayed", "true")
	}
	return a
}

func refusal(status int, code, message string) func(scene) answer {
	return func(scene) answer { return refuse(status, apiError{Code: code, Message: message}) }
}

func serverError(status int) func(scene) answer {
	return func(scene) answer {
		return refuse(status, apiError{Type: "api_error", Message: "An unknown error occurred."})
	}
}

func html(status int, page string) func(scene) answer {
	return func(scene) answer {
		return answer{status: status, body: []byte(page)}.with("Content-Type", "text/html; charset=utf-8")
	}
}

func (p scene) redirect() answer {
	orDefault(&p.fault.Status, http.StatusTemporaryRedirect)
	return answer{status: p.fault.Status}.with("Location", p.fault.Location)
}

func (p scene) refused() answer {
	orDefault(&p.fault.Status, http.StatusBadRequest)
	return refuse(p.fault.Status, apiError{Code: p.fault.codeOr("parameter_invalid"), Message: "Refused on demand."})
}

func (p scene) otherIdentifier() answer {
	e := p.call.form.event
	e.identifier = "another-identifier"
	return accepted(e, isLive(bearer(p.call.request)), p.call.at)
}

func (p scene) wrongLivemode() answer {
	return accepted(p.call.form.event, !isLive(bearer(p.call.request)), p.call.at)
}

// cut ends the connection, and with HTTP/2 the stream, without an answer.
func (p scene) cut() { panic(http.ErrAbortHandler) }

// reset lets the kernel send a TCP reset: what is buffered is thrown away.
func (p scene) reset() {
	conn, _, err := http.NewResponseController(p.w).Hijack()
	if err != nil { // HTTP/2: its own reset of the stream
		p.cut()
	}
	defer conn.Close()
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection that is gone already needs no reset
	}
}

func (p scene) cutBody() {
	p.start()
	_, _ = p.w.Write(p.answer.body[:len(p.answer.body)/2])
	p.flush()
	p.cut()
}

func (p scene) hang() {
	p.wait(p.fault.delay())
	p.cut()
}

// wait ends when the client has left, or after d if that is above 0.
func (p scene) wait(d time.Duration) {
	var end <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-end:
	case <-p.call.request.Context().Done():
	}
}

func (p scene) slowBody() {
	delay := p.fault.delay()
	orDefault(&delay, slowByte)
	p.start()
	for i := range p.answer.body {
		p.wait(delay)
		if _, err := p.w.Write(p.answer.body[i : i+1]); err != nil || p.gone() {
			return
		}
		p.flush()
	}
}

func (p scene) oversizeBody() {
	p.call.head(p.w, p.answer)
	p.w.Header().Set("Content-Length", strconv.Itoa(oversize))
	p.w.WriteHeader(p.answer.status)
	padding := oversize - len(p.answer.body)
	_ = p.pour(p.answer.body, 1) && p.pour(blanks, padding/len(blanks)) && p.pour(blanks[:padding%len(blanks)], 1)
}

// endlessBody is blanks, which JSON allows in front of a value.
func (p scene) endlessBody() {
	p.call.head(p.w, p.answer)
	p.w.Header().Del("Content-Length")
	p.w.WriteHeader(p.answer.status)
	for p.pour(blanks, 1) {
		p.flush()
	}
	p.cut()
}

var (
	blanks = bytes.Repeat([]byte{' '}, 32<<10)
	member = gzipped(make([]byte, 1<<20))
)

func gzipped(content []byte) []byte {
	var buffer bytes.Buffer
	w, err := gzip.NewWriterLevel(&buffer, gzip.BestCompression)
	if err != nil {
		panic(fmt.Sprintf("simulator: gzip: %v", err))
	}
	_, _ = w.Write(content) // a bytes.Buffer takes everything
	_ = w.Close()
	return buffer.Bytes()
}

// gzipBomb is sent whether or not the client asked for gzip.
func (p scene) gzipBomb() {
	p.call.head(p.w, p.answer.with("Content-Encoding", "gzip"))
	p.w.Header().Del("Content-Length")
	p.w.WriteHeader(p.answer.status)
	p.pour(member, bombMembers)
}

func (p scene) hugeHeader() {
	p.w.Header().Set("X-Padding", strings.Repeat("x", headerSize))
	p.call.send(p.w, p.answer)
}

func (p scene) interimFlood() {
	for range interimAnswers {
		p.w.WriteHeader(http.StatusEarlyHints)
	}
	p.call.send(p.w, p.answer)
}

func (p scene) start() {
	p.call.head(p.w, p.answer)
	p.w.WriteHeader(p.answer.status)
	p.flush()
}

func (p scene) flush() { _ = http.NewResponseController(p.w).Flush() }

func (p scene) gone() bool { return p.call.request.Context().Err() != nil }

// pour writes chunk n times and reports whether the client took it all.
func (p scene) pour(chunk []byte, n int) bool {
	for range n {
		if _, err := p.w.Write(chunk); err != nil || p.gone() {
			return false
		}
	}
	return true
}
