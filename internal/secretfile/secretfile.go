// Package secretfile reads the small files that a secret store mounts, keys, signing
// secrets and tokens, and follows them. It never waits to open one, takes regular files
// only, and no error repeats any of the content.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// MaxBytes bounds a file: a certificate chain or a log in a secret's place is refused.
const MaxBytes = 4 << 10

// Read returns the content. The errors do not name the path, which the caller knows; what
// names the secret in that of a file that is too large, for example "key".
func Read(path, what string) ([]byte, error) {
	content, err := read(path, what)
	if detail, ok := errors.AsType[*os.PathError](err); ok {
		err = detail.Err
	}
	return content, err
}

// Opening a pipe for reading waits for a writer unless it is told not to.
func read(path, what string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%v)", info.Mode().Type())
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err == nil && len(content) > MaxBytes {
		err = errors.New("more than 4 KiB: this is no " + what)
	}
	return content, err
}
