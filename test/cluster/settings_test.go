//go:build chaos

package cluster

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The sizes of the large test.
var (
	rounds      = flag.Int("rounds", 1, "how often each trouble is played")
	load        = flag.Int("load", 60, "events a second that producers publish")
	outage      = flag.Duration("outage", 25*time.Second, "how long what is away for long is away")
	only        = flag.String("only", "", "play only the troubles with this in their name")
	evidenceDir = flag.String("evidence", "evidence", "folder of the evidence, as JSON")
)

// leave writes what was found where it stays.
func leave(t *testing.T, name string, e evidence) {
	t.Helper()
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(*evidenceDir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(*evidenceDir, name+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("evidence: %s\n%s", path, text)
}
