package alerts

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// promtool runs the unit tests of the rules against a version of them.
func promtool(t *testing.T, rules document) (output string, passes bool) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: apt-get install prometheus")
	}
	text, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"alerts.yaml": string(text), "alerts_test.yaml": read(t, "deploy/prometheus/alerts_test.yaml")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), tool, "test", "rules", filepath.Join(dir, "alerts_test.yaml")).CombinedOutput()
	return string(out), err == nil
}

// variant is the rules with one expression in the place of an alert's.
func variant(t *testing.T, alert, expr string) document {
	t.Helper()
	d := load(t)
	for i, r := range d.Groups[0].Rules {
		if r.Alert == alert {
			d.Groups[0].Rules[i].Expr = expr
		}
	}
	return d
}

func TestUnitTests(t *testing.T) {
	if output, passes := promtool(t, load(t)); !passes {
		t.Error(output)
	}
}

// An alert that never fires is noticed, and one that always does.
func TestUnitTestsNoticeEveryAlert(t *testing.T) {
	t.Parallel()
	for _, r := range load(t).Groups[0].Rules {
		for what, expr := range map[string]string{"never": "vector(0) > 1", "always": "vector(1)"} {
			t.Run(r.Alert+"/"+what, func(t *testing.T) {
				t.Parallel()
				if _, passes := promtool(t, variant(t, r.Alert, expr)); passes {
					t.Errorf("%s: nobody notices when it %s fires", r.Alert, what)
				}
			})
		}
	}
}
