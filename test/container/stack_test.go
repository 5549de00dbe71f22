//go:build container

package container

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stack is docker-compose.yml, running under a name and on ports of its own.
type stack struct {
	t         *testing.T
	project   string
	env       []string
	files     []string
	nats      string
	simulator string
	admin     [2]string
}

// newStack starts nothing yet.
func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, project: "mw-" + strings.ToLower(rand.Text()[:8]), files: []string{"docker-compose.yml"}}
	s.nats, s.simulator = freeAddress(t), freeAddress(t)
	s.admin = [2]string{freeAddress(t), freeAddress(t)}
	s.override(fmt.Sprintf(`services:
  nats: { ports: !override ["%s:4222"] }
  simulator: { ports: !override ["%s:12111"] }
  meterworker-1: { ports: !override ["%s:8080"] }
  meterworker-2: { ports: !override ["%s:8080"] }
`, s.nats, s.simulator, s.admin[0], s.admin[1]))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.compose("logs", "--no-color", "--tail", "40"))
		}
		s.compose("down", "--volumes", "--timeout", "30")
		if left := docker(t, "volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+s.project); left != "" {
			t.Errorf("volumes are left: %s", left)
		}
	})
	return s
}

func (s *stack) override(text string) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "override.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.files = append(s.files, path)
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

// compose runs Docker Compose on the stack.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	all := []string{"--project-name", s.project, "--project-directory", "."}
	for _, file := range s.files {
		all = append(all, "--file", file)
	}
	out, err := commandIn(s.env, built.compose, append(all, args...)...)
	if err != nil {
		s.t.Error(err)
	}
	return out
}

// up returns when every service is healthy, by the checks of file and image.
func (s *stack) up() {
	s.t.Helper()
	if s.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "120"); s.t.Failed() {
		s.t.FailNow()
	}
}

// container is the name that Compose gives a service's only container.
func (s *stack) container(service string) string { return s.project + "-" + service + "-1" }

// publish stores an event of 5 units as a producer on the host does, and returns its sequence.
func (s *stack) publish(identifier string) string {
	s.t.Helper()
	out, err := commandIn([]string{"NATS_URL=nats://" + s.nats}, built.meterworker, "publish", "--event-name", "api_calls",
		"--customer", "cus_"+identifier, "--value", "5", "--identifier", identifier)
	sequence, ok := strings.CutPrefix(strings.TrimSpace(out), "stored sequence=")
	if err != nil || !ok {
		s.t.Fatalf("%q, %v", out, err)
	}
	sequence, _, _ = strings.Cut(sequence, " ")
	return sequence
}

// ready is what /readyz on the published port says.
func (s *stack) ready(worker int) error {
	return get(http.DefaultTransport, "http://"+s.admin[worker]+"/readyz", nil)
}

// book is what we ask of the simulator's books.
type book struct {
	Requests int `json:"requests"`
	Events   []struct {
		Identifier string `json:"identifier"`
		Units      int64  `json:"units"`
		Times      int    `json:"times"`
	} `json:"events"`
}

// books are the simulator's, over its published port. Its certificate is of its own making:
// the workers verify it, and here, on loopback, nothing secret is sent.
func (s *stack) books() (b book, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	return b, get(transport, "https://"+s.simulator+"/_simulator/books", &b)
}

// get reads JSON, or the text as it is if into is an io.Writer.
func get(transport http.RoundTripper, url string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	switch into := into.(type) {
	case nil:
		return nil
	case io.Writer:
		_, err := io.Copy(into, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// billed waits until the books hold exactly these events, each counted once with 5 units.
func (s *stack) billed(bound time.Duration, identifiers ...string) {
	s.t.Helper()
	wantSoon(s.t, "delivery", bound, func() error {
		b, err := s.books()
		if err != nil {
			return err
		}
		missing := map[string]bool{}
		for _, identifier := range identifiers {
			missing[identifier] = true
		}
		for _, e := range b.Events {
			if !missing[e.Identifier] || e.Times != 1 || e.Units != 5 {
				s.t.Fatalf("in the books, and not as published: %+v", e)
			}
			delete(missing, e.Identifier)
		}
		if len(missing) > 0 {
			return fmt.Errorf("not billed: %v", missing)
		}
		return nil
	})
}
