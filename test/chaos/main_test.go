package chaos

import (
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

// binaries is the folder of the programs under test; each is built when a test
// first asks for it.
var binaries string

const (
	workerPackage = "github.com/meterworker/meterworker/cmd/meterworker"
	serverPackage = "github.com/nats-io/nats-server/v2"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	// The simulator answers in this process: with as few threads as processors, what it
	// has to do beside the servers' syncs would come in bursts.
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	code := func() int {
		dir, err := os.MkdirTemp("", "meterworker-chaos-")
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
	releaseWorker = sync.OnceValues(func() (string, error) { return build("meterworker", workerPackage, raceFlag...) })
	faultyWorker  = sync.OnceValues(func() (string, error) {
		return build("meterworker-faultpoints", workerPackage, append([]string{"-tags=faultpoints"}, raceFlag...)...)
	})
	natsServer = sync.OnceValues(func() (string, error) { return build("nats-server", serverPackage) })
)

func build(name, source string, flags ...string) (string, error) {
	path := filepath.Join(binaries, name)
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, source)...)
	if output, err := cmd.CombinedOutput(); err != nil {
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
