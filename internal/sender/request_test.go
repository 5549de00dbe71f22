package sender

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/usage"
)

func TestRequestOnTheWire(t *testing.T) {
	arrived := make(chan *http.Request, 1)
	base := listen(t, func(conn *net.TCPConn, _ int) {
		arrived <- request(conn)
		respond(conn, "200 OK", accepted)
	})
	attempt := testAttempt(t)
	attempt.Event = testEvent(t, func(p *usage.Params) {
		p.EventName = "api calls/ü"
		p.Customer = "cus_x&payload[value]=999999"
		p.Value = -5
		p.Dimensions = map[string]string{"region": "eu&identifier=x", "a b": "100% +"}
	})
	v := newSender(t, testConfig(base), nil)
	v.Send(t.Context(), attempt)
	got := <-arrived
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"event_name": {"api calls/ü"}, "identifier": {ours},
		"timestamp":                   {fmt.Sprint(attempt.Event.Timestamp())},
		"payload[stripe_customer_id]": {"cus_x&payload[value]=999999"},
		"payload[value]":              {"-5"}, "payload[region]": {"eu&identifier=x"}, "payload[a b]": {"100% +"},
	}
	if form.Encode() != want.Encode() {
		t.Errorf("form %v, want %v", form, want)
	}
	checkHeader(t, got, len(body))
}

func checkHeader(t *testing.T, got *http.Request, length int) {
	t.Helper()
	if got.Method != http.MethodPost || got.RequestURI != "/v1/billing/meter_events" || got.ContentLength != int64(length) {
		t.Errorf("%s %s with length %d", got.Method, got.RequestURI, got.ContentLength)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + testKey, "Content-Type": "application/x-www-form-urlencoded",
		"Stripe-Version": DefaultVersion, "Idempotency-Key": "key-1",
	} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != value {
			t.Errorf("%s: %q", name, v)
		}
	}
	for _, name := range []string{"X-Stripe-Client-User-Agent", "X-Stripe-Client-Telemetry", "Accept-Encoding", "Transfer-Encoding"} {
		if v := got.Header.Values(name); len(v) != 0 {
			t.Errorf("%s: %q", name, v)
		}
	}
	if len(got.TransferEncoding) != 0 {
		t.Errorf("transfer encoding %v", got.TransferEncoding)
	}
}

// The key may rotate between two attempts; one of the other mode or none at all
// sends nothing.
func TestKeyIsReadForEachAttempt(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	base := listen(t, func(conn *net.TCPConn, _ int) {
		for req := request(conn); req != nil; req = request(conn) {
			mu.Lock()
			seen = append(seen, req.Header.Get("Authorization"))
			mu.Unlock()
			respond(conn, "200 OK", accepted)
		}
	})
	key := ""
	cfg := testConfig(base)
	cfg.Key = func() string { return key }
	v := newSender(t, cfg, nil)
	for _, c := range []struct {
		key  string
		want delivery.Class
	}{
		{"sk_test_1", delivery.Accepted},
		{"rk_test_2", delivery.Accepted},
		{"sk_live_3", delivery.SetupFault},
		{"", delivery.SetupFault},
		{"pk_test_4", delivery.SetupFault},
		{"sk_test_5\r\nX: y", delivery.SetupFault},
	} {
		key = c.key
		answer := v.Send(t.Context(), testAttempt(t))
		if answer.Class != c.want {
			t.Errorf("%q: %+v", c.key, answer)
		}
		if c.want == delivery.SetupFault && answer.Detail == "" {
			t.Errorf("%q: no detail", c.key)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(seen, ","); got != "Bearer sk_test_1,Bearer rk_test_2" {
		t.Errorf("sent with %s", got)
	}
}

// stripe-go logs errors and bodies to stderr unless told not to.
func TestNothingIsPrinted(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = file, file
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	for _, status := range []string{"200 OK", "402 Payment", "400 Bad", "500 Internal"} {
		base := listen(t, func(conn *net.TCPConn, _ int) {
			for request(conn) != nil {
				respond(conn, status, errorBody("marker", "marker", "card_error"))
			}
		})
		newSender(t, testConfig(base), nil).Send(t.Context(), testAttempt(t))
	}
	base := listen(t, func(conn *net.TCPConn, _ int) { request(conn) })
	newSender(t, testConfig(base), nil).Send(t.Context(), testAttempt(t))
	printed, err := os.ReadFile(file.Name())
	if err != nil || len(printed) != 0 {
		t.Errorf("printed %q, %v", printed, err)
	}
}

func TestBadIdempotencyKeyIsNotSent(t *testing.T) {
	base := listen(t, func(conn *net.TCPConn, _ int) {
		if request(conn) != nil {
			t.Error("a request arrived")
		}
	})
	for _, key := range []string{strings.Repeat("k", 256), "a\nb", "a\x00b"} {
		attempt := testAttempt(t)
		attempt.IdempotencyKey = key
		answer := newSender(t, testConfig(base), nil).Send(t.Context(), attempt)
		if answer.Class != delivery.NotSent || answer.Detail == "" {
			t.Errorf("%.10q: %+v", key, answer)
		}
	}
}
