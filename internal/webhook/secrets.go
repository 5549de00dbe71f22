package webhook

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/secretfile"
)

const (
	maxSecrets     = 4 // a rotation needs two
	secretInterval = time.Second
)

var secretPattern = regexp.MustCompile(`^whsec_[A-Za-z0-9+/=_-]{1,256}$`)

// ParseSecrets reads signing secrets, one a line. No error repeats any of the text.
func ParseSecrets(text string) ([]string, error) {
	secrets := strings.Fields(strings.TrimPrefix(text, "\uFEFF"))
	switch {
	case len(secrets) == 0:
		return nil, errors.New("no signing secret in it; put the whsec_… of the webhook endpoint there")
	case len(secrets) > maxSecrets:
		return nil, fmt.Errorf("more than %d lines; put the signing secret there, and during a rotation the old one too", maxSecrets)
	}
	for _, secret := range secrets {
		if !secretPattern.MatchString(secret) {
			return nil, errors.New("not a signing secret; it begins with whsec_ and is shown with the webhook endpoint, one a line")
		}
	}
	return secrets, nil
}

// SecretFile is the signing secrets in a file that may be replaced at any time. It is read
// again and again instead of watched, which follows every way of replacing it, the
// symlinks of Kubernetes included.
type SecretFile struct {
	path    string
	current atomic.Pointer[[]string]
}

// NewSecretFile reads the file; there must be a secret in it.
func NewSecretFile(path string) (*SecretFile, error) {
	secrets, err := readSecrets(path)
	if err != nil {
		return nil, err
	}
	f := &SecretFile{path: path}
	f.current.Store(&secrets)
	return f, nil
}

// Current are the secrets in force.
func (f *SecretFile) Current() []string { return *f.current.Load() }

// Run follows the file until ctx ends. changed is called when other secrets are in force,
// failed once for each problem, with which the old ones stay.
func (f *SecretFile) Run(ctx context.Context, changed func(), failed func(error)) {
	ticker := time.NewTicker(secretInterval)
	defer ticker.Stop()
	var seen, reported string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		secrets, err := readSecrets(f.path)
		now := strings.Join(secrets, "\n")
		if err != nil {
			now = err.Error()
		}
		settled := now == seen // a file that is being written is not taken half
		seen = now
		switch {
		case !settled:
		case err != nil && reported != now:
			reported = now
			failed(err)
		case err == nil && now != strings.Join(f.Current(), "\n"):
			reported = ""
			f.current.Store(&secrets)
			changed()
		}
	}
}

func readSecrets(path string) ([]string, error) {
	content, err := secretfile.Read(path, "signing secret")
	if err == nil {
		var secrets []string
		if secrets, err = ParseSecrets(string(content)); err == nil {
			return secrets, nil
		}
	}
	return nil, fmt.Errorf("webhook secret file %s: %w", path, err)
}
