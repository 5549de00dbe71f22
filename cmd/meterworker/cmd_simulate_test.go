package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// simulation is the command running in this process.
type simulation struct {
	base   string
	rest   <-chan string // what it prints after its address
	code   <-chan int
	errs   *bytes.Buffer // to be read after code
	cancel context.CancelFunc
}

func simulate(t *testing.T, args ...string) *simulation {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	out, in := io.Pipe()
	code, rest := make(chan int, 1), make(chan string, 1)
	s := &simulation{code: code, rest: rest, errs: &bytes.Buffer{}, cancel: cancel}
	go func() {
		args := append([]string{"simulate", "--addr", "127.0.0.1:0"}, args...)
		n := execute(ctx, args, &process{Out: in, Err: s.errs})
		_ = in.Close()
		code <- n
	}()
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatalf("first line %q: %v; %s", line, err, s.errs)
	}
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok || (!strings.HasPrefix(address, "http://127.0.0.1:") && !strings.HasPrefix(address, "https://127.0.0.1:")) || strings.HasSuffix(address, ":0") {
		t.Fatalf("first line %q", line)
	}
	s.base = address
	go func() {
		text, _ := io.ReadAll(reader)
		rest <- string(text)
	}()
	return s
}

// send posts one meter event and returns the status.
func (s *simulation) send(t *testing.T, name, identifier string) int {
	t.Helper()
	form := url.Values{
		"event_name": {name}, "identifier": {identifier}, "timestamp": {strconv.FormatInt(time.Now().Unix(), 10)},
		"payload[stripe_customer_id]": {"cus_1"}, "payload[value]": {"5"},
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/v1/billing/meter_events", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sk_test_whatever")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Idempotency-Key", rand.Text())
	request.Header.Set("Stripe-Version", simulator.DefaultVersion)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// end interrupts the command and returns its exit code and what it printed.
func (s *simulation) end() (code int, rest string) {
	s.cancel()
	return <-s.code, <-s.rest
}

func TestSimulate(t *testing.T) {
	s := simulate(t, "--meter", "api_calls", "--meter", "seats:last")
	for _, tt := range []struct {
		name, identifier string
		want             int
	}{{"api_calls", "a", 200}, {"api_calls", "a", 400}, {"seats", "b", 200}} {
		if got := s.send(t, tt.name, tt.identifier); got != tt.want {
			t.Errorf("%s %s: status %d, want %d", tt.name, tt.identifier, got, tt.want)
		}
	}
	code, rest := s.end()
	if code != 0 || s.errs.Len() > 0 {
		t.Errorf("exit %d, %q", code, s.errs)
	}
	containsAll(t, rest, []string{"requests 3, ", "events counted 2, duplicates refused 1, ", "units of api_calls: 5\n", "units of seats: 5\n"})
}

func TestSimulateFaultsAndBooks(t *testing.T) {
	s := simulate(t, "--fault", "error_503", "-o", "json")
	if got := s.send(t, "api_calls", "a"); got != 503 {
		t.Errorf("status %d, want 503", got)
	}
	code, rest := s.end()
	var books simulator.Books
	if err := json.Unmarshal([]byte(rest), &books); err != nil || code != 0 || books.Requests != 1 || books.Faults[simulator.Error503] != 1 {
		t.Errorf("exit %d, %v, %s", code, err, rest)
	}
}

// Rate 0 is no limit, and a request that hangs by design does not hold up the end.
func TestSimulateFlags(t *testing.T) {
	cfg, err := (&SimulateCmd{Rate: 0, Burst: 1, StreamRate: 0, StreamBurst: 100, Memory: time.Hour, Meter: []string{"a:b:count"}}).config()
	if err != nil || cfg.Rate != -1 || cfg.StreamRate != -1 || cfg.StreamBurst != 100 || cfg.Memory != time.Hour || cfg.Meters[0].EventName != "a:b" || cfg.Meters[0].Formula != "count" {
		t.Errorf("%+v, %v", cfg, err)
	}
	tests := [][]string{
		{"--rate", "NaN"},
		{"--rate=-1"},
		{"--rate", "1e9"},
		{"--burst", "0"},
		{"--stream-rate", "NaN"},
		{"--stream-rate=-1"},
		{"--stream-burst", "99"},
		{"--latency=-1s"},
		{"--memory", "0s"},
		{"--meter", ""},
		{"--meter", "a:median"},
		{"--meter", ":sum"},
		{"--fault", "nope"},
		{"--fault", ""},
		{"--fault", "error_503:0"},
		{"--fault", "error_503:1.5"},
		{"--fault", "error_503:NaN"},
		{"--fault", "error_503:"},
		{"--fault", "redirect"},
		{"-o", "xml"},
		{"--seed=-1"},
		{"--webhook-secret", "whsec_x"},
		{"--webhook-url", "http://127.0.0.1:4242/webhooks"},
		{"--webhook-url", "127.0.0.1:4242/webhooks", "--webhook-secret", "whsec_x"},
		{"--webhook-url", "file:///webhooks", "--webhook-secret", "whsec_x"},
	}
	for _, args := range tests {
		code, stdout, stderr := runCommand(t, nil, append([]string{"simulate", "--addr", "127.0.0.1:0"}, args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, "meterworker: error: ") {
			t.Errorf("%q: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
	s := simulate(t)
	code, _, stderr := runCommand(t, nil, "simulate", "--addr", strings.TrimPrefix(s.base, "http://"))
	if code != exitFailed || !strings.Contains(stderr, "set --addr to a free address") {
		t.Errorf("taken address: exit %d, %q", code, stderr)
	}
}

func TestSchemaFailsOnAFullDisk(t *testing.T) {
	var errs bytes.Buffer
	if code := execute(t.Context(), []string{"schema"}, &process{Out: fullDisk{}, Err: &errs}); code != exitFailed || !strings.Contains(errs.String(), errFull.Error()) {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}
