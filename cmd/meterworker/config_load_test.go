package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testKey = "sk_test_51abcDEF0123456789"

// valid is an environment that every test may build on.
func valid(extra environment) environment {
	env := environment{"STRIPE_API_KEY": testKey}
	maps.Copy(env, extra)
	return env
}

func load(t *testing.T, env environment) (loaded, []problem) {
	t.Helper()
	result, err := loadConfig(&Settings{}, env, keyRequired, false)
	if err == nil {
		return result, nil
	}
	var refusal *configError
	if !errors.As(err, &refusal) {
		t.Fatalf("loadConfig: %T %v, want *configError", err, err)
	}
	if len(refusal.Problems) == 0 {
		t.Fatal("a refusal without a problem")
	}
	return result, refusal.Problems
}

func TestDefaults(t *testing.T) {
	result, problems := load(t, valid(nil))
	if problems != nil {
		t.Fatal(problems)
	}
	got := result.Config
	if got.Key.Reveal() != testKey {
		t.Error("the key is not the one of the environment")
	}
	want := Config{
		NATSInboxPrefix: "_INBOX",
		Mode:            "test", Key: got.Key, Version: "2024-10-28.acacia", API: "v1", Rate: 25,
		SafeWindow: 23 * time.Hour, AckWait: 30 * time.Second, AttemptTimeout: 10 * time.Second, ShutdownTimeout: 25 * time.Second,
		Partitions: 24, StreamReplicas: 1, Retention: 168 * time.Hour, ManageStreams: true,
		DedupWindow: 864 * time.Hour, LedgerMaxBytes: 1 << 30, DataDir: "./data",
		AdminAddr: "127.0.0.1:8080", WebhookAddr: "127.0.0.1:4242", LogLevel: "info", LogFormat: "json",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults\n got %+v\nwant %+v", got, want)
	}
	if len(result.Warnings) != 0 {
		t.Errorf("warnings %q", result.Warnings)
	}
}

func TestDefaultRate(t *testing.T) {
	tests := []struct {
		name string
		env  environment
		want float64
	}{
		{"live key", environment{"STRIPE_API_KEY": "sk_live_x1"}, 1000},
		{"restricted live key", environment{"STRIPE_API_KEY": "rk_live_x1"}, 1000},
		{"test key against Stripe", environment{"STRIPE_API_KEY": "sk_test_x1"}, 25},
		{"test key against Stripe by name", environment{"STRIPE_API_KEY": "sk_test_x1", "STRIPE_API_BASE": "https://api.stripe.com"}, 25},
		{"test key against a simulator", environment{"STRIPE_API_KEY": "sk_test_x1", "STRIPE_API_BASE": "http://127.0.0.1:12111"}, 1000},
		{"explicit wins for a test key", environment{"STRIPE_API_KEY": "sk_test_x1", "METERWORKER_RATE": "100"}, 100},
		{"explicit wins for a live key", environment{"STRIPE_API_KEY": "sk_live_x1", "METERWORKER_RATE": "0.5"}, 0.5},
		{"most", environment{"STRIPE_API_KEY": "sk_live_x1", "METERWORKER_RATE": "1e6"}, 1e6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, problems := load(t, tt.env)
			if problems != nil || result.Config.Rate != tt.want {
				t.Errorf("rate %v, %v, want %v", result.Config.Rate, problems, tt.want)
			}
		})
	}
	if got := defaultRate(Config{API: "v2", Mode: modeLive}); got != 10000 {
		t.Errorf("v2: rate %v, want 10000", got)
	}
}

func TestBoundsAreInclusive(t *testing.T) {
	tests := []environment{
		{"METERWORKER_SAFE_WINDOW": "10s"},
		{"METERWORKER_SAFE_WINDOW": "23h59m59.999s"},
		{"METERWORKER_SAFE_WINDOW": "2s", "METERWORKER_ATTEMPT_TIMEOUT": "1s", "METERWORKER_ACK_WAIT": "3s"},
		{"METERWORKER_ACK_WAIT": "12s"},
		{"METERWORKER_RETENTION": "96h"},
		{"METERWORKER_DEDUP_WINDOW": "25h"},
		{"METERWORKER_PARTITIONS": "1", "METERWORKER_STREAM_REPLICAS": "5"},
		{"METERWORKER_PARTITIONS": "256"},
		{"METERWORKER_ADMIN_ADDR": ":0", "METERWORKER_WEBHOOK_ADDR": "[::1]:65535"},
		{"NATS_URL": "nats://user:pass@a:4222"},
		{"NATS_URL": "a, tls://b:4222, wss://c"},
		{"METERWORKER_RATE": ""}, // an empty variable is not set
	}
	for _, env := range tests {
		if _, problems := load(t, valid(env)); problems != nil {
			t.Errorf("%v: %v", env, problems)
		}
	}
}

func TestSizes(t *testing.T) {
	tests := map[string]int64{
		"1048576": 1 << 20, "1MiB": 1 << 20, "1.5GiB": 3 << 29, "2 GiB": 2 << 30, "5MB": 5e6, "1TiB": 1 << 40, "2000kB": 2e6,
	}
	for text, want := range tests {
		result, problems := load(t, valid(environment{"METERWORKER_LEDGER_MAX_BYTES": text}))
		if problems != nil || result.Config.LedgerMaxBytes != want {
			t.Errorf("%s is %d, %v, want %d", text, result.Config.LedgerMaxBytes, problems, want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	result, problems := load(t, environment{
		"METERWORKER_RATE": "NaN", "METERWORKER_SAFE_WINDOW": "24h", "METERWORKER_PARTITIONS": "0",
		"METERWORKER_API": "v3", "NATS_CREDS": "/does/not/exist", "METERWORKER_LOG_LEVEL": "loud",
	})
	if len(problems) != 8 { // NATS_CREDS twice (unreadable, no NATS_URL), and no key
		t.Errorf("%d problems, want 8: %v", len(problems), problems)
	}
	if !reflect.DeepEqual(result.Config, Config{}) {
		t.Errorf("a refused configuration was returned: %+v", result.Config)
	}
	text := (&configError{problems}).Error()
	if !strings.HasPrefix(text, "configuration: 8 problems\n") || strings.Count(text, "\n") != 8 {
		t.Errorf("message %q", text)
	}
}

func TestNATSFilesBelongTogether(t *testing.T) {
	file := write(t, "pem")
	tests := []struct {
		name     string
		env      environment
		variable string
		want     string
	}{
		{"credentials for the embedded server", environment{"NATS_CREDS": file}, "NATS_CREDS", "embedded server"},
		{"certificate without key", environment{"NATS_URL": "tls://a", "NATS_CERT": file}, "NATS_CERT", "pairs"},
		{"key without certificate", environment{"NATS_URL": "tls://a", "NATS_KEY": file}, "NATS_KEY", "pairs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := load(t, valid(tt.env))
			wantProblem(t, problems, tt.variable, tt.want)
		})
	}
	env := valid(environment{"NATS_URL": "tls://a", "NATS_CERT": file, "NATS_KEY": file, "NATS_CA": file, "NATS_CREDS": file})
	if _, problems := load(t, env); problems != nil {
		t.Error(problems)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loop is a link to itself: nobody can read it, root included.
func loop(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatAreNone(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"directory", t.TempDir(), "directory"},
		{"FIFO", fifo(t), "FIFO"},
		{"device", "/dev/null", "device"},
		{"below a file", write(t, "") + "/x", "not a directory"},
		{"unreadable", loop(t), "too many levels of symbolic links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := load(t, valid(environment{"NATS_URL": "a", "NATS_CA": tt.path}))
			wantProblem(t, problems, "NATS_CA", tt.want)
		})
	}
}
