package compose

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// setting is a row of docs/configuration.md.
type setting struct{ flag, preset string }

var settingRow = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`--([a-z-]+)`|–) \\| `?([^`|]*?)`? \\|")

func settings(t *testing.T) map[string]setting {
	t.Helper()
	known := map[string]setting{}
	for _, row := range settingRow.FindAllStringSubmatch(read(t, "docs/configuration.md"), -1) {
		known[row[1]] = setting{row[2], row[3]}
	}
	if len(known) < 25 || known["METERWORKER_SHUTDOWN_TIMEOUT"].flag != "shutdown-timeout" {
		t.Fatalf("docs/configuration.md is not what it was: %v", known)
	}
	return known
}

var (
	ours   = regexp.MustCompile(`^(METERWORKER|STRIPE|NATS)_`)
	aKey   = regexp.MustCompile(`\b((sk|rk|pk)_(test|live)|whsec)_`)
	secret = regexp.MustCompile(`(?i)(key|secret|token|password)$`)
)

func TestVariablesAreSettings(t *testing.T) {
	known := settings(t)
	for name, s := range all(t).Services {
		for variable, value := range s.Environment {
			if _, ok := known[variable]; ours.MatchString(variable) && !ok {
				t.Errorf("%s: %s is no setting", name, variable)
			}
			// Whoever may inspect a container reads its environment.
			if secret.MatchString(variable) || (value != nil && aKey.MatchString(*value)) {
				t.Errorf("%s: %s is a secret in the environment", name, variable)
			}
		}
	}
}

// value is the variable of the worker as it stands in the container, "" if it is not set.
func value(s types.ServiceConfig, variable string) string {
	if v := s.Environment[variable]; v != nil {
		return *v
	}
	return ""
}

func TestWorkersHaveTimeAndRoom(t *testing.T) {
	known := settings(t)
	drain, err := time.ParseDuration(known["METERWORKER_SHUTDOWN_TIMEOUT"].preset)
	if err != nil {
		t.Fatal(err)
	}
	ledger := size(t, known["METERWORKER_LEDGER_MAX_BYTES"].preset)
	project := all(t)
	for _, name := range workers {
		s := project.Services[name]
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < drain+2*time.Second {
			t.Errorf("%s is killed after %v, and a drain may take %s", name, s.StopGracePeriod, drain)
		}
		goal, limit := size(t, value(s, "GOMEMLIMIT")), int64(s.MemLimit)
		if goal <= ledger || goal > limit*95/100 {
			t.Errorf("%s: GOMEMLIMIT %d, ledger %d, limit %d", name, goal, ledger, limit)
		}
		if s.Hostname != name {
			t.Errorf("%s: host name %q", name, s.Hostname)
		}
	}
}

func size(t *testing.T, text string) int64 {
	t.Helper()
	units := map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	for unit, bytes := range units {
		if n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64); err == nil {
			return n * bytes
		}
	}
	t.Fatalf("%q is no size", text)
	return 0
}

// One variable decides whose Stripe it is, for key, address, trust and store at once: a key
// never meets the simulator, and usage of a trial is never taken for billed.
func TestOneVariableForTheRealStripe(t *testing.T) {
	folder, err := filepath.Abs(filepath.Join(root, "deploy/compose"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name                        string
		env                         []string
		keyFile, base, trust, store string
	}{
		{"trial", nil, "simulator/api-key", "https://simulator:12111", "/run/simulator/trust", "/data/simulator"},
		{"set and empty", []string{"STRIPE="}, "simulator/api-key", "https://simulator:12111", "/run/simulator/trust", "/data/simulator"},
		{"real", []string{"STRIPE=real"}, "real/api-key", "https://api.stripe.com", "", "/data/real"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			project := load(t, tt.env)
			if got, want := project.Secrets["stripe-api-key"].File, filepath.Join(folder, tt.keyFile); got != want {
				t.Errorf("key file %s, want %s", got, want)
			}
			command := project.Services["nats"].Entrypoint
			if got := command[len(command)-1]; got != tt.store {
				t.Errorf("store %s, want %s", got, tt.store)
			}
			for _, name := range workers {
				s := project.Services[name]
				if got := value(s, "STRIPE_API_BASE"); got != tt.base {
					t.Errorf("%s: base %q, want %q", name, got, tt.base)
				}
				if got := value(s, "SSL_CERT_DIR"); got != tt.trust {
					t.Errorf("%s trusts %q, want %q", name, got, tt.trust)
				}
				if value(s, "STRIPE_API_KEY_FILE") != "/run/secrets/stripe-api-key" || len(s.Secrets) != 1 || s.Secrets[0].Source != "stripe-api-key" {
					t.Errorf("%s: key %q, %+v", name, value(s, "STRIPE_API_KEY_FILE"), s.Secrets)
				}
			}
		})
	}
}

func TestKeyOfTheTrialIsNone(t *testing.T) {
	if key := read(t, "deploy/compose/simulator/api-key"); key != "sk_test_simulator\n" {
		t.Errorf("key %q: a key of yours must not be in the repository", key)
	}
	if !strings.Contains(read(t, ".gitignore"), "\n/deploy/compose/real/api-key\n") {
		t.Error("git does not ignore where a key of yours belongs")
	}
}

func TestStoreIsSynced(t *testing.T) {
	text := read(t, "deploy/compose/nats-server.conf")
	for _, line := range []string{"  sync_interval: always\n", "http: 0.0.0.0:8222 "} {
		if !strings.Contains(text, line) {
			t.Errorf("nats-server.conf lacks %q", line)
		}
	}
}
