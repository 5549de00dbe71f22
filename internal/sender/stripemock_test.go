package sender_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/sender"
	"github.com/meterworker/meterworker/usage"
)

// startStripeMock builds and starts Stripe's own mock, which checks requests
// against Stripe's OpenAPI document, and returns its base URL. A mock that cannot
// be built or does not start is a failure.
func startStripeMock(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "stripe-mock")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools.mod", "-o", binary, "github.com/stripe/stripe-mock")
	build.Dir = moduleRoot(t)
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building stripe-mock: %v\n%s", err, output)
	}
	// Port 0 lets the mock choose; it prints what it chose once it listens.
	ctx, cancel := context.WithCancel(context.Background())
	mock := exec.CommandContext(ctx, binary, "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	output, err := mock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	overdue := time.AfterFunc(time.Minute, cancel)
	lines := bufio.NewScanner(output)
	base := announcedBase(lines)
	overdue.Stop()
	read := make(chan struct{})
	go func() { // a full pipe would stop the mock
		defer close(read)
		_, _ = io.Copy(io.Discard, output)
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		_ = mock.Wait()
	})
	if base == "" {
		t.Fatal("stripe-mock did not start to listen within a minute")
	}
	return base
}

func announcedBase(lines *bufio.Scanner) string {
	for lines.Scan() {
		if _, address, ok := strings.Cut(lines.Text(), "Listening for HTTP at address: "); ok {
			return "http://" + address
		}
	}
	return ""
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tools.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no tools.mod above this package")
	return ""
}

func TestStripeMockAcceptsOurRequests(t *testing.T) {
	base := startStripeMock(t)
	v, err := sender.New(sender.Config{
		BaseURL: base,
		Key:     func() string { return "sk_test_123" },
		Live:    func() bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for name, change := range map[string]func(*usage.Params){
		"minimal": func(*usage.Params) {},
		"dimensions": func(p *usage.Params) {
			p.Dimensions = map[string]string{"region": "eu", "a b&c=d": "100 %", "empty": ""}
		},
		"negative value":           func(p *usage.Params) { p.Value = -5 },
		"zero":                     func(p *usage.Params) { p.Value = 0 },
		"15 digits":                func(p *usage.Params) { p.Value = 999_999_999_999_999 },
		"non-ASCII identifier":     func(p *usage.Params) { p.Identifier = "größe-日本-🎉" },
		"identifier with form":     func(p *usage.Params) { p.Identifier = "a&identifier=b%20+c" },
		"100 character identifier": func(p *usage.Params) { p.Identifier = strings.Repeat("i", 100) },
		"255 character identifier": func(p *usage.Params) { p.Identifier = strings.Repeat("i", 255) },
		"100 character event name": func(p *usage.Params) { p.EventName = strings.Repeat("e", 100) },
		"customer with form":       func(p *usage.Params) { p.Customer = "cus_x&payload[value]=999999" },
		"34 days ago":              func(p *usage.Params) { p.Timestamp = time.Now().Add(-34 * 24 * time.Hour) },
	} {
		params := usage.Params{EventName: "api_calls", Identifier: "req-1", Customer: "cus_1", Value: 7}
		change(&params)
		event, err := usage.New(params)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer := v.Send(t.Context(), delivery.Attempt{
			Event: event, IdempotencyKey: "k-" + name,
			Ready: func(context.Context) error { return nil },
		})
		if answer.Class != delivery.Accepted || answer.Status != http.StatusOK || answer.RequestID == "" {
			t.Errorf("%s: %+v", name, answer)
		}
	}
	judgeJudges(t, base)
}

// judgeJudges shows that the mock refuses what is wrong.
func judgeJudges(t *testing.T, base string) {
	t.Helper()
	const event = "event_name=api_calls&identifier=req-1&payload[stripe_customer_id]=cus_1&payload[value]=7"
	for name, c := range map[string]struct {
		key, form string
		want      int
	}{
		"right":                {"sk_test_123", event + "&timestamp=1760612775", http.StatusOK},
		"unknown parameter":    {"sk_test_123", event + "&quantity=7", http.StatusBadRequest},
		"no event name":        {"sk_test_123", "payload[value]=7", http.StatusBadRequest},
		"no payload":           {"sk_test_123", "event_name=api_calls", http.StatusBadRequest},
		"timestamp is no time": {"sk_test_123", event + "&timestamp=yesterday", http.StatusBadRequest},
		"no key":               {"", event, http.StatusUnauthorized},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/billing/meter_events", strings.NewReader(c.form))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "Bearer "+c.key)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: the mock answers %d, want %d", name, resp.StatusCode, c.want)
		}
	}
}
