package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// checkLoaded holds for every configuration: it is refused with reasons and remedies
// and without its secrets, or every value is within what its help promises.
func checkLoaded(t *testing.T, result loaded, err error) {
	t.Helper()
	if refusal, ok := errors.AsType[*configError](err); ok {
		if len(refusal.Problems) == 0 || !strings.HasPrefix(err.Error(), "configuration: ") {
			t.Errorf("refused without a problem: %q", err)
		}
		for _, p := range refusal.Problems {
			if p.Detail == "" || p.Remedy == "" || p.names() == "" || len(p.String()) > 4096 {
				t.Errorf("a problem without name, detail or remedy, or too long: %q", p)
			}
		}
		if strings.Contains(err.Error(), hidden) {
			t.Errorf("a secret in %q", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("loadConfig: %T %v, want *configError", err, err)
	}
	checkRanges(t, result.Config)
}

func checkRanges(t *testing.T, c Config) {
	t.Helper()
	const day = 24 * time.Hour
	for what, holds := range map[string]bool{
		"the rate":                     c.Rate > 0 && c.Rate <= mostRate,
		"the safe window":              c.SafeWindow >= c.AttemptTimeout && c.SafeWindow < day,
		"the wait for an ack":          c.AckWait >= c.AttemptTimeout+2*time.Second && c.AckWait <= day,
		"the attempt timeout":          c.AttemptTimeout >= time.Millisecond,
		"the shutdown timeout":         c.ShutdownTimeout >= time.Millisecond && c.ShutdownTimeout <= day,
		"the number of partitions":     c.Partitions >= 1 && c.Partitions <= 256,
		"the number of replicas":       c.StreamReplicas >= 1 && c.StreamReplicas <= 5,
		"the retention":                c.Retention >= 96*time.Hour,
		"the memory of identifiers":    c.DedupWindow >= 25*time.Hour && c.DedupWindow <= 8760*time.Hour,
		"the ledger's size":            c.LedgerMaxBytes >= 1<<20 && c.LedgerMaxBytes <= 1<<50,
		"the API":                      c.API == "v1",
		"the mode":                     c.Mode == modeTest && !c.Live, // the key of these tests
		"the version":                  versionPattern.MatchString(c.Version),
		"the folder":                   c.DataDir != "",
		"credentials without a server": c.NATSURL != "" || c.NATSCreds+c.NATSCA+c.NATSCert+c.NATSKey == "",
		"a base elsewhere":             !strings.Contains(c.APIBase+c.MeterEventsBase, "evil"),
		"the log":                      slices.Contains([]string{"json", "console"}, c.LogFormat) && slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel),
	} {
		if !holds {
			t.Errorf("%s: accepted out of range: %+v", what, c)
		}
	}
}

// FuzzConfigurationFile: whatever a file of settings holds.
func FuzzConfigurationFile(f *testing.F) {
	for _, content := range []string{
		"", "rate: 25\n", "rate: [5]\n", "rate: 5\nrate: 6\n", "---\nrate: 5\n---\nrate: 6\n", "\ufeffrate: 25\n", "rate: &a 5\npartitions: *a\n",
		"<<: {rate: 5}\n", "rate: !!binary aGVsbG8=\n", "rate: !!float 0x10\n", "? [a]\n: b\n", "rate: |\n  5\n", "a: &a [*a]\n", "%YAML 1.1\n---\nrate: 1\n",
		"stripe-api-key: sk_live_" + hidden + "\n", "rate: sk_live_" + hidden + "\n", "sk_live_" + hidden + ": 1\n", "nats-url: nats://u:" + hidden + "@h\n",
		"safe-window: 24h\nack-wait: 1s\n", "stripe-api-base: https://api.stripe.com@evil\n", strings.Repeat("a: {", 1000), "a: !<\x1b[2J> b\n", "\xff\xfe",
	} {
		f.Add([]byte(content))
	}
	path := filepath.Join(f.TempDir(), "settings.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if strings.Contains(strings.ReplaceAll(string(content), "sk_live_"+hidden, ""), hidden) && !strings.Contains(string(content), ":"+hidden+"@") {
			return // no more to be recognised as a secret
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		result, err := loadConfig(&Settings{ConfigFile: ConfigFile{Config: &path}}, valid(nil), keyRequired, false)
		checkLoaded(t, result, err)
	})
}

// FuzzConfigurationValue: whatever the value of a setting, it is judged alike from
// the environment, from a flag and from the file.
func FuzzConfigurationValue(f *testing.F) {
	for i, def := range definitions() {
		f.Add(uint8(i), def.Preset)
	}
	for _, bad := range badValues {
		i := slices.IndexFunc(definitions(), func(d definition) bool { return d.Variable == bad.variable })
		f.Add(uint8(i), bad.value)
	}
	f.Fuzz(func(t *testing.T, index uint8, value string) {
		known := definitions()
		def := known[int(index)%len(known)]
		if value == "" || strings.Contains(value, hidden) {
			return // an empty variable is not set, an empty flag is refused
		}
		env := valid(environment{def.Variable: value})
		result, err := loadConfig(&Settings{}, env, keyRequired, false)
		if def.Name == "mode" || def.Name == "stripe-api-key" {
			env = valid(nil)
		}
		if def.Secret {
			if refusal, ok := errors.AsType[*configError](err); ok && strings.Contains(err.Error(), value) && len(value) > 20 {
				t.Errorf("the secret is shown: %v", refusal)
			}
			return
		}
		checkLoaded(t, result, err)
		want := details(err)
		delete(env, def.Variable)
		settings, problems := gather(map[string]string{def.Name: value}, env)
		if got := judged(settings, problems, env); !maps.Equal(got, want) {
			t.Errorf("--%s=%q: %v, from the environment %v", def.Name, value, got, want)
		}
		content, err := yaml.Marshal(map[string]string{def.Name: value})
		var back map[string]string
		if err != nil || yaml.Unmarshal(content, &back) != nil || back[def.Name] != value || strings.Contains(string(content), "!!binary") {
			return // no text that a file could hold
		}
		settings, problems = gather(settingsFile(t, string(content)), env)
		if got := judged(settings, problems, env); !maps.Equal(got, want) {
			t.Errorf("%q: %v, from the environment %v", content, got, want)
		}
	})
}

// details are what is wrong, without where it came from.
func details(err error) map[string]bool {
	found := map[string]bool{}
	if refusal, ok := errors.AsType[*configError](err); ok {
		for _, p := range refusal.Problems {
			found[p.Variable+": "+p.Detail] = true
		}
	}
	return found
}

func judged(settings []setting, problems []problem, env environment) map[string]bool {
	l := &loader{settings: settings, problems: problems}
	l.config(env, keyRequired, false)
	return details(&configError{Problems: l.problems})
}

// A setting that is given and empty is a mistake of a script, except in the
// environment, where compose files and manifests leave such behind.
func TestEmptyValues(t *testing.T) {
	for _, def := range definitions() {
		if def.Secret {
			continue
		}
		if strings.HasPrefix(def.Variable, "OTEL_") && def.Variable != "OTEL_EXPORTER_OTLP_ENDPOINT" {
			continue // looked at only where tracing is on: TestTracingSettings
		}
		for _, from := range []origin{fromFlag, fromFile} {
			wantProblemFrom(t, loadFrom(t, from, def.Variable, ""), def.Variable, "is empty", from)
		}
		if problems := loadFrom(t, fromEnvironment, def.Variable, ""); len(problems) != 0 {
			t.Errorf("%s= is not taken for unset: %v", def.Variable, problems)
		}
	}
}
