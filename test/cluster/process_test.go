package cluster

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// process is a program under test that runs, or has run.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  *record
	done chan struct{}
}

// record keeps what a process printed; it outlives the process.
type record struct {
	mu   sync.Mutex
	text []byte
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	return len(p), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// end is the last n bytes.
func (r *record) end(n int) string {
	text := r.String()
	return text[max(0, len(text)-n):]
}

// launch starts a program with no environment but the path and env. It ends with the test
// at the latest.
func launch(t testing.TB, name string, log *record, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, log: log, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + binaries}, env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when this process is killed
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		running := !p.ended()
		p.kill()
		if running && t.Failed() {
			t.Logf("%s, last words:\n%s", p.name, log.end(5000))
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended, which done tells
}

// kill ends the process with SIGKILL, stopped or not, and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// terminate ends it with SIGTERM and returns the exit code.
func (p *process) terminate() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	until(p.t, p.name+" to end", p.ended)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// said is how often a text stands in what it printed, in all its lives.
func (r *record) said(text string) int { return strings.Count(r.String(), text) }

// freeAddress is of a port below those that the system hands out (from 32768 on), so that
// nobody is given it before the server that it is for, or while that server is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(22_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
