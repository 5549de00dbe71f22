package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var errFull = errors.New("no space left on device")

// fullDisk refuses every write.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// Output that was not written must not look like success to a script.
func TestFailedOutputFails(t *testing.T) {
	lines := []string{
		"version", "version -o json", "config docs", "config check --without-key", "config check --without-key -o json",
		"config print", "config print -o json", "config print -o yaml", "completion bash",
	}
	for _, line := range lines {
		var errs bytes.Buffer
		code := execute(t.Context(), strings.Fields(line), &process{Out: fullDisk{}, Err: &errs})
		if code != exitFailed || !strings.Contains(errs.String(), errFull.Error()) {
			t.Errorf("%s: exit %d, %q, want %d and the reason", line, code, errs.String(), exitFailed)
		}
	}
}

func TestReport(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{"success", nil, 0, ""},
		{"failure", errFull, 1, "meterworker: error: no space left on device\n"},
		{"bad usage", &usageError{errors.New("unknown flag")}, 2, "meterworker: error: unknown flag\nRun "},
		{"bad configuration", &configError{[]problem{{Setting: "rate", Variable: "V", Detail: "d", Remedy: "r"}}}, 2, "meterworker: error: configuration: V (--rate): d; r\n"},
		{"already told", &silentError{2}, 2, ""},
		{"wrapped", errors.Join(errFull, &configError{}), 2, "meterworker: error: no space left"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var errs bytes.Buffer
			if code := report(&process{Err: &errs}, tt.err); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if got := errs.String(); !strings.HasPrefix(got, tt.want) || (tt.want == "" && got != "") {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
		})
	}
}
