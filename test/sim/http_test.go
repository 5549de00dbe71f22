package sim

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/sender"
)

// stripeAddress is where Stripe is; nobody else may be spoken to.
const stripeAddress = "127.0.0.1:1"

// overHTTP is the real sender, with connections in memory.
func (l *life) overHTTP() delivery.Sender {
	v1, err := sender.New(sender.Config{
		BaseURL: "http://" + stripeAddress, Timeout: attemptTimeout, MaxConns: 32, Live: func() bool { return true },
		Key: func() (key string) {
			l.w.lock(func() { key = l.key })
			return key
		},
		Dial: l.dial,
	})
	if err != nil {
		panic(err) // the configuration above is wrong
	}
	l.v1 = v1
	return v1
}

// dial connects the process with Stripe.
func (l *life) dial(_ context.Context, _, address string) (net.Conn, error) {
	l.w.lock(func() {
		if address != stripeAddress {
			l.w.violate("I19", "the worker turns to %s, where it was sent by a redirect", address)
		}
	})
	if err := l.connect("dial"); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	l.w.beside.Go(func() { l.w.stripe.listen(far, l) })
	return wire{near, l}, nil
}

// wire is a connection of a process: a dead one writes nothing, a frozen one reads
// nothing.
type wire struct {
	net.Conn
	l *life
}

func (c wire) Write(p []byte) (int, error) {
	if c.l.isDead() {
		return 0, errDead
	}
	return c.Conn.Write(p)
}

func (c wire) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.awake()
	return n, err
}

// listen serves one connection until it ends.
func (s *stripe) listen(conn net.Conn, l *life) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(reader)
		if err == nil && strings.HasPrefix(r.URL.Path, "/v2/") {
			if !s.stream(r, l, conn) {
				return
			}
			continue
		}
		if err != nil || r.ParseForm() != nil {
			return
		}
		lost := false
		s.w.lock(func() { lost = l.noStripe.After(time.Now()) })
		if lost {
			pass(2 * attemptTimeout) // the request gets lost on the way
			return
		}
		if !s.serve(formOf(r, l)).write(conn) {
			return
		}
	}
}

// formOf reads the request's form.
func formOf(r *http.Request, l *life) request {
	stamp, _ := strconv.ParseInt(r.PostForm.Get("timestamp"), 10, 64) // 0 is no event's timestamp, and noticed
	return request{
		content: content{
			name: r.PostForm.Get("event_name"), identifier: r.PostForm.Get("identifier"), timestamp: stamp,
			customer: r.PostForm.Get("payload[stripe_customer_id]"), value: r.PostForm.Get("payload[value]"),
		},
		idempotency: r.Header.Get("Idempotency-Key"), life: l,
		bearer: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
	}
}

// write sends the answer; it reports whether the connection goes on.
func (r reply) write(conn net.Conn) bool {
	if r.end == cutSilent {
		return false
	}
	body := r.body()
	head := fmt.Sprintf("HTTP/1.1 %d Answer\r\nRequest-Id: req_%d\r\n", r.status, r.number)
	for name, value := range map[string]string{
		"Stripe-Rate-Limited-Reason": r.reason, "Stripe-Should-Retry": r.retry,
	} {
		if value != "" {
			head += name + ": " + value + "\r\n"
		}
	}
	if r.after > 0 {
		head += fmt.Sprintf("Retry-After: %d\r\n", int(r.after.Seconds()))
	}
	if r.status/100 == 3 {
		head += "Location: http://127.0.0.1:9/elsewhere\r\n"
	}
	if r.replayed {
		head += "Idempotent-Replayed: true\r\n"
	}
	if r.status != http.StatusNoContent {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if r.end == cutBody {
		body = body[:len(body)/2]
	}
	_, err := conn.Write([]byte(head + "\r\n" + body))
	return err == nil && r.end != cutBody
}
