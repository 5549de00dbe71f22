//go:build container

package container

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// takeOver bounds how long the usage of a killed worker waits for another one.
const takeOver = time.Minute

// What docs/docker.md promises: up, green, delivered; a worker killed, and still delivered.
func TestComposeDelivers(t *testing.T) {
	s := newStack(t)
	s.up()
	for worker := range s.admin {
		if err := s.ready(worker); err != nil {
			t.Errorf("after up --wait: %v", err)
		}
	}
	var published []string
	publish := func(prefix string) {
		for i := range 20 {
			published = append(published, fmt.Sprintf("%s%d", prefix, i))
			s.publish(published[len(published)-1])
		}
	}
	publish("both")
	s.billed(takeOver, published...)

	docker(t, "kill", "--signal", "KILL", s.container("meterworker-1"))
	publish("one")
	s.billed(takeOver, published...)

	docker(t, "start", s.container("meterworker-1"))
	wantSoon(t, "the killed worker", time.Minute, func() error { return s.ready(0) })
	wantSoon(t, "the killed worker", time.Minute, func() error { return health(s.container("meterworker-1")) })

	// What they trust was read at their start: the simulator comes back with the same certificate.
	s.compose("restart", "simulator")
	wantSoon(t, "the simulator", time.Minute, func() error { return health(s.container("simulator")) })
	s.publish("restarted")
	s.billed(takeOver, "restarted")

	s.confined()
	s.compose("stop", "--timeout", "30", "meterworker-1", "meterworker-2")
	for _, worker := range []string{"meterworker-1", "meterworker-2"} {
		if code := docker(t, "inspect", "--format", "{{.State.ExitCode}}", s.container(worker)); code != "0" {
			t.Errorf("%s: exit code %s after SIGTERM", worker, code)
		}
	}
}

// confined looks at the running containers as Docker has made them: read-only, and no key for
// those who may inspect them.
func (s *stack) confined() {
	s.t.Helper()
	for _, service := range []string{"nats", "simulator", "meterworker-1", "meterworker-2"} {
		if seen := docker(s.t, "inspect", s.container(service)); strings.Contains(seen, "sk_test_") || !strings.Contains(seen, `"ReadonlyRootfs": true`) {
			s.t.Errorf("%s shows its key, or is not read-only", service)
		}
	}
}

// A key of yours never meets the simulator, not even one that calls itself api.stripe.com
// and holds a certificate for it: its authority is not believed.
func TestKeyOfYoursKeepsAwayFromTheSimulator(t *testing.T) {
	s := newStack(t)
	s.override(fmt.Sprintf(`services:
  simulator:
    command: [simulate, --addr, "0.0.0.0:443", --tls-dir, /data, --tls-host, api.stripe.com, --tls-host, simulator]
    ports: !override ["%s:443"]
    sysctls: { net.ipv4.ip_unprivileged_port_start: 0 }
    healthcheck: { test: [CMD, /meterworker, healthcheck, --url, "https://localhost/_simulator/clock"] }
    networks: { default: { aliases: [api.stripe.com] } }
`, s.simulator))
	key := filepath.Join(t.TempDir(), "api-key")
	if err := os.WriteFile(key, []byte("sk_test_ofmine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(key, 65532, 65532); err != nil { // the image's user reads it
		t.Fatal(err)
	}
	s.override(fmt.Sprintf("secrets: { stripe-api-key: { file: %q } }\n", key))
	s.env = []string{"STRIPE=real"}
	s.up()
	s.publish("mine")
	wantSoon(t, "an attempt", takeOver, func() error {
		if b, err := s.books(); err != nil || b.Requests > 0 {
			t.Fatalf("the key went to the simulator: %+v, %v", b, err)
		}
		return s.tried()
	})
}

var notSent = regexp.MustCompile(`(?m)^meterworker_stripe_requests_total\{class="not_sent"\} [1-9]`)

// tried is nil once a worker has failed to reach what is called Stripe.
func (s *stack) tried() error {
	for _, admin := range s.admin {
		var text strings.Builder
		if err := get(http.DefaultTransport, "http://"+admin+"/metrics", &text); err != nil {
			return err
		}
		if notSent.MatchString(text.String()) {
			return nil
		}
	}
	return errors.New("no worker has tried")
}
