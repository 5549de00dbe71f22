package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/natstest"
	"github.com/meterworker/meterworker/internal/simulator"
)

// world is one test's NATS, Stripe and worker.
type world struct {
	t      *testing.T
	nats   *natstest.Server
	js     jetstream.JetStream
	stripe string // base URL of the simulator
	admin  string // base URL of the console
	stop   func() // the worker
}

// newWorld starts all three; settings are those of the worker.
func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	w := &world{t: t, nats: natstest.Start(t)}
	w.js = w.nats.Connect()
	w.stripe = w.simulate()
	w.admin, w.stop = w.worker(settings...)
	return w
}

// lockedBuffer keeps what a process says.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs the program until it is stopped, or the test ends; out, where it is not nil,
// hears of its output.
func (w *world) start(env []string, out io.Writer, args ...string) (stop func()) {
	w.t.Helper()
	var log lockedBuffer
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir()}, env...)
	cmd.Stdout, cmd.Stderr = out, &log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	stop = func() {
		_ = cmd.Process.Kill() // it may be gone
		<-done
	}
	w.t.Cleanup(func() {
		stop()
		if w.t.Failed() {
			text := log.String()
			w.t.Logf("log of %s:\n%s", args[0], text[max(0, len(text)-4000):])
		}
	})
	return stop
}

func (w *world) simulate() string {
	w.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.start(nil, writer, "simulate", "--addr", "127.0.0.1:0")
	_ = writer.Close() // the child has its own
	w.t.Cleanup(func() { _ = reader.Close() })
	line, err := bufio.NewReader(reader).ReadString('\n')
	_, base, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	if err != nil || !found {
		w.t.Fatalf("the simulator says %q (%v), not where it listens", line, err)
	}
	return base
}

// worker starts one at an address of its own.
func (w *world) worker(settings ...string) (admin string, stop func()) {
	w.t.Helper()
	address := freeAddress(w.t)
	return "http://" + address, w.startWorker(address, settings...)
}

// startWorker starts one at an address, and waits until it is ready.
func (w *world) startWorker(address string, settings ...string) (stop func()) {
	w.t.Helper()
	stop = w.start(append([]string{
		"NATS_URL=" + w.nats.ClientURL(), "STRIPE_API_KEY=sk_test_x", "STRIPE_API_BASE=" + w.stripe,
		"METERWORKER_ADMIN_ADDR=" + address, "METERWORKER_RATE=200",
	}, settings...), nil, "run")
	w.until("the worker is ready", func() bool {
		answer, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return stop
}

// freeAddress is of a port below those that the system hands out (from 32768 on), so that
// nobody is given it before the worker that it is for.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(22_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// until waits for a condition, or fails with what was waited for.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			w.t.Fatalf("waited %s until %s", patience, what)
		}
	}
}

// command runs the program to its end, with input, and returns its output.
func (w *world) command(input string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = []string{"NATS_URL=" + w.nats.ClientURL(), "HOME=" + w.t.TempDir()}
	cmd.Stdin = strings.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("meterworker %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// event is one line for `meterworker publish`.
func event(name, customer, identifier string, value any, more ...string) string {
	payload := map[string]any{"stripe_customer_id": customer, "value": value}
	for i := 0; i+1 < len(more); i += 2 {
		payload[more[i]] = more[i+1]
	}
	line, err := json.Marshal(map[string]any{
		"event_name": name, "identifier": identifier, "timestamp": time.Now().Unix(), "payload": payload,
	})
	if err != nil {
		panic(err) // of strings and numbers
	}
	return string(line) + "\n"
}

func (w *world) publish(lines ...string) {
	w.t.Helper()
	w.command(strings.Join(lines, ""), "publish", "-o", "json")
}

// publishRaw stores what no check of ours would let through.
func (w *world) publishRaw(subject, body string) {
	w.t.Helper()
	if _, err := w.js.Publish(context.Background(), "usage.events."+subject, []byte(body)); err != nil {
		w.t.Fatal(err)
	}
}

// letters is how many dead letters there are.
func (w *world) letters() int {
	w.t.Helper()
	stream, err := w.js.Stream(context.Background(), "USAGE_DLQ")
	if err != nil {
		w.t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}

func (w *world) untilLetters(n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("there are %d dead letters", n), func() bool { return w.letters() == n })
}

// units are what Stripe has counted, by identifier.
func (w *world) units() map[string]int64 {
	w.t.Helper()
	answer, err := http.Get(w.stripe + "/_simulator/books")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var books simulator.Books
	if err := json.NewDecoder(answer.Body).Decode(&books); err != nil {
		w.t.Fatal(err)
	}
	counted := map[string]int64{}
	for _, e := range books.Events {
		counted[e.Identifier] += e.Units
	}
	return counted
}

// refuseEverything makes Stripe answer 400 to each event, until the returned function mends it.
func (w *world) refuseEverything(code string) (mend func()) {
	w.t.Helper()
	w.faults(http.MethodPost, fmt.Sprintf(`{"kind":"refused","code":%q}`, code))
	return func() { w.faults(http.MethodDelete, "") }
}

func (w *world) faults(method, body string) {
	w.t.Helper()
	request, err := http.NewRequest(method, w.stripe+"/_simulator/faults", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(answer.Body)
		w.t.Fatalf("the simulator answers %d to its faults: %s", answer.StatusCode, text)
	}
}
