package examples

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/natstest"
	"github.com/meterworker/meterworker/internal/simulator"
)

const root = "../.."

// world is one test's NATS and Stripe, with a worker between them.
type world struct {
	t      *testing.T
	nats   *natstest.Server
	js     jetstream.JetStream
	stripe *stripe
}

// stripe is the simulator, and what it was sent.
type stripe struct {
	*simulator.Simulator

	mu   sync.Mutex
	sent []url.Values
}

func (s *stripe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if form, err := url.ParseQuery(string(body)); err == nil && form.Has("identifier") {
		s.mu.Lock()
		s.sent = append(s.sent, form)
		s.mu.Unlock()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.Simulator.ServeHTTP(w, r)
}

// requests are the events that were sent, by identifier; one that was sent twice fails.
func (s *stripe) requests(t *testing.T) map[string]url.Values {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	byIdentifier := map[string]url.Values{}
	for _, form := range s.sent {
		identifier := form.Get("identifier")
		if _, twice := byIdentifier[identifier]; twice {
			t.Errorf("%s was sent twice", identifier)
		}
		byIdentifier[identifier] = form
	}
	return byIdentifier
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, nats: startNATS(t), stripe: &stripe{Simulator: simulator.New(simulator.Config{})}}
	w.js = w.nats.Connect()
	endpoint := httptest.NewServer(w.stripe)
	t.Cleanup(endpoint.Close)
	w.work(endpoint.URL)
	return w
}

func startNATS(t *testing.T, change ...func(*natsserver.Options)) *natstest.Server {
	t.Helper()
	return natstest.Start(t, change...)
}

// work runs the worker until the test ends, and returns when it is ready.
func (w *world) work(endpoint string) {
	w.t.Helper()
	admin, log := freeAddress(w.t), &bytes.Buffer{}
	cmd := exec.Command(filepath.Join(copied, "bin", "meterworker"), "run")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), "NATS_URL=" + w.nats.ClientURL(),
		"STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=" + endpoint, "METERWORKER_ADMIN_ADDR=" + admin,
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("worker log:\n%s", log)
		}
	})
	w.until("readiness of the worker", func() bool {
		response, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	until(w.t, what, condition)
}

// until waits for a condition, or fails with what was waited for.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		<-ticker.C
	}
}

// settled waits until the worker is done with all that is stored.
func (w *world) settled() {
	w.t.Helper()
	w.until("everything to be settled", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), patience)
		defer cancel()
		stream, err := w.js.Stream(ctx, "USAGE")
		if err != nil {
			return false
		}
		consumers, seen := stream.ListConsumers(ctx), 0
		for info := range consumers.Info() {
			if info.NumPending > 0 || info.NumAckPending > 0 {
				return false
			}
			seen++
		}
		return seen > 0 && consumers.Err() == nil
	})
}

// letters are the reasons of the dead letters, by identifier.
func (w *world) letters() map[string]string {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "USAGE_DLQ")
	if err != nil {
		w.t.Fatal(err)
	}
	reasons := map[string]string{}
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		letter, err := stream.GetMsg(w.t.Context(), sequence)
		if err != nil {
			w.t.Fatal(err)
		}
		reasons[letter.Header.Get("Meterworker-Identifier")] = letter.Header.Get("Meterworker-Reason")
	}
	return reasons
}

// environment is what a program run in the copy sees: the built meterworker, and stand-ins
// for the nats program and for nats-py.
func environment(natsURL string) []string {
	return append(os.Environ(), "NATS_URL="+natsURL, "PYTHONDONTWRITEBYTECODE=1",
		"PYTHONPATH="+filepath.Join(copied, "nats-py"),
		"PATH="+filepath.Join(copied, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// needs fails without the program, and says what to install.
func needs(t *testing.T, program, packages string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing (%v); on Debian: apt-get install %s", program, err, packages)
	}
}

// outcome is what a program printed and how it ended.
type outcome struct {
	lines  []string // of standard output
	stderr string
	code   int
}

// run runs a shell command in the copy.
func run(t *testing.T, natsURL, command, stdin string) outcome {
	t.Helper()
	return start(t, natsURL, command, stdin)()
}

// start starts a shell command in the copy; wait returns when it has ended.
func start(t *testing.T, natsURL, command, stdin string) (wait func() outcome) {
	t.Helper()
	needs(t, "bash", "bash")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Dir, cmd.Env = copied, environment(natsURL)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() outcome {
		t.Helper()
		if err := cmd.Wait(); ctx.Err() != nil {
			t.Fatalf("%s\n%v, %v\n%s", command, err, ctx.Err(), &stderr)
		}
		lines := strings.FieldsFunc(stdout.String(), func(r rune) bool { return r == '\n' })
		return outcome{lines, stderr.String(), cmd.ProcessState.ExitCode()}
	}
}
