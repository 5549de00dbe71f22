package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

func TestVersionInfo(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"},
			{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
			{Key: "vcs.modified", Value: "true"},
			{Key: "GOOS", Value: "linux"},
			{Key: "GOARCH", Value: "arm64"},
		},
	}
	const want = "meterworker v1.2.3 abc (modified) go1.26.8 linux/arm64"
	if got := newVersionInfo(info).String(); got != want {
		t.Errorf("version %q, want %q", got, want)
	}
}

func TestHealthcheck(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		code   int
		want   string
	}{
		{"ready", 200, `{"ready":true}`, 0, "ready\n"},
		{"not ready", 503, `{"ready":false,"checks":[{"name":"streams","ok":true},{"name":"breaker","ok":false,"detail":"halted: 401"}]}`, 1, "503: breaker: halted: 401\n"},
		{"hostile", 503, `{"checks":[{"name":"\u001b[2J"}]}`, 1, `503: "\x1b[2J`},
		{"no JSON", 502, "<html>", 1, "502\n"},
		{"redirect", 302, "", 1, "302\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("asked %s", r.URL.Path)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			env := environment{"METERWORKER_ADMIN_ADDR": server.Listener.Addr().String(), "METERWORKER_RATE": "NaN"}
			code, stdout, stderr := runCommand(t, env, "healthcheck")
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("exit %d, %q, want %d, %q", code, stdout+stderr, tt.code, tt.want)
			}
		})
	}
}

func TestDialable(t *testing.T) {
	tests := map[string]string{
		":8080": "127.0.0.1:8080", "0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "[::1]:8080",
		"127.0.0.1:1": "127.0.0.1:1", "10.0.0.1:80": "10.0.0.1:80", "localhost:8080": "localhost:8080",
	}
	for addr, want := range tests {
		if got := dialable(addr); got != want {
			t.Errorf("dialable(%q) = %q, want %q", addr, got, want)
		}
	}
}

// bash runs the script as an interactive shell would: with the words up to the
// cursor in COMP_WORDS.
func TestBashCompletion(t *testing.T) {
	_, script, _ := runCommand(t, nil, "completion", "bash")
	tests := []struct {
		words []string
		want  []string // all of these
		never []string
	}{
		{[]string{""}, []string{"config", "version", "--help"}, []string{"docs", "--rate"}},
		{[]string{"ver"}, []string{"version"}, []string{"config"}},
		{[]string{"config", ""}, []string{"check", "print"}, []string{"docs", "version"}},
		{[]string{"config", "check", "--ra"}, []string{"--rate"}, []string{"--retention"}},
		{[]string{"config", "check", "--api", ""}, []string{"v1", "v2"}, []string{"--rate"}},
		{[]string{"config", "check", "--log-level", "=", "w"}, []string{"warn"}, []string{"info"}},
		{[]string{"config", "check", "--log-level", "="}, []string{"warn", "info"}, nil},
		{[]string{"config", "check", "--nats-creds", ""}, nil, []string{"--rate", "v1"}},
		{[]string{"completion", "f"}, []string{"fish"}, []string{"bash"}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.words, " "), func(t *testing.T) {
			quoted := make([]string, len(tt.words))
			for i, word := range tt.words {
				quoted[i] = quoteShell(word)
			}
			ask := "COMP_WORDS=(meterworker " + strings.Join(quoted, " ") + ")\n" +
				"COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_meterworker\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
			out, err := exec.CommandContext(t.Context(), "bash", "-c", script+ask).CombinedOutput()
			if err != nil {
				t.Fatalf("bash: %v\n%s", err, out)
			}
			got := strings.Fields(string(out))
			for _, word := range tt.want {
				if !slices.Contains(got, word) {
					t.Errorf("%q is not offered in %q", word, got)
				}
			}
			for _, word := range tt.never {
				if slices.Contains(got, word) {
					t.Errorf("%q is offered in %q", word, got)
				}
			}
		})
	}
}

// zsh and fish are not on every machine that tests; their scripts come from the
// same nodes as bash's, so what can go wrong is the quoting and a missing node.
func TestOtherCompletionsNameEveryCommandAndFlag(t *testing.T) {
	nodes := []completionNode{
		{Commands: []completionWord{{Word: "config", Help: `it's a \ "test"`}}},
		{Route: " config", Flags: []completionWord{
			{Word: "--api", Help: "API.", Values: []string{"v1", "v2"}}, {Word: "--file", Help: "File."}, {Word: "--yes", Help: "Yes.", Switch: true},
		}},
	}
	zsh, fish := zshCompletion(nodes), fishCompletion(nodes)
	for _, want := range []string{
		`'config:it'\''s a \ "test"'`, "' config') route=", "'--api:API.'", "' config --api') compadd -- v1 v2; return", "' config --file') _files; return",
	} {
		if !strings.Contains(zsh, want) {
			t.Errorf("zsh lacks %s in\n%s", want, zsh)
		}
	}
	if strings.Contains(zsh, "--yes') ") {
		t.Error("zsh completes a value for a switch")
	}
	for _, want := range []string{
		`-n '__meterworker_at \'\'' -a config -d 'it\'s a \\ "test"'`, `-l api -x -a 'v1 v2' -d 'API.'`, `-l file -r -F -d 'File.'`, `-l yes -d 'Yes.'`, "case ' config'",
	} {
		if !strings.Contains(fish, want) {
			t.Errorf("fish lacks %s in\n%s", want, fish)
		}
	}
}
