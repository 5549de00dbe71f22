package sender

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	stripe "github.com/stripe/stripe-go/v81"
	"github.com/stripe/stripe-go/v81/billing/meterevent"

	"github.com/meterworker/meterworker/internal/delivery"
)

const (
	// DefaultBase is Stripe's API.
	DefaultBase = "https://api.stripe.com"

	// DefaultVersion is the API version whose contract this package is written
	// against. stripe-go v81.4.0 would send 2025-02-24.acacia.
	DefaultVersion = "2024-10-28.acacia"

	defaultTimeout  = 10 * time.Second
	defaultMaxConns = 64

	// Longest idle time of a kept-alive connection: shorter than the 60 s that
	// load balancers commonly allow, because a request on a connection that the
	// other side has just closed ends as NoAnswer.
	idleTimeout = 30 * time.Second

	// Without pings a silently dropped HTTP/2 connection fails every request on
	// it until TCP gives up, which takes a quarter of an hour.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second

	maxHeaderBytes = 64 << 10 // of a response, 1xx included
)

// Config is what [New] needs.
type Config struct {
	BaseURL  string         // "" means DefaultBase; see ValidateBase
	Version  string         // "" means DefaultVersion
	Key      func() string  // the current key, read for each request
	Live     func() bool    // the mode the worker runs in: key and replies must agree
	Timeout  time.Duration  // 0 means 10 s; bounds connecting, and again the answer from Ready's return
	MaxConns int            // 0 means 64; HTTP/2 needs few, HTTP/1.1 one for each attempt in flight
	RootCAs  *x509.CertPool // nil means the system's

	// Dial opens the connections; nil means the network's, bound to loopback where the base is.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// V1 makes attempts through Stripe's API v1. Its methods may be called
// concurrently.
type V1 struct {
	base      string
	version   string
	key       func() string
	live      func() bool
	timeout   time.Duration
	dialer    *dialer
	transport *http.Transport
	parsed    parsedKey
}

var _ delivery.Sender = (*V1)(nil)

// New returns a sender, or an error that names the setting at fault. It opens no
// connection. A base on loopback never uses a proxy; Stripe's hosts are reached
// through the proxy of the environment, if there is one.
func New(cfg Config) (*V1, error) {
	return newV1(cfg, cfg.Dial)
}

// newV1 takes another dial than the network's where dial is not nil.
func newV1(cfg Config, dial dialFunc) (*V1, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBase
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	v := &V1{
		base: cfg.BaseURL, version: cfg.Version, key: cfg.Key, live: cfg.Live, timeout: cfg.Timeout,
	}
	if v.version == "" {
		v.version = DefaultVersion
	}
	if v.timeout == 0 {
		v.timeout = defaultTimeout
	}
	loopback := loopbackBase(cfg.BaseURL)
	v.dialer = newDialer(dial, v.timeout, loopback)
	transport, err := v.newTransport(cfg, loopback)
	v.transport = transport
	return v, err
}

func (cfg Config) check() error {
	switch {
	case cfg.Key == nil || cfg.Live == nil:
		return errors.New("sender: Key and Live must be set")
	case cfg.Timeout < 0:
		return fmt.Errorf("sender: attempt time-out %v is negative; use 0 for %v", cfg.Timeout, defaultTimeout)
	case cfg.MaxConns < 0:
		return fmt.Errorf("sender: %d connections; use 0 for %d", cfg.MaxConns, defaultMaxConns)
	}
	for _, c := range []byte(cfg.Version) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("sender: Stripe version %q is not a version; use %s", cfg.Version, DefaultVersion)
		}
	}
	return ValidateBase(cfg.BaseURL)
}

func (v *V1) newTransport(cfg Config, loopback bool) (*http.Transport, error) {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("sender: http.DefaultTransport was replaced by a %T", http.DefaultTransport)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	t := standard.Clone()
	t.DialContext = v.dialer.dial
	t.DialTLSContext = nil
	t.ForceAttemptHTTP2 = true // off by default once DialContext is set
	t.TLSClientConfig = &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12}
	t.TLSHandshakeTimeout = v.timeout
	t.DisableCompression = true // a small body needs none, and a bomb is not inflated
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = cfg.MaxConns, cfg.MaxConns, cfg.MaxConns
	t.IdleConnTimeout = idleTimeout
	t.MaxResponseHeaderBytes = maxHeaderBytes
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	t.Proxy = proxyFor(loopback)
	return t, nil
}

// proxyFor keeps loopback traffic, key included, on this machine. To Stripe a
// proxy carries a TLS tunnel that it cannot look into.
func proxyFor(loopback bool) func(*http.Request) (*url.URL, error) {
	if loopback {
		return nil
	}
	return http.ProxyFromEnvironment
}

// Send makes the attempt: at most one request, always an answer. It returns when
// the answer is there, when a time-out passed, or when ctx ended.
func (v *V1) Send(ctx context.Context, attempt delivery.Attempt) delivery.Answer {
	live := v.live()
	key, err := v.parsed.of(v.key())
	if err == nil && key.Live() != live {
		err = fmt.Errorf("the key %v is of the other mode; this worker needs a %s key", key, modeName(live))
	}
	if err != nil {
		return classify(observation{end: endSetup, err: err})
	}
	x := newExchange(ctx, v, attempt)
	defer x.cancel(nil)
	x.seen.live = live
	client := meterevent.Client{B: v.backend(x), Key: key.Reveal()}
	_, err = client.New(eventParams(x.ctx, attempt))
	return classify(x.outcome(err))
}

// Close ends all connections. Attempts still under way end as NotSent or
// NoAnswer, later ones as NotSent.
func (v *V1) Close() {
	v.dialer.close()
	v.transport.CloseIdleConnections()
}

// backend is stripe-go's client for one attempt. What stripe-go does by default
// is set on purpose, each one: see stripe.BackendConfig.
func (v *V1) backend(x *exchange) stripe.Backend {
	return stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:               new(v.base),
		EnableTelemetry:   new(false),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: stripe.Int64(0), // they sleep through cancellation and take no permit
		HTTPClient: &http.Client{
			Transport:     x,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
}

func eventParams(ctx context.Context, attempt delivery.Attempt) *stripe.BillingMeterEventParams {
	event := attempt.Event
	fields := event.Payload()
	params := &stripe.BillingMeterEventParams{
		EventName:  new(event.EventName()),
		Identifier: new(event.Identifier()),
		Timestamp:  new(event.Timestamp()),
		Payload:    make(map[string]string, len(fields)),
	}
	for _, field := range fields {
		params.Payload[field.Key] = field.Value
	}
	params.Context = ctx
	params.IdempotencyKey = new(attempt.IdempotencyKey)
	return params
}
