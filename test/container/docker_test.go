//go:build container

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// remedy is for a machine without Docker.
const remedy = "as root: apt-get install --yes --no-install-recommends docker.io iptables"

// built are the programs and images that the tests share.
var built struct {
	compose, meterworker string
}

func TestMain(m *testing.M) {
	code, err := testAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/container:", err)
		code = 1
	}
	os.Exit(code)
}

func testAll(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "meterworker-container-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := command1("docker", "info"); err != nil {
		daemon, err := startDaemon(dir)
		if err != nil {
			return 1, err
		}
		defer daemon.stop()
	}
	if err := prepare(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// daemon is a dockerd of our own.
type daemon struct {
	command *exec.Cmd
	ended   chan struct{}
}

// startDaemon returns when it answers.
func startDaemon(dir string) (*daemon, error) {
	path, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, fmt.Errorf("no Docker answers, and there is no dockerd to start; %s", remedy)
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	host := "unix://" + filepath.Join(dir, "docker.sock")
	command := exec.Command(path, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "docker.pid"), "--host", host)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("dockerd: %w; %s", err, remedy)
	}
	d := &daemon{command, make(chan struct{})}
	go func() { defer close(d.ended); _ = command.Wait(); _ = log.Close() }()
	if err := os.Setenv("DOCKER_HOST", host); err != nil {
		return nil, err
	}
	err = eventually(time.Minute, func() error {
		select {
		case <-d.ended:
			return nil // looked at below
		default:
			_, err := command1("docker", "info")
			return err
		}
	})
	if _, infoErr := command1("docker", "info"); err != nil || infoErr != nil {
		d.stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("dockerd does not serve: %w\n%s; %s", errors.Join(err, infoErr), last(said), remedy)
	}
	return d, nil
}

func (d *daemon) stop() {
	_ = d.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(time.Minute):
		_ = d.command.Process.Kill()
		<-d.ended
	}
}

func last(text []byte) string {
	const most = 2000
	return string(text[max(0, len(text)-most):])
}

// command1 runs a program in the root of the repository and returns what it prints.
func command1(name string, args ...string) (string, error) { return commandIn(nil, name, args...) }

func commandIn(env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = root, append(os.Environ(), env...)
	var errs bytes.Buffer
	command.Stderr = &errs
	out, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, last(out), last(errs.Bytes()))
	}
	return string(out), err
}

// eventually asks until there is no error, and returns the last one after the bound.
func eventually(bound time.Duration, ask func() error) error {
	deadline := time.After(bound)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return fmt.Errorf("not within %s: %w", bound, err)
		case <-ticker.C:
		}
	}
}

// docker runs a command that must succeed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command1("docker", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// wantSoon fails the test unless ask succeeds within the bound.
func wantSoon(t *testing.T, what string, bound time.Duration, ask func() error) {
	t.Helper()
	if err := eventually(bound, ask); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// health is what Docker's own probe says of a container.
func health(name string) error {
	out, err := command1("docker", "inspect", "--format", "{{.State.Health.Status}}", name)
	if err == nil && strings.TrimSpace(out) != "healthy" {
		err = fmt.Errorf("%s is %s", name, strings.TrimSpace(out))
	}
	return err
}
