package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program as well, for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"meterworker": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Only what a script sets counts, not what this machine has set.
			kept := env.Vars[:0]
			for _, pair := range env.Vars {
				name, _, _ := strings.Cut(pair, "=")
				if !strings.HasPrefix(name, "METERWORKER_") && !strings.HasPrefix(name, "STRIPE_") && !strings.HasPrefix(name, "NATS_") {
					kept = append(kept, pair)
				}
			}
			env.Vars = append(kept, "ESCAPED=a\x1b[2Jb")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": wantExit},
	})
}

// wantExit runs a program and wants its exit code: exit CODE program args...
func wantExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// runCommand runs one command line in this process.
func runCommand(t *testing.T, env environment, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, &process{In: strings.NewReader(""), Out: &out, Err: &errs, Env: env})
	return code, out.String(), errs.String()
}

// Every command's struct must be one that kong accepts, and every command but
// the hidden ones must say what it does.
func TestEveryCommandHasHelp(t *testing.T) {
	parser, err := newParser(&process{Out: os.Stdout, Err: os.Stderr}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(true)
	if len(leaves) < 5 {
		t.Fatalf("only %d commands found", len(leaves))
	}
	for _, leaf := range leaves {
		if !strings.HasSuffix(leaf.Help, ".") {
			t.Errorf("help of %q is no sentence: %q", leaf.Path(), leaf.Help)
		}
		for _, flag := range leaf.Flags {
			if !strings.HasSuffix(flag.Help, ".") {
				t.Errorf("help of %q --%s is no sentence: %q", leaf.Path(), flag.Name, flag.Help)
			}
		}
	}
}
