package chaos

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program under test that runs, or has run.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  *lastWords
	done chan struct{}
}

// lastWords keeps the end of what a process printed.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

const mostWords = 64 << 10 // bytes

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 2*mostWords {
		l.text = append([]byte(nil), l.text[len(l.text)-mostWords:]...)
	}
	return len(p), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// launch starts a program with no environment but the path and env. It ends with
// the test at the latest.
func launch(t testing.TB, name string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, log: &lastWords{}, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + binaries}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when this process is killed
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		last := !p.ended()
		p.kill()
		if last && t.Failed() {
			t.Logf("%s, last words:\n%s", p.name, tail(p.log.String(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended, which done tells
}

// kill ends the process with SIGKILL, stopped or not, and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) said(text string) bool { return strings.Contains(p.log.String(), text) }

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	until(p.t, p.name+" to end", p.ended)
	return p.cmd.ProcessState.ExitCode()
}

// until waits for a condition, or fails with what was waited for.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	within(t, patience, what, condition)
}

func within(t testing.TB, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", bound, what)
		}
		<-ticker.C
	}
}
