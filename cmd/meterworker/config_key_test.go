package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const hidden = "51Hidden0123456789"

func TestKeyInTheEnvironment(t *testing.T) {
	tests := []struct{ name, key, want string }{
		{"publishable", "pk_live_" + hidden, "publishable"},
		{"webhook secret", "whsec_" + hidden, "webhook"},
		{"line break inside", "sk_live_\n" + hidden, "line break"},
		{"byte order mark", "\ufeffsk_live_" + hidden, "byte order mark"},
		{"prefix only", "sk_live_", "not a key"},
		{"quoted", `"sk_live_` + hidden + `"`, "quotes"},
		{"too long", "sk_live_" + strings.Repeat("x", 300), "characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := load(t, environment{"STRIPE_API_KEY": tt.key})
			wantProblem(t, problems, "STRIPE_API_KEY", tt.want)
			if text := fmt.Sprint(problems); strings.Contains(text, hidden) || strings.Contains(text, "xxxxxxxxxx") {
				t.Errorf("the message shows the key: %s", text)
			}
		})
	}
}

// A simulator has a name without a dot; live usage must never be settled by one.
func TestLiveKeyKeepsAwayFromSimulators(t *testing.T) {
	const refusal = "a live key goes to Stripe only"
	for _, variable := range []string{"STRIPE_API_BASE", "STRIPE_METER_EVENTS_BASE"} {
		_, problems := load(t, environment{"STRIPE_API_KEY": "sk_live_" + hidden, variable: "https://simulator:12111"})
		wantProblem(t, problems, variable, refusal)
	}
	if _, problems := load(t, environment{"STRIPE_API_KEY": testKey, "STRIPE_API_BASE": "https://simulator:12111"}); problems != nil {
		t.Errorf("test key: %v", problems)
	}
	if _, problems := load(t, environment{"STRIPE_API_KEY": "sk_live_" + hidden, "STRIPE_API_BASE": "https://127.0.0.1:12111"}); problems != nil {
		t.Errorf("loopback: %v", problems)
	}
}

func TestWebhookSecrets(t *testing.T) {
	tests := []struct{ name, variable, value, want string }{
		{"a key in its place", "STRIPE_WEBHOOK_SECRET", "sk_test_" + hidden, "not a signing secret"},
		{"too many", "STRIPE_WEBHOOK_SECRET", strings.Repeat("whsec_"+hidden+" ", 5), "more than 4"},
		{"file with a key", "STRIPE_WEBHOOK_SECRET_FILE", write(t, "sk_live_"+hidden), "not a signing secret"},
		{"empty file", "STRIPE_WEBHOOK_SECRET_FILE", write(t, ""), "no signing secret"},
		{"missing file", "STRIPE_WEBHOOK_SECRET_FILE", "/does/not/exist", "no such file"},
		{"directory", "STRIPE_WEBHOOK_SECRET_FILE", t.TempDir(), "no regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := load(t, environment{"STRIPE_API_KEY": testKey, tt.variable: tt.value})
			wantProblem(t, problems, tt.variable, tt.want)
			if text := fmt.Sprint(problems); strings.Contains(text, hidden) {
				t.Errorf("the message shows the secret: %s", text)
			}
		})
	}
	if _, problems := load(t, environment{"STRIPE_API_KEY": testKey, "STRIPE_WEBHOOK_SECRET_FILE": write(t, "whsec_old\nwhsec_new\n")}); problems != nil {
		t.Errorf("two secrets: %v", problems)
	}
}

func TestKeyFiles(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"empty", write(t, ""), "empty"},
		{"only a line break", write(t, "\n"), "empty"},
		{"directory", t.TempDir(), "not a regular file"},
		{"FIFO", fifo(t), "not a regular file"},
		{"missing", "/does/not/exist", "no such file"},
		{"unreadable", loop(t), "too many levels of symbolic links"},
		{"byte order mark", write(t, "\ufeffsk_live_"+hidden), "byte order mark"},
		{"two lines", write(t, "sk_live_"+hidden+"\nsk_live_"+hidden+"\n"), "line break"},
		{"too long", write(t, strings.Repeat("x", 5000)), "no key"},
		{"a key in the path's place", "sk_live_" + hidden, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := load(t, environment{"STRIPE_API_KEY_FILE": tt.path})
			wantProblem(t, problems, "STRIPE_API_KEY_FILE", tt.want)
			if text := fmt.Sprint(problems); strings.Contains(text, hidden) {
				t.Errorf("the message shows the key: %s", text)
			}
		})
	}
}

func TestKeyFileWinsWithAWarning(t *testing.T) {
	path := write(t, "rk_live_"+hidden+"\n")
	result, problems := load(t, environment{"STRIPE_API_KEY_FILE": path, "STRIPE_API_KEY": testKey})
	if problems != nil {
		t.Fatal(problems)
	}
	c := result.Config
	if c.Key.Reveal() != "rk_live_"+hidden || c.KeyFile != path || !c.Live || c.Mode != "live" {
		t.Errorf("mode %s, file %q, live %t: not those of the file", c.Mode, c.KeyFile, c.Live)
	}
	if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "STRIPE_API_KEY_FILE and STRIPE_API_KEY") {
		t.Errorf("warnings %q, want one about both", result.Warnings)
	}
}

func TestModeAgreesWithTheKey(t *testing.T) {
	for _, kind := range []string{"sk", "rk"} {
		for _, mode := range []string{"live", "test"} {
			for _, said := range []string{"", "live", "test"} {
				env := environment{"STRIPE_API_KEY": kind + "_" + mode + "_" + hidden, "METERWORKER_MODE": said}
				result, problems := load(t, env)
				if agree := said == "" || said == mode; agree != (problems == nil) {
					t.Errorf("%s key of mode %s, METERWORKER_MODE=%s: %v", kind, mode, said, problems)
				} else if agree && (result.Config.Mode != mode || result.Config.Live != (mode == "live")) {
					t.Errorf("%s key of mode %s gives mode %q", kind, mode, result.Config.Mode)
				} else if !agree {
					wantProblem(t, problems, "METERWORKER_MODE", "is a "+mode+" key")
				}
			}
		}
	}
}

func TestWhoNeedsAKey(t *testing.T) {
	wrong := environment{"STRIPE_API_KEY": "pk_live_" + hidden}
	tests := []struct {
		name string
		env  environment
		need keyNeed
		ok   bool
	}{
		{"required, none", nil, keyRequired, false},
		{"optional, none", nil, keyOptional, true},
		{"ignored, none", nil, keyIgnored, true},
		{"required, wrong", wrong, keyRequired, false},
		{"optional, wrong", wrong, keyOptional, false},
		{"ignored, wrong", wrong, keyIgnored, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadConfig(&Settings{}, tt.env, tt.need, false)
			if (err == nil) != tt.ok {
				t.Errorf("loadConfig: %v, want success %t", err, tt.ok)
			}
		})
	}
	_, err := loadConfig(&Settings{}, nil, keyRequired, false)
	if err == nil || !strings.Contains(err.Error(), "STRIPE_API_KEY_FILE") || !strings.Contains(err.Error(), "meterworker demo") {
		t.Errorf("the refusal %q does not say what to do", err)
	}
	c, err := loadConfig(&Settings{}, environment{"METERWORKER_MODE": "live"}, keyIgnored, false)
	if err != nil || !c.Config.Live {
		t.Errorf("METERWORKER_MODE counts without a key: %v", err)
	}
}

func TestConfigNeverPrintsItsSecrets(t *testing.T) {
	env := environment{"STRIPE_API_KEY": "sk_live_" + hidden, "STRIPE_WEBHOOK_SECRET": "whsec_" + hidden}
	result, problems := load(t, env)
	if problems != nil {
		t.Fatal(problems)
	}
	if result.Config.WebhookSecret != "whsec_"+secret(hidden) {
		t.Error("the webhook secret did not arrive")
	}
	encoded, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		texts = append(texts, fmt.Sprintf(verb, result), fmt.Sprintf(verb, result.Config), fmt.Sprintf(verb, &result.Config))
	}
	for _, text := range texts {
		if strings.Contains(text, hidden) {
			t.Errorf("a secret is shown in %.200s", text)
		}
	}
}

func TestShortMemoryIsWarnedOf(t *testing.T) {
	for window, want := range map[string]int{"167h59m": 1, "168h": 0, "864h": 0} {
		result, problems := load(t, environment{"STRIPE_API_KEY": testKey, "METERWORKER_DEDUP_WINDOW": window})
		if problems != nil {
			t.Fatal(problems)
		}
		if len(result.Warnings) != want {
			t.Errorf("%s: warnings %q, want %d", window, result.Warnings, want)
		}
	}
}
