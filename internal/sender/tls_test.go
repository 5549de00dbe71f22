package sender

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

// stripeLike is a TLS server that accepts every event.
func stripeLike(t *testing.T, http2 bool, requests *atomic.Int32) (*httptest.Server, Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if want := map[bool]int{true: 2, false: 1}[http2]; r.ProtoMajor != want {
			t.Errorf("HTTP/%d, want %d", r.ProtoMajor, want)
		}
		_, _ = fmt.Fprintf(w, `{"identifier":%q,"livemode":false}`, r.PostFormValue("identifier"))
	}))
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	cfg := testConfig(server.URL)
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(server.Certificate())
	return server, cfg
}

// Over TLS, with a connection that is kept alive or shared: a refused attempt
// leaves no request, and spoils none of the others'.
func TestRefusedAmongOthers(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			var requests, allowed atomic.Int32
			_, cfg := stripeLike(t, http2, &requests)
			v := newSender(t, cfg, nil)
			var wait sync.WaitGroup
			for worker := range 8 {
				wait.Go(func() {
					for n := range 40 {
						refuse := (worker+n)%2 == 0
						attempt := testAttempt(t)
						want := delivery.Accepted
						if refuse {
							attempt.Ready = func(context.Context) error { return errNotReady }
							want = delivery.NotSent
						} else {
							allowed.Add(1)
						}
						if answer := v.Send(t.Context(), attempt); answer.Class != want {
							t.Errorf("%+v, want %v", answer, want)
						}
					}
				})
			}
			wait.Wait()
			if got, want := requests.Load(), allowed.Load(); got != want {
				t.Errorf("%d requests arrived, %d were allowed", got, want)
			}
		})
	}
}

func TestUntrustedServersGetNothing(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		host     string
		from, to time.Time
		trusted  bool
		want     delivery.Class
	}{
		"good":        {"127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour), true, delivery.Accepted},
		"expired":     {"127.0.0.1", now.Add(-2 * time.Hour), now.Add(-time.Hour), true, delivery.NotSent},
		"not yet":     {"127.0.0.1", now.Add(time.Hour), now.Add(2 * time.Hour), true, delivery.NotSent},
		"wrong host":  {"127.0.0.2", now.Add(-time.Hour), now.Add(time.Hour), true, delivery.NotSent},
		"self-signed": {"127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour), false, delivery.NotSent},
	} {
		t.Run(name, func(t *testing.T) {
			certificate := selfSigned(t, c.host, c.from, c.to)
			var requests, asked atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				_, _ = io.WriteString(w, accepted)
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			server.StartTLS()
			defer server.Close()
			cfg := testConfig(server.URL)
			cfg.RootCAs = x509.NewCertPool()
			if c.trusted {
				cfg.RootCAs.AddCert(certificate.Leaf)
			}
			attempt := testAttempt(t)
			attempt.Ready = func(context.Context) error { asked.Add(1); return nil }
			answer := newSender(t, cfg, nil).Send(t.Context(), attempt)
			sent := map[bool]int32{true: 1, false: 0}[c.want == delivery.Accepted]
			if answer.Class != c.want || requests.Load() != sent || asked.Load() != sent {
				t.Errorf("%+v; %d requests, Ready asked %d times", answer, requests.Load(), asked.Load())
			}
		})
	}
}

func selfSigned(t *testing.T, host string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// HTTP/2: a stream that dies ends its attempt, once, and leaves the connection to
// others.
func TestAbortedStreamIsNotRetried(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, accepted)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	cfg := testConfig(server.URL)
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(server.Certificate())
	v := newSender(t, cfg, nil)
	for n, want := range []delivery.Class{delivery.NoAnswer, delivery.Accepted, delivery.NoAnswer, delivery.Accepted} {
		if answer := v.Send(t.Context(), testAttempt(t)); answer.Class != want {
			t.Errorf("%d: %+v, want %v", n, answer, want)
		}
	}
	if n := requests.Load(); n != 4 {
		t.Errorf("%d requests for 4 attempts", n)
	}
}
