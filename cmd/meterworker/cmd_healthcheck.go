package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// HealthcheckCmd asks /readyz, so that an image without a shell has a probe.
type HealthcheckCmd struct {
	ConfigFile
	AdminAddr *string       `name:"admin-addr" variable:"METERWORKER_ADMIN_ADDR" preset:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of the worker to ask."`
	URL       string        `placeholder:"URL" help:"Ask this address instead, of a simulator for example; 200 is ready."`
	Timeout   time.Duration `default:"5s" placeholder:"DURATION" help:"Bound of the question."`
}

// Help shows how the command is used.
func (*HealthcheckCmd) Help() string {
	return "Exit code 0 means ready, 1 not ready or not there.\n\nExample:\n\n" +
		"  HEALTHCHECK CMD [\"/meterworker\", \"healthcheck\"]"
}

// Run prints ready, or fails with the checks that do.
func (c *HealthcheckCmd) Run(ctx context.Context, p *process) error {
	addr, err := adminAddress(c, p.Env)
	if err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return &usageError{fmt.Errorf("--timeout=%s is not above 0; set 5s, for example", c.Timeout)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := askReady(ctx, cmp.Or(c.URL, "http://"+dialable(addr)+"/readyz")); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Out, "ready")
	return err
}

// adminAddress reads the one setting that counts here: a probe must not fail
// over a setting that the running worker took differently.
func adminAddress(flags any, env environment) (string, error) {
	settings, problems := gather(givenFlags(flags), env)
	l := &loader{settings: settings, problems: problems}
	addr := l.address("admin-addr")
	if len(l.problems) > 0 {
		return "", &configError{Problems: l.problems}
	}
	return addr, nil
}

// dialable turns an address that listens on every interface into loopback.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	ip, err := netip.ParseAddr(host)
	if host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// askReady returns nil if the worker says that it is ready.
func askReady(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	// No proxy: the answer of one in between is not the worker's.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	const longest = 64 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, longest))
	if err != nil {
		return fmt.Errorf("healthcheck: %s answers %d: %w", url, response.StatusCode, err)
	}
	return fmt.Errorf("healthcheck: %s answers %d%s", url, response.StatusCode, failingChecks(body))
}

// failingChecks names the checks of a /readyz body that are not met.
func failingChecks(body []byte) string {
	var answer struct {
		Checks []struct {
			Name   string `json:"name"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail"`
		} `json:"checks"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	var failing []string
	for _, check := range answer.Checks {
		if !check.OK {
			failing = append(failing, strings.TrimSuffix(printableLine(check.Name+": "+check.Detail), ": "))
		}
	}
	if len(failing) == 0 {
		return ""
	}
	return ": " + strings.Join(failing, "; ")
}
