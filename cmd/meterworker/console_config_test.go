package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/secretfile"
)

func tokenFileWith(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadTokenFiles(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"empty": {"", "has 0 bytes, fewer than 16"}, "blank": {" \n", "has 0 bytes"}, "short": {"fifteen-bytes!!", "has 15 bytes"},
		"two lines": {"0123456789abcdef\n0123456789abcdef", "or blanks"}, "control characters": {"0123456789abcdef\x00x", "or blanks"},
		"no ASCII": {"0123456789abcdeü", "printable ASCII"}, "too large": {strings.Repeat("x", 5000), "more than 4 KiB: this is no token"},
	} {
		path := tokenFileWith(t, tt.content)
		_, problems := configOf(t, environment{"METERWORKER_ADMIN_TOKEN_FILE": path})
		wantProblem(t, problems, "METERWORKER_ADMIN_TOKEN_FILE", tt.want)
		for _, p := range problems {
			if text := strings.TrimSpace(tt.content); text != "" && strings.Contains(p.Detail+p.Remedy, text) {
				t.Errorf("%s: the problem shows the token: %+v", name, p)
			}
		}
	}
	for _, content := range []string{"0123456789abcdef", "\uFEFF 0123456789abcdef\r\n"} {
		if token, err := readToken(tokenFileWith(t, content)); err != nil || token != "0123456789abcdef" {
			t.Errorf("%q: %q, %v", content, token, err)
		}
	}
}

func configOf(t *testing.T, env environment) (Config, []problem) {
	t.Helper()
	all := valid(nil)
	maps.Copy(all, env)
	settings, problems := gather(nil, all)
	l := &loader{settings: settings, problems: problems}
	return l.config(all, keyRequired, false), l.problems
}

// The console's own user takes nothing of the worker's with it.
func TestConsoleConnection(t *testing.T) {
	creds := tokenFileWith(t, "x")
	for _, tt := range []struct {
		name                string
		env                 environment
		url, creds, prefix  string
		problemOf, problems string
	}{
		{name: "the worker's", env: environment{"NATS_URL": "nats://w:p@a:1", "NATS_INBOX_PREFIX": "_INBOX_worker"}, url: "nats://w:p@a:1", prefix: "_INBOX_worker"},
		{
			name: "credentials", url: "nats://a:1,nats://b:2", creds: creds,
			env: environment{"NATS_URL": "nats://w:p@a:1, nats://w:p@b:2", "NATS_INBOX_PREFIX": "_INBOX_worker", "METERWORKER_ADMIN_NATS_CREDS": creds},
		},
		{
			name: "user and password", url: "nats://o:q@a:1", prefix: "_INBOX_operator",
			env: environment{"NATS_URL": "nats://a:1", "NATS_CREDS": creds, "METERWORKER_ADMIN_NATS_URL": "nats://o:q@a:1", "METERWORKER_ADMIN_NATS_INBOX_PREFIX": "_INBOX_operator"},
		},
		{name: "without a server", env: environment{"METERWORKER_ADMIN_NATS_CREDS": creds}, problemOf: "METERWORKER_ADMIN_NATS_CREDS", problems: "embedded server"},
		{
			name: "a prefix alone", env: environment{"NATS_URL": "nats://a:1", "METERWORKER_ADMIN_NATS_INBOX_PREFIX": "_INBOX_x"},
			problemOf: "METERWORKER_ADMIN_NATS_INBOX_PREFIX", problems: "user of the console's own",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, problems := configOf(t, tt.env)
			if tt.problemOf != "" {
				wantProblem(t, problems, tt.problemOf, tt.problems)
				return
			}
			c = c.forConsole()
			prefix := tt.prefix
			if prefix == "" && !c.ownConsoleUser() {
				prefix = "_INBOX"
			}
			if len(problems) > 0 || c.NATSURL != tt.url || c.NATSCreds != tt.creds || c.NATSInboxPrefix != prefix {
				t.Errorf("%v: url %s, credentials %q, prefix %q", problems, c.NATSURL, c.NATSCreds, c.NATSInboxPrefix)
			}
		})
	}
}

func TestOnLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:8080": true, "127.1.2.3:1": true, "[::1]:8080": true, "localhost:8080": true, "LOCALHOST:1": true, "[::ffff:127.0.0.1]:1": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "10.0.0.1:8080": false, "worker:8080": false, "localhost.example:1": false, "": false,
	} {
		if got := onLoopback(addr); got != want {
			t.Errorf("%q: %t", addr, got)
		}
	}
	if err := boundAsSaid("localhost:8080", "10.0.0.1:8080"); err == nil || !strings.Contains(err.Error(), "METERWORKER_ADMIN_ADDR=localhost:8080") {
		t.Errorf("a localhost that is none: %v", err)
	}
	if err := boundAsSaid("0.0.0.0:8080", "[::]:8080"); err != nil {
		t.Error(err)
	}
}

// Another token counts as soon as it stands in the file for a second; what is no token
// changes nothing and is said once.
func TestTokenFileIsFollowed(t *testing.T) {
	path := tokenFileWith(t, "0123456789abcdef")
	synctest.Test(t, func(t *testing.T) {
		f, err := newTokenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		changed, failed := 0, 0
		go func() { defer close(done); f.Run(ctx, func() { changed++ }, func(error) { failed++ }) }()
		for _, step := range []struct {
			content, want   string
			changed, failed int
		}{
			{"0123456789abcdef\n", "0123456789abcdef", 0, 0},
			{"short", "0123456789abcdef", 0, 1},
			{"fedcba9876543210", "fedcba9876543210", 1, 1},
		} {
			if err := os.WriteFile(path, []byte(step.content), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * secretfile.Interval)
			synctest.Wait()
			if f.Current() != step.want || changed != step.changed || failed != step.failed {
				t.Errorf("%q: %q, %d changes, %d failures", step.content, f.Current(), changed, failed)
			}
		}
		cancel()
		<-done
	})
}

// A worker serves its console on loopback as it is, and elsewhere to those with the token
// only; what the probes and the scraper ask for is there in any case.
func TestWorkerServesItsConsole(t *testing.T) {
	path := tokenFileWith(t, "0123456789abcdef")
	for _, tt := range []struct {
		name   string
		env    environment
		status int // of the overview
		listed int // of the list, with the token
		paused int // of a pause, with the token
	}{
		{"loopback", environment{"METERWORKER_ADMIN_ADDR": "127.0.0.1:0"}, 200, 200, 303},
		{"loopback, read-only", environment{"METERWORKER_ADMIN_ADDR": "127.0.0.1:0", "METERWORKER_ADMIN_READ_ONLY": "true"}, 200, 200, 403},
		{"token", environment{"METERWORKER_ADMIN_ADDR": "127.0.0.1:0", "METERWORKER_ADMIN_TOKEN_FILE": path}, 303, 200, 303},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := startTraced(t, tt.env)
			within(t, 30*time.Second, "the start", func() bool { return w.logs.FilterMessage("serving").Len() == 1 })
			admin := "http://" + w.daemon.admin.Addr()
			within(t, 30*time.Second, "readiness", func() bool { code, _ := get(t, admin+"/readyz"); return code == 200 })
			ask := func(method, target, token string, form url.Values) int {
				r, err := http.NewRequest(method, admin+target, strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				response, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				return response.StatusCode
			}
			if got := ask("GET", "/", "", nil); got != tt.status {
				t.Errorf("the overview: %d, want %d", got, tt.status)
			}
			if got := ask("GET", "/dead-letters", "0123456789abcdef", nil); got != tt.listed {
				t.Errorf("the list: %d, want %d", got, tt.listed)
			}
			if got := ask("POST", "/pause", "0123456789abcdef", url.Values{"why": {"x"}}); got != tt.paused {
				t.Errorf("a pause: %d, want %d", got, tt.paused)
			}
			for _, target := range []string{"/livez", "/readyz", "/metrics"} {
				if got := ask("GET", target, "", nil); got != 200 {
					t.Errorf("%s: %d", target, got)
				}
			}
			w.stop()
		})
	}
}

// The page says what to do about whatever status finds.
func TestEveryVerdictHasARemedy(t *testing.T) {
	for _, v := range verdicts {
		s := console.Status{Verdict: string(v.word)}
		if s.Remedy() == "" || s.Healthy() != v.word.healthy() {
			t.Errorf("%s: %q, healthy %t", v.word, s.Remedy(), s.Healthy())
		}
	}
}
