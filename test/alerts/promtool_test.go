package alerts

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// promtool runs unit tests against rules.
func promtool(t *testing.T, rules, tests any) (output string, passes bool) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: apt-get install prometheus")
	}
	dir := t.TempDir()
	for name, content := range map[string]any{"alerts.yaml": rules, "alerts_test.yaml": tests} {
		text, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), tool, "test", "rules", filepath.Join(dir, "alerts_test.yaml")).CombinedOutput()
	return string(out), err == nil
}

// unitTests are the file's, as promtool reads it.
type unitTests struct {
	RuleFiles          []string   `yaml:"rule_files"`
	EvaluationInterval string     `yaml:"evaluation_interval"`
	Tests              []unitTest `yaml:"tests"`
}

type unitTest struct {
	Name     string           `yaml:"name"`
	Interval string           `yaml:"interval"`
	Series   []map[string]any `yaml:"input_series"`
	Expr     []exprTest       `yaml:"promql_expr_test,omitempty"`
	Alerts   []map[string]any `yaml:"alert_rule_test,omitempty"`
}

type exprTest struct {
	Time    string       `yaml:"eval_time"`
	Expr    string       `yaml:"expr"`
	Samples []exprSample `yaml:"exp_samples"`
}

type exprSample struct {
	Labels string  `yaml:"labels"`
	Value  float64 `yaml:"value"`
}

func loadTests(t *testing.T) unitTests {
	t.Helper()
	var tests unitTests
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "deploy/prometheus/alerts_test.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&tests); err != nil {
		t.Fatal(err)
	}
	return tests
}

// about leaves of the tests what they expect of one alert.
func (u unitTests) about(alert string) unitTests {
	u.Tests = slices.Clone(u.Tests)
	for i, test := range u.Tests {
		u.Tests[i].Alerts = slices.DeleteFunc(slices.Clone(test.Alerts), func(a map[string]any) bool { return a["alertname"] != alert })
		u.Tests[i].Expr = slices.Clone(test.Expr)
		for j, expr := range test.Expr {
			u.Tests[i].Expr[j].Samples = slices.DeleteFunc(slices.Clone(expr.Samples), func(s exprSample) bool {
				return !strings.Contains(s.Labels, `alertname="`+alert+`"`)
			})
		}
	}
	return u
}

// alone are the rules without all others, since each takes its time.
func alone(d document, alert string) document {
	d.Groups = slices.Clone(d.Groups)
	d.Groups[0].Rules = slices.DeleteFunc(slices.Clone(d.Groups[0].Rules), func(r rule) bool { return r.Alert != alert })
	return d
}

func TestUnitTests(t *testing.T) {
	if output, passes := promtool(t, load(t), loadTests(t)); !passes {
		t.Error(output)
	}
}

// An alert that never fires is noticed, and one that always does.
func TestUnitTestsNoticeEveryAlert(t *testing.T) {
	t.Parallel()
	rules, tests := load(t), loadTests(t)
	for _, r := range rules.Groups[0].Rules {
		for what, expr := range map[string]string{"as it is": r.Expr, "never": "vector(0) > 1", "always": "vector(1)"} {
			t.Run(r.Alert+"/"+what, func(t *testing.T) {
				t.Parallel()
				mutant := alone(rules, r.Alert)
				mutant.Groups[0].Rules[0].Expr = expr
				output, passes := promtool(t, mutant, tests.about(r.Alert))
				if passes != (expr == r.Expr) {
					t.Errorf("passes: %t\n%s", passes, output)
				}
			})
		}
	}
}
