package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/meterworker/meterworker/internal/secretfile"
)

const (
	// leastToken in bytes is what nobody guesses.
	leastToken = 16
	// tokenInterval is how often the file is read, which follows every way of replacing it.
	tokenInterval = time.Second
)

// tokenFile is the console's token in a file that may be replaced at any time.
type tokenFile struct {
	path    string
	current atomic.Pointer[string]
}

// newTokenFile reads the file; there must be a token in it.
func newTokenFile(path string) (*tokenFile, error) {
	token, err := readToken(path)
	if err != nil {
		return nil, err
	}
	f := &tokenFile{path: path}
	f.current.Store(&token)
	return f, nil
}

// Current is the token in force.
func (f *tokenFile) Current() string { return *f.current.Load() }

// run follows the file until ctx ends. changed is called when another token is in force,
// failed once for each problem, with which the old one stays.
func (f *tokenFile) run(ctx context.Context, changed func(), failed func(error)) {
	ticker := time.NewTicker(tokenInterval)
	defer ticker.Stop()
	var seen, reported string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		token, err := readToken(f.path)
		now := token
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
		case err == nil && token != f.Current():
			reported = ""
			f.current.Store(&token)
			changed()
		}
	}
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
