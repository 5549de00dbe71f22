package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/meterworker/meterworker/internal/secretfile"
)

// leastToken in bytes is what nobody guesses.
const leastToken = 16

// newTokenFile reads the console's token in a file that may be replaced at any time; there
// must be one in it.
func newTokenFile(path string) (*secretfile.File[string], error) {
	return secretfile.Open(func() (string, error) { return readToken(path) }, func(token string) string { return token })
}

// readToken reads one token. No error repeats any of the text.
func readToken(path string) (string, error) {
	content, err := secretfile.Read(path, "token")
	token := strings.TrimSpace(strings.TrimPrefix(string(content), "\uFEFF"))
	switch {
	case err != nil:
	case len(token) < leastToken:
		err = fmt.Errorf("the token in it has %d bytes, fewer than %d", len(token), leastToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' }):
		err = errors.New("the token in it has other characters than printable ASCII, or blanks")
	default:
		return token, nil
	}
	return "", fmt.Errorf("console token file %s: %w", path, err)
}
