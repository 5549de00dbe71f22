package examples

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds every wait. It is never what a test measures.
const patience = 2 * time.Minute

// copied is a copy of the sources in which programs run, with a folder bin for the PATH
// and a folder nats-py for Python's.
var copied string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "nats" {
		os.Exit(standIn(os.Args[1:]))
	}
	flag.Parse()
	code, err := withCopy(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withCopy(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "meterworker-examples-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	copied = dir
	if err := fill(dir); err != nil {
		return 1, err
	}
	return run(), nil
}

// fill copies what `go run ./examples/go` needs, and builds what the PATH needs.
func fill(dir string) error {
	for _, name := range []string{"examples", "usage"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			return err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "nats-py"), os.DirFS(filepath.Join("testdata", "nats-py"))); err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	if err := build(filepath.Join(bin, "meterworker"), "github.com/meterworker/meterworker/cmd/meterworker"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Symlink(self, filepath.Join(bin, "nats"))
}

func build(binary, pkg string) error {
	cmd := exec.Command("go", "build", "-o", binary, pkg)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot build %s: %w", pkg, err)
	}
	return nil
}
