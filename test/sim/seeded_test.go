package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/faultpoint"
)

// mostSeeds is within how many schedules a seeded bug must be caught.
const mostSeeds = 1000

// cleanSeeds is how many schedules the test build must stay clean for, without a bug.
const cleanSeeds = 200

// catchTime bounds the hunt for one bug.
const catchTime = 5 * time.Minute

// catch is what became of the hunt for one bug.
type catch struct {
	bug  faultpoint.Bug
	line string // what the hunt printed; "" if nothing was caught
	took time.Duration
	log  []byte
}

var caught = regexp.MustCompile(`caught: (seed \d+) violates (\S+): (.*)`)

// TestSeededBugsAreCaught builds this package's tests with every seeded bug in them,
// and plays schedules with one bug on at a time, until an invariant breaks.
func TestSeededBugsAreCaught(t *testing.T) {
	if faultpoint.Enabled {
		return // this is that build
	}
	binary := filepath.Join(t.TempDir(), "sim.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "faultpoints", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with seeded bugs: %v\n%s", err, out)
	}
	if c := chase(t.Context(), binary, "", cleanSeeds); c.line != "" || !bytes.Contains(c.log, []byte("PASS")) {
		t.Fatalf("without a bug: %s\n%s", c.line, c.log)
	}
	var table strings.Builder
	for _, c := range chaseAll(t.Context(), binary) {
		found := caught.FindStringSubmatch(c.line)
		if found == nil {
			t.Errorf("%s is not caught within %d schedules:\n%s", c.bug, mostSeeds, c.log)
			continue
		}
		fmt.Fprintf(&table, "%-27s %-9s %-4s %6.1f s  %s\n", c.bug, found[1], found[2], c.took.Seconds(), found[3])
	}
	t.Logf("seeded bugs, where each was caught, and what it broke:\n%s", &table)
}

// chaseAll hunts for every bug, as many at a time as there are processors.
func chaseAll(ctx context.Context, binary string) []catch {
	bugs := faultpoint.Bugs()
	catches := make([]catch, len(bugs))
	room := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	var hunts sync.WaitGroup
	for i, bug := range bugs {
		room <- struct{}{}
		hunts.Go(func() {
			catches[i] = chase(ctx, binary, bug, mostSeeds)
			<-room
		})
	}
	hunts.Wait()
	return catches
}

// chase plays schedules with the bug until one violates an invariant.
func chase(ctx context.Context, binary string, bug faultpoint.Bug, seeds int) catch {
	ctx, cancel := context.WithTimeout(ctx, catchTime)
	defer cancel()
	began := time.Now()
	run := exec.CommandContext(ctx, binary, "-test.run", "^TestSchedules$", "-test.cpu", "1", "-test.v", "-hunt", "-seeds", fmt.Sprint(seeds))
	run.Env = append(os.Environ(), "METERWORKER_SEEDED_BUG="+string(bug))
	out, err := run.CombinedOutput()
	c := catch{bug: bug, took: time.Since(began), log: out}
	if err == nil {
		return c
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if caught.MatchString(lines.Text()) {
			c.line = lines.Text()
		}
	}
	return c
}
