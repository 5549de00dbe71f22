package simulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey = "sk_test_abc"
	liveKey = "sk_live_abc"
)

// start is on the minute, so that summaries are easy to ask for.
var start = time.Date(2025, 10, 16, 12, 0, 0, 0, time.UTC)

// handClock stands still until it is moved.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a simulator behind a real listener, with its clock in hand.
type bench struct {
	*Simulator
	t       *testing.T
	clock   *handClock
	server  *httptest.Server
	client  *http.Client
	arrived chan struct{} // one for each request, if anyone takes it
	serial  int
}

// newBench has no rate limit unless cfg sets one.
func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, clock: &handClock{now: start}, arrived: make(chan struct{}, 1)}
	cfg.Now = b.clock.Now
	orDefault(&cfg.Rate, -1)
	b.Simulator = New(cfg)
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case b.arrived <- struct{}{}:
		default:
		}
		b.ServeHTTP(w, r)
	}))
	transport := &http.Transport{}
	b.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		b.server.Close()
	})
	return b
}

// reply is an answer read to its end.
type testReply struct {
	status int
	header http.Header
	body   string
}

func (r testReply) object(t *testing.T) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
	return object
}

// failure is the error's code and type; both empty where there is none.
func (r testReply) failure() (code, kind, message string) {
	var body struct {
		Error struct{ Code, Type, Message string }
	}
	if json.Unmarshal([]byte(r.body), &body) != nil {
		return "", "", ""
	}
	return body.Error.Code, body.Error.Type, body.Error.Message
}

func (b *bench) do(r *http.Request) testReply {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatalf("%s %s: body: %v", r.Method, r.URL.Path, err)
	}
	return testReply{response.StatusCode, response.Header, string(body)}
}

func (b *bench) request(method, path, contentType, body string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequest(method, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.GetBody = nil // one request is one request: Go's transport sends none again
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.Header.Set("Stripe-Version", DefaultVersion)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// form is a valid event of one unit.
func (b *bench) form(identifier string) url.Values {
	return url.Values{
		"event_name": {"api_calls"}, "identifier": {identifier},
		"timestamp":                   {strconv.FormatInt(b.Now().Unix(), 10)},
		"payload[stripe_customer_id]": {"cus_1"}, "payload[value]": {"1"},
	}
}

// event is the request for a form, with an Idempotency-Key of its own.
func (b *bench) event(form url.Values) *http.Request {
	b.t.Helper()
	r := b.request(http.MethodPost, pathEvents, formType, form.Encode())
	b.serial++
	r.Header.Set("Idempotency-Key", fmt.Sprintf("key-%d", b.serial))
	return r
}

// send sends a valid event, changed by pairs of parameter and value.
func (b *bench) send(identifier string, changes ...string) testReply {
	b.t.Helper()
	form := b.form(identifier)
	for i := 0; i < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
	}
	return b.do(b.event(form))
}

func (b *bench) get(path string) testReply {
	b.t.Helper()
	return b.do(b.request(http.MethodGet, path, "", ""))
}

func (b *bench) want(got testReply, status int, code string) {
	b.t.Helper()
	gotCode, _, _ := got.failure()
	if got.status != status || gotCode != code {
		b.t.Errorf("got %d %q, want %d %q: %s", got.status, gotCode, status, code, got.body)
	}
}

func (b *bench) inject(faults ...Fault) {
	b.t.Helper()
	if err := b.Inject(faults...); err != nil {
		b.t.Fatal(err)
	}
}

func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
