package sender

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

// request reads one request whole; nil when the client has gone.
func request(conn net.Conn) *http.Request {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return req
}

func respond(conn net.Conn, status, body string, header ...string) {
	head := strings.Join(append(header, fmt.Sprintf("Content-Length: %d", len(body))), "\r\n")
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%s\r\n\r\n%s", status, head, body)
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func gzipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	return b.String()
}

// repeat writes text until the client hangs up.
func repeat(conn net.Conn, text string) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

func TestAnswersOnTheWire(t *testing.T) {
	type server func(conn *net.TCPConn)
	after := func(serve server) server { // the request was read
		return func(conn *net.TCPConn) {
			if request(conn) != nil {
				serve(conn)
			}
		}
	}
	write := func(text string) server {
		return after(func(conn *net.TCPConn) { _, _ = io.WriteString(conn, text) })
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		serve  server
		want   delivery.Class
		status int
	}{
		"accepted":               {after(func(c *net.TCPConn) { respond(c, "200 OK", accepted) }), delivery.Accepted, 200},
		"accepted, chunked":      {write(ok + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(accepted), accepted)), delivery.Accepted, 200},
		"accepted, until closed": {write(ok + "\r\n" + accepted), delivery.Accepted, 200},
		"reset after one byte": {func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			reset(c)
		}, delivery.NoAnswer, 0},
		"reset after the request":  {after(reset), delivery.NoAnswer, 0},
		"closed after the request": {write(""), delivery.NoAnswer, 0},
		"half a status line":       {write("HTTP/1.1 20"), delivery.NoAnswer, 0},
		"half a header":            {write(ok + "Content-Le"), delivery.NoAnswer, 0},
		"not HTTP":                 {write("220 smtp ready\r\n"), delivery.NoAnswer, 0},
		"no body":                  {write(ok + "Content-Length: 90\r\n\r\n"), delivery.NoAnswer, 200},
		"cut body":                 {write(ok + "Content-Length: 90\r\n\r\n" + accepted), delivery.NoAnswer, 200},
		"cut chunk":                {write(ok + "Transfer-Encoding: chunked\r\n\r\n40\r\n{"), delivery.NoAnswer, 200},
		"cut error body":           {write("HTTP/1.1 500 E\r\nContent-Length: 90\r\n\r\n{"), delivery.NoAnswer, 500},
		"reset inside the body": {after(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, ok+"Content-Length: 90\r\n\r\n"+accepted)
			reset(c)
		}), delivery.NoAnswer, -1}, // the reset may overtake the header
		"truncated by its length": {write(ok + "Content-Length: 20\r\n\r\n" + accepted), delivery.Unexpected, 200},
		"endless chunks": {after(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n")
			repeat(c, "400\r\n"+strings.Repeat(" ", 1024)+"\r\n")
		}), delivery.Unexpected, 200},
		"64 KiB":         {after(func(c *net.TCPConn) { respond(c, "200 OK", padded(maxReply)) }), delivery.Accepted, 200},
		"64 KiB + 1":     {after(func(c *net.TCPConn) { respond(c, "200 OK", padded(maxReply+1)) }), delivery.Unexpected, 200},
		"10 MiB headers": {after(func(c *net.TCPConn) { respond(c, "200 OK", accepted, "X: "+strings.Repeat("x", 10<<20)) }), delivery.NoAnswer, 0},
		"100 x 1xx":      {write(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100)), delivery.NoAnswer, 0},
		"100 x 1xx, then accepted": {after(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100))
			respond(c, "200 OK", accepted)
		}), delivery.Accepted, 200},
		"100 x 1xx of 1 KiB, then accepted": {after(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 1024)+"\r\n\r\n", 100))
			respond(c, "200 OK", accepted)
		}), delivery.NoAnswer, 0},
		"switching protocols": {write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + accepted), delivery.Unexpected, 101},
		"no content":          {write("HTTP/1.1 204 No Content\r\n\r\n"), delivery.Unexpected, 204},
		"empty 200":           {after(func(c *net.TCPConn) { respond(c, "200 OK", "") }), delivery.Unexpected, 200},
		"HTML 200":            {after(func(c *net.TCPConn) { respond(c, "200 OK", "<html>") }), delivery.Unexpected, 200},
		"HTML 502":            {after(func(c *net.TCPConn) { respond(c, "502 Bad Gateway", "<html>") }), delivery.ServerFault, 502},
		"empty 401":           {after(func(c *net.TCPConn) { respond(c, "401 Unauthorized", "") }), delivery.SetupFault, 401},
		"520":                 {after(func(c *net.TCPConn) { respond(c, "520 Odd", "") }), delivery.ServerFault, 520},
		"599":                 {after(func(c *net.TCPConn) { respond(c, "599 Odd", "") }), delivery.ServerFault, 599},
		"999":                 {after(func(c *net.TCPConn) { respond(c, "999 Odd", accepted) }), delivery.Unexpected, 999},
		// Inflated, this would be an acceptance.
		"gzip": {after(func(c *net.TCPConn) {
			respond(c, "200 OK", gzipped(accepted+strings.Repeat(" ", 10<<10)), "Content-Encoding: gzip")
		}), delivery.Unexpected, 200},
		"gzip bomb": {after(func(c *net.TCPConn) {
			respond(c, "200 OK", gzipped(accepted+strings.Repeat(" ", 20<<20)), "Content-Encoding: gzip")
		}), delivery.Unexpected, 200},
		"10 GiB gzip": {after(func(c *net.TCPConn) { // and more: members of 10 MiB until we hang up
			_, _ = io.WriteString(c, ok+"Content-Encoding: gzip\r\n\r\n"+gzipped(accepted))
			repeat(c, gzipped(strings.Repeat(" ", 10<<20)))
		}), delivery.Unexpected, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			base := listen(t, func(conn *net.TCPConn, _ int) {
				conns.Add(1)
				c.serve(conn)
			})
			answer := newSender(t, testConfig(base), nil).Send(t.Context(), testAttempt(t))
			if answer.Class != c.want || c.status >= 0 && answer.Status != c.status {
				t.Errorf("%+v, want %v with status %d", answer, c.want, c.status)
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections for one attempt", n)
			}
		})
	}
}

func padded(size int) string { return accepted + strings.Repeat(" ", size-len(accepted)) }

// A kept-alive connection that dies under a request: Go's transport sends a POST
// with an Idempotency-Key again unless its body cannot be rewound.
func TestDeadKeptAliveConnectionIsNotRetried(t *testing.T) {
	var requests atomic.Int32
	base := listen(t, func(conn *net.TCPConn, _ int) {
		if request(conn) == nil {
			return
		}
		if requests.Add(1) == 1 {
			respond(conn, "200 OK", accepted)
			if request(conn) != nil {
				requests.Add(1)
			}
		}
	})
	v := newSender(t, testConfig(base), nil)
	if answer := v.Send(t.Context(), testAttempt(t)); answer.Class != delivery.Accepted {
		t.Fatalf("first: %+v", answer)
	}
	if answer := v.Send(t.Context(), testAttempt(t)); answer.Class != delivery.NoAnswer {
		t.Errorf("second: %+v", answer)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests on the wire for two attempts", n)
	}
}

// stripe-go would try 503, 409 and a reset twice more.
func TestNothingIsRetried(t *testing.T) {
	for _, status := range []string{"409 Conflict", "429 Too Many Requests", "500 Internal", "503 Unavailable"} {
		var requests atomic.Int32
		base := listen(t, func(conn *net.TCPConn, _ int) {
			for request(conn) != nil {
				requests.Add(1)
				respond(conn, status, "{}", "Stripe-Should-Retry: true", "Retry-After: 0")
			}
		})
		answer := newSender(t, testConfig(base), nil).Send(t.Context(), testAttempt(t))
		if n := requests.Load(); n != 1 || answer.ShouldRetry != delivery.RetryYes {
			t.Errorf("%s: %d requests, %+v", status, n, answer)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var arrived atomic.Int32
	target := httptest.NewUnstartedServer(http.NotFoundHandler())
	target.Config.ConnState = func(net.Conn, http.ConnState) { arrived.Add(1) } // not even a connection
	target.Start()
	defer target.Close()
	for status := 300; status <= 308; status++ {
		for _, location := range []string{target.URL + "/x", "/v1/elsewhere", "", "http://%zz"} {
			base := listen(t, func(conn *net.TCPConn, n int) {
				if n > 1 {
					arrived.Add(1)
				}
				for request(conn) != nil {
					respond(conn, fmt.Sprintf("%d Moved", status), "", "Location: "+location)
				}
			})
			answer := newSender(t, testConfig(base), nil).Send(t.Context(), testAttempt(t))
			if answer.Class != delivery.SetupFault || answer.Status != status {
				t.Errorf("%d to %q: %+v", status, location, answer)
			}
		}
	}
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d connections or requests arrived elsewhere", n)
	}
}

func TestAttemptsSideBySide(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"identifier":%q,"livemode":false}`, r.FormValue("identifier"))
	}))
	defer server.Close()
	cfg := testConfig(server.URL)
	cfg.MaxConns = 4
	v := newSender(t, cfg, nil)
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for n := range 20 {
				attempt := delivery.Attempt{
					Event:          testEvent(t, func(p *usage.Params) { p.Identifier = fmt.Sprintf("%d-%d", worker, n) }),
					IdempotencyKey: fmt.Sprintf("k-%d-%d", worker, n),
					Ready:          func(context.Context) error { return nil },
				}
				if answer := v.Send(t.Context(), attempt); answer.Class != delivery.Accepted {
					t.Errorf("%d-%d: %+v", worker, n, answer)
				}
			}
		})
	}
	wait.Wait()
}
