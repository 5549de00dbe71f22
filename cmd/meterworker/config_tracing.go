package main

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/meterworker/meterworker/internal/tracing"
)

// tracingConfig is where traces go, and which.
type tracingConfig struct {
	Endpoint *url.URL // nil: tracing is off
	Headers  secret   // as in the variable; readable
	Service  string
	Sampler  string
	Share    float64
}

// tracing reads the settings of OpenTelemetry only where tracing is on: platforms put
// them into every process, and what this one does not use must not keep it from
// starting.
func (l *loader) tracing(c *Config, env environment) {
	c.PprofAddr = l.loopback("pprof-addr")
	c.Tracing.Endpoint = l.collector("otel-exporter-otlp-endpoint")
	if c.Tracing.Endpoint == nil {
		return
	}
	headers := l.setting("otel-exporter-otlp-headers")
	c.Tracing.Headers = secret(env[headers.Variable])
	if _, err := tracing.ParseHeaders(string(c.Tracing.Headers)); err != nil {
		l.refuse(headers.Name, err.Error(), "set for example api-key=SECRET")
	}
	c.Tracing.Service = l.text("otel-service-name")
	c.Tracing.Sampler = l.choice("otel-traces-sampler")
	if tracing.TakesShare(c.Tracing.Sampler) {
		c.Tracing.Share = l.share("otel-traces-sampler-arg")
	}
}

// collector is the URL of an OTLP/HTTP endpoint, nil if not given. Plain http is usual
// inside a cluster, and spans hold nothing secret.
func (l *loader) collector(name string) *url.URL {
	text := l.text(name)
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	detail := ""
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https"):
		detail = "is no http or https URL"
	case u.Hostname() == "":
		detail = "names no host"
	case u.User != nil:
		detail = "holds a user; put credentials into OTEL_EXPORTER_OTLP_HEADERS"
	case u.RawQuery != "" || u.Fragment != "":
		detail = "has a query or a fragment"
		u.RawQuery, u.Fragment = "", "" // keys are found there
		l.setting(name).Text = u.String() + "?" + redacted
	}
	if detail != "" {
		l.refuse(name, detail, "set the collector's address for OTLP over HTTP, for example http://otel-collector:4318")
		return nil
	}
	return u
}

// share is a number from 0 to 1.
func (l *loader) share(name string) float64 {
	text := l.text(name)
	share, err := strconv.ParseFloat(text, 64)
	if l.refused(name) {
		return 0
	}
	if err != nil || !decimal.MatchString(text) || share < 0 || share > 1 {
		l.refuse(name, "is no share", "set a number from 0 to 1, for example 0.01 for one trace in a hundred")
		return 0
	}
	return share
}

// loopback is an address that only this machine reaches, or "" if not given. Profiles show
// the memory of a process that holds a key.
func (l *loader) loopback(name string) string {
	if !l.setting(name).Given() {
		return ""
	}
	addr := l.address(name)
	if l.refused(name) {
		return ""
	}
	host, _, _ := net.SplitHostPort(addr) // address has read it
	ip, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		l.refuse(name, "is not on loopback, and profiles show what a process holds in memory", "set for example 127.0.0.1:6060, and reach it through `kubectl port-forward` or ssh")
		return ""
	}
	return addr
}
