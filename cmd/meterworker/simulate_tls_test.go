package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trusting is a client that accepts what the folder says, and what nothing else does.
func trusting(t *testing.T, dir, name string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, trustFolder, authorityFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12},
	}}
}

func TestSimulateOverTLS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	s := simulate(t, "--tls-dir", dir, "--tls-host", "simulator")
	for _, name := range []string{"simulator", "localhost", "127.0.0.1"} {
		response, err := trusting(t, dir, name).Get(s.base + "/_simulator/totals")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _ = response.Body.Close(); response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			t.Errorf("%s: %s %s", name, response.Status, response.Proto)
		}
	}
	if response, err := trusting(t, dir, "api.stripe.com").Get(s.base); err == nil {
		_ = response.Body.Close()
		t.Error("the certificate is good for Stripe")
	}
	if code, _ := s.end(); code != 0 {
		t.Errorf("exit %d: %s", code, s.errs)
	}
}

func TestHealthcheckOfASimulator(t *testing.T) {
	s := simulate(t)
	if code, stdout, stderr := runCommand(t, nil, "healthcheck", "--url", s.base+"/_simulator/clock"); code != 0 || stdout != "ready\n" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := runCommand(t, nil, "healthcheck", "--url", s.base+"/nowhere"); code != exitFailed || !strings.Contains(stderr, "answers 401") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// Workers read what they trust once, at their start: a simulator that comes back must be
// the same one to them.
func TestCertificateIsKeptAndRenewed(t *testing.T) {
	start := time.Now()
	tests := []struct {
		name   string
		hosts  []string
		later  time.Duration
		damage func(dir string) error
		kept   bool
	}{
		{"second start", []string{"simulator"}, 0, nil, true},
		{"a while before the end", []string{"simulator"}, certificateLife - renewBefore - time.Minute, nil, true},
		{"near the end", []string{"simulator"}, certificateLife - renewBefore + time.Minute, nil, false},
		{"after the end", []string{"simulator"}, 2 * certificateLife, nil, false},
		{"fewer hosts", nil, 0, nil, true},
		{"another host", []string{"simulator", "10.1.2.3"}, 0, nil, false},
		{"stopped between the two files", []string{"simulator"}, 0, func(dir string) error {
			authority, _, err := newIdentity(nil, start)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, trustFolder, authorityFile), authority, 0o600)
		}, false},
		{"authority lost", []string{"simulator"}, 0, func(dir string) error { return os.RemoveAll(filepath.Join(dir, trustFolder)) }, false},
		{"cut", []string{"simulator"}, 0, func(dir string) error { return os.Truncate(filepath.Join(dir, identityFile), 300) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := simulatorCertificate(dir, []string{"simulator"}, start)
			if err != nil {
				t.Fatal(err)
			}
			if tt.damage != nil {
				if err := tt.damage(dir); err != nil {
					t.Fatal(err)
				}
			}
			now := start.Add(tt.later)
			second, err := simulatorCertificate(dir, tt.hosts, now)
			if err != nil {
				t.Fatal(err)
			}
			if kept := bytes.Equal(first.Certificate[0], second.Certificate[0]); kept != tt.kept {
				t.Errorf("kept: %t", kept)
			}
			if !serves(second, dir, append(tt.hosts, loopbackNames...), now) {
				t.Error("the certificate does not serve")
			}
		})
	}
}

func TestTLSFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := simulatorCertificate(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{identityFile: 0o600, filepath.Join(trustFolder, authorityFile): 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, trustFolder))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v beside the authority, %v", entries, err)
	}
	occupied := write(t, "a file")
	if code, _, stderr := runCommand(t, nil, "simulate", "--addr", "127.0.0.1:0", "--tls-dir", occupied); code != exitFailed || !strings.Contains(stderr, "set --tls-dir to a folder") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if code, _, stderr := runCommand(t, nil, "simulate", "--tls-host", "x"); code != exitUsage || !strings.Contains(stderr, "without --tls-dir") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
