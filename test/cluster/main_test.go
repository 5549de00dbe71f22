package cluster

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. It is never what a test measures.
const patience = 120 * time.Second

// binaries is the folder of the programs under test; each is built when a test first asks
// for it.
var binaries string

func TestMain(m *testing.M) {
	// The test stands between the workers and the simulator: with as few threads as
	// processors, what it passes on beside the servers' syncs would come in bursts.
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // parallel tests wait more than they work
		panic(err)
	}
	code := func() int {
		dir, err := os.MkdirTemp("", "meterworker-cluster-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binaries = dir
		return m.Run()
	}()
	os.Exit(code)
}

// The programs under test.
var (
	meterworker = sync.OnceValues(func() (string, error) {
		return build("meterworker", "github.com/meterworker/meterworker/cmd/meterworker")
	})
	natsServer = sync.OnceValues(func() (string, error) {
		return build("nats-server", "github.com/nats-io/nats-server/v2")
	})
)

func build(name, source string) (string, error) {
	path := filepath.Join(binaries, name)
	if output, err := exec.Command("go", "build", "-o", path, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, output)
	}
	return path, nil
}

func built(t testing.TB, program func() (string, error)) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// until waits for a condition, or fails with what was waited for. It returns how long
// that took.
func until(t testing.TB, what string, condition func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Since(began) > patience {
			t.Fatalf("waited %s for %s", patience, what)
		}
		<-ticker.C
	}
	return time.Since(began)
}

// lasts lets time pass that is part of a fault: an outage has a length.
func lasts(d time.Duration) { <-time.NewTimer(d).C }
