//go:build chaos

package chaos

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The sizes; the defaults are those of every change, `make campaign` has larger ones.
var (
	seed        = flag.Uint64("seed", 1, "seed of the traffic, and of what fails when")
	events      = flag.Int("events", 20_000, "messages to publish")
	kills       = flag.Int("kills", 40, "kill -9 of a worker")
	serverKills = flag.Int("server-kills", 5, "kill -9 of the NATS server")
	partitions  = flag.Int("partitions", 4, "partitions, every fourth of them between a worker and Stripe")
	pauses      = flag.Int("pauses", 3, "workers stopped for longer than AckWait")
	outage      = flag.Duration("outage", time.Minute, "how long Stripe is down")
	rate        = flag.Int("rate", 600, "requests a second, over all workers")
	powerCuts   = flag.Int("cuts", 5, "power cuts of each server")
	evidenceDir = flag.String("evidence", "evidence", "folder of the evidence, as JSON")
)

// leave writes what was found where it stays.
func leave(t *testing.T, name string, evidence any) {
	t.Helper()
	text, err := json.MarshalIndent(evidence, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(*evidenceDir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(*evidenceDir, name+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("evidence: %s\n%s", path, text)
}
