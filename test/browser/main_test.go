package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience bounds every wait. It is never what a test measures.
const patience = 90 * time.Second

var (
	evidenceDir = flag.String("evidence", "evidence", "folder of the screenshots")

	binary string // the program under test
	// newPage opens a page in the one browser of all tests.
	newPage func(...chromedp.ContextOption) (context.Context, context.CancelFunc)
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // parallel tests wait more than they work
		panic(err)
	}
	code, err := prepared(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// prepared runs the tests with the program built and the browser started.
func prepared(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "meterworker-browser-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "meterworker")
	build := exec.Command("go", "build", "-o", binary, "./cmd/meterworker")
	build.Dir = filepath.Join("..", "..") // its module, with its dependencies
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("cannot build the binary under test: %w", err)
	}
	program, err := chromium()
	if err != nil {
		return 0, err
	}
	allocated, end := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.NoSandbox, // in a container its user is root, which chromium's sandbox refuses
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 900),
	)...)
	defer end()
	started, closeBrowser := chromedp.NewContext(allocated)
	defer closeBrowser()
	if err := chromedp.Do(started); err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", program, err)
	}
	newPage = func(options ...chromedp.ContextOption) (context.Context, context.CancelFunc) {
		return chromedp.NewContext(started, options...)
	}
	return run(), nil
}

// chromium is the browser of Debian, under either of its names.
func chromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("these tests need a browser: apt-get install --yes --no-install-recommends chromium")
}
