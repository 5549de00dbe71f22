package webhook

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/meterworker/meterworker/internal/secretfile"
)

const maxSecrets = 4 // a rotation needs two

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

// NewSecretFile reads the signing secrets in a file that may be replaced at any time; there
// must be one in it.
func NewSecretFile(path string) (*secretfile.File[[]string], error) {
	return secretfile.Open(func() ([]string, error) { return readSecrets(path) }, func(secrets []string) string { return strings.Join(secrets, "\n") })
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
