package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// badValues is the configuration part of the list of bad inputs, and what else has a
// range. Each must be refused from every source that it can come from.
var badValues = []struct {
	variable, value string
	want            string // part of the detail
}{
	{"METERWORKER_RATE", "0", "not above 0"},
	{"METERWORKER_RATE", "-1", "not above 0"},
	{"METERWORKER_RATE", "-0", "not above 0"},
	{"METERWORKER_RATE", "1e-400", "not above 0"},
	{"METERWORKER_RATE", "1e9", "above 1000000"},
	{"METERWORKER_RATE", "1000000.1", "above 1000000"},
	{"METERWORKER_RATE", "1e400", "no finite decimal number"},
	{"METERWORKER_RATE", "NaN", "no finite decimal number"},
	{"METERWORKER_RATE", "Inf", "no finite decimal number"},
	{"METERWORKER_RATE", "0x10", "no finite decimal number"},
	{"METERWORKER_RATE", "1_000", "no finite decimal number"},
	{"METERWORKER_RATE", "1,000", "no finite decimal number"},
	{"METERWORKER_RATE", "1000/s", "no finite decimal number"},
	{"METERWORKER_RATE", " 1", "no finite decimal number"},

	{"METERWORKER_SAFE_WINDOW", "23", "no unit"},
	{"METERWORKER_SAFE_WINDOW", "0", "no unit"},
	{"METERWORKER_SAFE_WINDOW", "-1h", "below 1ms"},
	{"METERWORKER_SAFE_WINDOW", "9999999999h", "too long"},
	{"METERWORKER_SAFE_WINDOW", "1 day", "no duration"},
	{"METERWORKER_SAFE_WINDOW", "24h", "not below the 24h"},
	{"METERWORKER_SAFE_WINDOW", "23h59m60s", "not below the 24h"},
	{"METERWORKER_SAFE_WINDOW", "9.999s", "below the attempt timeout of 10s"},
	{"METERWORKER_ACK_WAIT", "11.999s", "below the attempt timeout of 10s + 2s"},
	{"METERWORKER_ACK_WAIT", "30", "no unit"},
	{"METERWORKER_ACK_WAIT", "25h", "above 24h"},
	{"METERWORKER_ATTEMPT_TIMEOUT", "0s", "below 1ms"},
	{"METERWORKER_ATTEMPT_TIMEOUT", "NaNs", "no duration"},
	{"METERWORKER_SHUTDOWN_TIMEOUT", "-25s", "below 1ms"},
	{"METERWORKER_RETENTION", "95h59m", "below 96h"},
	{"METERWORKER_RETENTION", "2562048h", "too long"},
	{"METERWORKER_DEDUP_WINDOW", "24h", "below 25h"},
	{"METERWORKER_DEDUP_WINDOW", "8761h", "above 8760h"},

	{"METERWORKER_PARTITIONS", "0", "1 to 256"},
	{"METERWORKER_PARTITIONS", "257", "1 to 256"},
	{"METERWORKER_PARTITIONS", "24.0", "1 to 256"},
	{"METERWORKER_PARTITIONS", "99999999999999999999", "1 to 256"},
	{"METERWORKER_STREAM_REPLICAS", "0", "1 to 5"},
	{"METERWORKER_STREAM_REPLICAS", "6", "1 to 5"},
	{"METERWORKER_MANAGE_STREAMS", "yes", "no choice"},
	{"METERWORKER_LEDGER_MAX_BYTES", "1GIB", "no size"},
	{"METERWORKER_LEDGER_MAX_BYTES", "GiB", "no size"},
	{"METERWORKER_LEDGER_MAX_BYTES", "NaN", "no size"},
	{"METERWORKER_LEDGER_MAX_BYTES", "-1GiB", "not between"},
	{"METERWORKER_LEDGER_MAX_BYTES", "1023KiB", "not between"},
	{"METERWORKER_LEDGER_MAX_BYTES", "1e300GiB", "not between"},
	{"METERWORKER_FOREIGN_DUPLICATES", "Accept", "no choice"},
	{"METERWORKER_API", "v2", "takes live keys only"},
	{"METERWORKER_API", "v3", "no choice"},
	{"METERWORKER_MODE", "production", "no choice"},
	{"METERWORKER_MODE", "live", "the Stripe key is a test key"},
	{"METERWORKER_LOG_LEVEL", "trace", "no choice"},
	{"METERWORKER_LOG_FORMAT", "text", "no choice"},
	{"METERWORKER_ADMIN_ADDR", "8080", "no HOST:PORT"},
	{"METERWORKER_ADMIN_ADDR", "127.0.0.1:65536", "no HOST:PORT"},
	{"METERWORKER_ADMIN_ADDR", "127.0.0.1:http", "no HOST:PORT"},
	{"METERWORKER_ADMIN_ADDR", "127.0.0.1:", "no HOST:PORT"},
	{"METERWORKER_WEBHOOK_ADDR", "[::1", "no HOST:PORT"},
	{"METERWORKER_ADMIN_TOKEN_FILE", "/does/not/exist", "no such file"},
	{"METERWORKER_ADMIN_READ_ONLY", "yes", "no choice"},
	{"METERWORKER_ADMIN_NATS_URL", "http://nats:4222", `scheme "http"`},
	{"METERWORKER_ADMIN_NATS_CREDS", "/does/not/exist", "no such file"},
	{"METERWORKER_ADMIN_NATS_INBOX_PREFIX", "_INBOX.>", "no subject"},
	{"STRIPE_VERSION", "latest", "no version"},

	{"STRIPE_API_BASE", "https://api.stripe.com@evil", "user information"},
	{"STRIPE_API_BASE", "https://api.stripe.com.evil", "neither Stripe's nor loopback"},
	{"STRIPE_API_BASE", "file:///", "scheme"},
	{"STRIPE_API_BASE", "http://api.stripe.com", "plain http"},
	{"STRIPE_API_BASE", "http://10.0.0.1:12111", "neither Stripe's nor loopback"},
	{"STRIPE_METER_EVENTS_BASE", "http://meter-events.stripe.com", "plain http"},

	{"NATS_URL", "http://nats:4222", `scheme "http"`},
	{"NATS_URL", "nats://a:4222,", "names no host"},
	{"NATS_URL", "nats://a:0", "port"},
	{"NATS_URL", "nats://a:99999", "port"},
	{"NATS_URL", "nats://a:4222,nats://b:x", "no list of addresses"},
	{"NATS_CREDS", "/does/not/exist", "no such file"},
	{"NATS_INBOX_PREFIX", "_INBOX.>", "no subject"},
	{"NATS_INBOX_PREFIX", "_INBOX.*", "no subject"},
	{"NATS_INBOX_PREFIX", "_INBOX.", "no subject"},
	{"NATS_INBOX_PREFIX", ".worker", "no subject"},
	{"NATS_INBOX_PREFIX", "_INBOX worker", "no subject"},
	{"NATS_INBOX_PREFIX", "_INBOX\tworker", "no subject"},
	{"NATS_INBOX_PREFIX", "$JS.ACK", "no subject"},

	{"STRIPE_API_KEY_FILE", "/does/not/exist", "no such file"},
}

func TestBadValues(t *testing.T) {
	for _, tt := range badValues {
		for _, from := range []origin{fromFlag, fromEnvironment, fromFile} {
			t.Run(fmt.Sprintf("%s=%s from the %s", tt.variable, tt.value, from), func(t *testing.T) {
				problems := loadFrom(t, from, tt.variable, tt.value)
				wantProblemFrom(t, problems, tt.variable, tt.want, from)
			})
		}
	}
}

// loadFrom loads a configuration that is valid but for one value, which comes from
// the given source.
func loadFrom(t *testing.T, from origin, variable, value string) []problem {
	t.Helper()
	name := nameOf(t, variable)
	flags, env := map[string]string{}, valid(nil)
	switch from {
	case fromFlag:
		flags[name] = value
	case fromEnvironment:
		env[variable] = value
	case fromFile:
		content, err := yaml.Marshal(map[string]string{name: value})
		if err != nil {
			t.Fatal(err)
		}
		flags = settingsFile(t, string(content))
	case fromDefault:
		t.Fatal("a default is no source of a value")
	}
	settings, problems := gather(flags, env)
	l := &loader{settings: settings, problems: problems}
	l.config(env, keyRequired, false)
	return l.problems
}

// nameOf is the flag of a variable.
func nameOf(t *testing.T, variable string) string {
	t.Helper()
	known := definitions()
	i := slices.IndexFunc(known, func(d definition) bool { return d.Variable == variable })
	if i < 0 {
		t.Fatalf("%s is no setting", variable)
	}
	return known[i].Name
}

// wantProblem wants a problem with that variable of the environment, with a remedy.
func wantProblem(t *testing.T, problems []problem, variable, detail string) {
	t.Helper()
	wantProblemFrom(t, problems, variable, detail, fromEnvironment)
}

func wantProblemFrom(t *testing.T, problems []problem, variable, detail string, from origin) {
	t.Helper()
	for _, p := range problems {
		if p.Variable == variable && strings.Contains(p.Detail, detail) {
			if p.Remedy == "" || p.Source != from {
				t.Errorf("problem without remedy or source: %+v", p)
			}
			return
		}
	}
	t.Errorf("problems %v, want one of %s with %q", problems, variable, detail)
}
