package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// settingsFile writes a file of settings and returns the flags that name it.
func settingsFile(t *testing.T, content string) map[string]string {
	t.Helper()
	return map[string]string{"config": write(t, content)}
}

func TestOrderOfSources(t *testing.T) {
	file := settingsFile(t, "rate: 3\npartitions: 3\nretention: 100h\n")
	env := environment{"METERWORKER_RATE": "2", "METERWORKER_PARTITIONS": "2", "METERWORKER_API": ""}
	flags := map[string]string{"config": file["config"], "rate": "1"}
	settings, problems := gather(flags, env)
	if problems != nil {
		t.Fatal(problems)
	}
	want := map[string]struct {
		text   string
		origin origin
	}{
		"rate":            {"1", fromFlag},
		"partitions":      {"2", fromEnvironment},
		"retention":       {"100h", fromFile},
		"stream-replicas": {"1", fromDefault},
		"api":             {"v1", fromDefault},
	}
	found := 0
	for _, s := range settings {
		if w, ok := want[s.Name]; ok {
			found++
			if s.Text != w.text || s.Origin != w.origin {
				t.Errorf("%s is %q from %s, want %q from %s", s.Name, s.Text, s.Origin, w.text, w.origin)
			}
		}
	}
	if found != len(want) {
		t.Errorf("%d of %d settings found", found, len(want))
	}
}

// Whatever a variable can say, a flag and a key in the file can say too.
func TestEverySettingFromEverySource(t *testing.T) {
	for _, def := range definitions() {
		if def.Secret {
			continue
		}
		sources := map[origin]func() ([]setting, []problem){
			fromFlag:        func() ([]setting, []problem) { return gather(map[string]string{def.Name: "x"}, nil) },
			fromEnvironment: func() ([]setting, []problem) { return gather(nil, environment{def.Variable: "x"}) },
			fromFile:        func() ([]setting, []problem) { return gather(settingsFile(t, def.Name+": x\n"), nil) },
		}
		for from, read := range sources {
			settings, problems := read()
			i := slices.IndexFunc(settings, func(s setting) bool { return s.Name == def.Name })
			if got := settings[i]; problems != nil || got.Text != "x" || got.Origin != from {
				t.Errorf("%s from %s is %q from %s, %v", def.Name, from, got.Text, got.Origin, problems)
			}
		}
	}
}

func TestEveryFlagReachesTheSettings(t *testing.T) {
	for _, def := range definitions() {
		code, stdout, stderr := runCommand(t, nil, "config", "print", "--"+def.Name+"=marker")
		if def.Secret {
			if code != exitUsage || !strings.Contains(stderr, "unknown flag") || strings.Contains(stderr+stdout, "marker") {
				t.Errorf("--%s of a secret: exit %d, %s", def.Name, code, stderr)
			}
			continue
		}
		line := slices.IndexFunc(strings.Split(stdout, "\n"), func(l string) bool {
			return slices.Equal(strings.Fields(l), []string{def.Name, "marker", "flag"})
		})
		if line < 0 {
			t.Errorf("--%s=marker does not show in\n%s%s", def.Name, stdout, stderr)
		}
	}
}

func TestBadFiles(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"unknown key", "rats: 5\n", `unknown key; did you mean "rate"?`},
		{"unknown key with underscore", "safe_window: 5h\n", `did you mean "safe-window"?`},
		{"unknown key like none", "zzzzzzzzzzzzzzzzzzzz: 5\n", "docs/configuration.md lists the keys"},
		{"nested", "stripe:\n  rate: 5\n", "unknown key"},
		{"secret", "stripe-api-key: sk_live_" + hidden + "\n", "set STRIPE_API_KEY_FILE"},
		{"webhook secret", "stripe-webhook-secret: whsec_" + hidden + "\n", "set STRIPE_WEBHOOK_SECRET_FILE"},
		{"twice", "rate: 5\nrate: 6\n", "line 2: the key stands twice"},
		{"list", "rate: [5]\n", "not a single value"},
		{"mapping as value", "rate: {a: 5}\n", "not a single value"},
		{"alias", "rate: &a 5\npartitions: *a\n", "not a single value"},
		{"no value", "rate:\n", "has no value"},
		{"empty text", "rate: \"\"\n", "is empty"},
		{"bad value", "rate: .nan\n", "no finite decimal number"},
		{"not a mapping", "- rate\n", "not a mapping"},
		{"only text", "rate\n", "not a mapping"},
		{"two documents", "rate: 5\n---\nrate: 6\n", "more than one document"},
		{"no YAML", "rate: 'five\n", "--config"},
		{"tab", "\trate: 5\n", "--config"},
		{"too long", "# " + strings.Repeat("x", longestFile) + "\n", "longer than"},
		{"binary", "\x00\x01\x02", "--config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := settingsFile(t, tt.content)["config"]
			settings := &Settings{ConfigFile: ConfigFile{Config: &path}}
			_, err := loadConfig(settings, valid(nil), keyRequired, false)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("loadConfig: %v, want %q", err, tt.want)
			}
			if strings.Contains(fmt.Sprint(err), hidden) {
				t.Errorf("the message shows the secret: %v", err)
			}
		})
	}
}

func TestGoodFiles(t *testing.T) {
	contents := []string{
		"", "# nothing yet\n", "---\n", "null\n", "\ufeffrate: 25\n",
		"rate: 25 # a comment\nmanage-streams: true\napi: 'v1'\nsafe-window: \"1h\"\n",
	}
	for _, content := range contents {
		path := settingsFile(t, content)["config"]
		result, err := loadConfig(&Settings{ConfigFile: ConfigFile{Config: &path}}, valid(nil), keyRequired, false)
		if err != nil || result.Config.Rate != 25 {
			t.Errorf("%q: rate %v, %v", content, result.Config.Rate, err)
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	for path, want := range map[string]string{
		"/does/not/exist": "no such file", t.TempDir(): "directory", "": "no such file", loop(t): "too many levels",
		"/dev/zero": "device", fifo(t): "FIFO", // which nobody will ever write to
	} {
		_, problems := gather(map[string]string{"config": path}, nil)
		if len(problems) != 1 || problems[0].Setting != "--config" || problems[0].Remedy == "" || !strings.Contains(problems[0].Detail, want) {
			t.Errorf("--config=%q: %v, want one problem with %q", path, problems, want)
		}
	}
}

func TestMistypedVariables(t *testing.T) {
	env := environment{
		"METERWORKER_RATES": "5", "STRIPE_API_KEYFILE": "x", // typing errors
		"METERWORKER_SERVICE_HOST": "10.0.0.1", "METERWORKER_PORT_8080_TCP_ADDR": "10.0.0.1", // Kubernetes
		"STRIPE_CLI_TELEMETRY_OPTOUT": "1", "RATES": "1", "METERWORKER_RATE": "5",
	}
	got := mistypedVariables(env)
	if len(got) != 2 || !strings.Contains(got[0], "METERWORKER_RATES") || !strings.Contains(got[1], "STRIPE_API_KEYFILE") ||
		!strings.HasSuffix(got[0], "did you mean METERWORKER_RATE?") {
		t.Errorf("warnings %q", got)
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"rate", "rate", 0}, {"rats", "rate", 1}, {"ab", "ba", 2}}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestRedact(t *testing.T) {
	tests := []struct {
		name, text, want string
		redact           func(string) string
	}{
		{"key", "x sk_live_abc y", "x sk_live_(redacted) y", redact},
		{"key in a path", "/run/my_rk_test_abc/x", "/run/my_rk_test_(redacted)/x", redact},
		{"webhook secret", "whsec_a+b/c=", "whsec_(redacted)", redact},
		{"no key", "task_force, risk_test", "task_force, risk_test", redact},
		{"URL in a sentence", `dial nats://u:p@h:1 and "https://t@h"`, `dial nats://(redacted)@h:1 and "https://(redacted)@h"`, redact},
		{"URL", "nats://u:p@h:4222", "nats://(redacted)@h:4222", redactURL},
		{"URL without scheme", "u:p@h:4222", "(redacted)@h:4222", redactURL},
		{"token", "tls://token@h", "tls://(redacted)@h", redactURL},
		{"odd password", "nats://u:p/?#, @x@h", "nats://(redacted)@h", redactURL},
		{"list", "nats://u:p@a,v:q@b", "nats://(redacted)@b", redactURL},
		{"nothing to hide", "nats://a,tls://b", "nats://a,tls://b", redactURL},
	}
	for _, tt := range tests {
		if got := tt.redact(tt.text); got != tt.want {
			t.Errorf("%s: %q becomes %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestConfigurationPageIsUpToDate(t *testing.T) {
	const path = "../../docs/configuration.md"
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != configurationPage() {
		t.Errorf("%s is not what Settings say: run `make docs`", path)
	}
}

// The contract's table, name by name: renaming a variable breaks installations.
func TestVariablesOfTheContract(t *testing.T) {
	contract := strings.Fields(`
		NATS_URL NATS_CREDS NATS_CA NATS_CERT NATS_KEY NATS_INBOX_PREFIX METERWORKER_DATA_DIR
		STRIPE_API_KEY_FILE STRIPE_API_KEY METERWORKER_MODE STRIPE_API_BASE STRIPE_METER_EVENTS_BASE STRIPE_VERSION
		STRIPE_WEBHOOK_SECRET_FILE STRIPE_WEBHOOK_SECRET
		METERWORKER_API METERWORKER_RATE METERWORKER_SAFE_WINDOW METERWORKER_ACK_WAIT METERWORKER_ATTEMPT_TIMEOUT
		METERWORKER_SHUTDOWN_TIMEOUT METERWORKER_FOREIGN_DUPLICATES
		METERWORKER_PARTITIONS METERWORKER_STREAM_REPLICAS METERWORKER_RETENTION METERWORKER_MANAGE_STREAMS
		METERWORKER_DEDUP_WINDOW METERWORKER_LEDGER_MAX_BYTES
		METERWORKER_ADMIN_ADDR METERWORKER_ADMIN_TOKEN_FILE METERWORKER_ADMIN_READ_ONLY
		METERWORKER_ADMIN_NATS_URL METERWORKER_ADMIN_NATS_CREDS METERWORKER_ADMIN_NATS_INBOX_PREFIX METERWORKER_WEBHOOK_ADDR
		OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS OTEL_SERVICE_NAME OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG
		METERWORKER_PPROF_ADDR
		METERWORKER_LOG_LEVEL METERWORKER_LOG_FORMAT`)
	var got []string
	for _, def := range definitions() {
		got = append(got, def.Variable)
		// The flag is the variable without our prefix, in kebab case.
		if want := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(def.Variable, "METERWORKER_"), "_", "-")); def.Name != want {
			t.Errorf("%s has the flag --%s, want --%s", def.Variable, def.Name, want)
		}
	}
	if !slices.Equal(got, contract) {
		t.Errorf("variables\n got %q\nwant %q", got, contract)
	}
}
