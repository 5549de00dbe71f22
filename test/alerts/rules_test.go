package alerts

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rule is one alert, with every key that we use; another one is refused.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// document is a file of rules.
type document struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

const rulesFile = "deploy/prometheus/alerts.yaml"

func load(t *testing.T) document {
	t.Helper()
	var d document
	decoder := yaml.NewDecoder(strings.NewReader(read(t, rulesFile)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if len(d.Groups) != 1 || len(d.Groups[0].Rules) < 20 {
		t.Fatalf("%s is not what it was: %+v", rulesFile, d)
	}
	return d
}

// parse returns the metrics and labels that an expression names.
func parse(t *testing.T, where, text string) (metrics, labels []string) {
	t.Helper()
	expr, err := parser.ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %q: %v", where, text, err)
		return nil, nil
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			metrics = append(metrics, n.Name)
			for _, m := range n.LabelMatchers {
				labels = append(labels, m.Name)
			}
		case *parser.AggregateExpr:
			labels = append(labels, n.Grouping...)
		}
		return nil
	})
	if len(metrics) == 0 {
		t.Errorf("%s: %q asks for nothing", where, text)
	}
	return metrics, labels
}

// judge fails the test unless the expression's metrics exist and have its labels.
func judge(t *testing.T, where, text string) {
	t.Helper()
	known := registered(t)
	names, labels := parse(t, where, text)
	allowed := []string{"__name__", "job", "namespace", "instance", "le"}
	for _, name := range names {
		base := strings.TrimSuffix(name, "_bucket")
		if _, ok := known[base]; !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		allowed = append(allowed, known[base]...)
	}
	for _, label := range labels {
		if !slices.Contains(allowed, label) {
			t.Errorf("%s: none of %v has the label %s", where, names, label)
		}
	}
}

func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range load(t).Groups[0].Rules {
		judge(t, r.Alert, r.Expr)
		if seen[r.Alert] || !strings.HasPrefix(r.Alert, "Meterworker") {
			t.Errorf("%q is there twice, or not ours by its name", r.Alert)
		}
		seen[r.Alert] = true
		if severity := r.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", r.Alert, severity)
		}
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
			if _, err := template.New("").Funcs(functions).Parse("{{$labels := 0}}{{$value := 0}}" + r.Annotations[name]); err != nil {
				t.Errorf("%s: %s: %v", r.Alert, name, err)
			}
		}
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
}

// functions are those of Prometheus' templates that we use; promtool's tests run them.
var functions = template.FuncMap{"humanize": echo, "humanize1024": echo, "humanizeDuration": echo}

func echo(v any) any { return v }

var (
	section = regexp.MustCompile(`(?m)^### (\w+)$`)
	link    = regexp.MustCompile(`runbook\.md#([a-z0-9-]+)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// Each alert has a section, and each section of the alerts has its alert.
func TestRunbook(t *testing.T) {
	_, alerts, ok := strings.Cut(read(t, "docs/runbook.md"), "\n## Alerts\n")
	alerts, _, more := strings.Cut(alerts, "\n## ")
	if !ok || !more {
		t.Fatal("the runbook has no section on alerts, or it is the last one")
	}
	var documented, existing []string
	for _, match := range section.FindAllStringSubmatch(alerts, -1) {
		documented = append(documented, match[1])
	}
	for _, r := range load(t).Groups[0].Rules {
		existing = append(existing, r.Alert)
	}
	slices.Sort(documented)
	slices.Sort(existing)
	if !slices.Equal(documented, existing) {
		t.Errorf("sections %q\nalerts   %q", documented, existing)
	}
	for body := range strings.SplitSeq(alerts, "\n### ") {
		if name, text, _ := strings.Cut(body, "\n"); strings.HasPrefix(name, "Meterworker") && len(strings.Fields(text)) < 15 {
			t.Errorf("the section on %s says nothing", name)
		}
	}
}

// anchors are what a page can be pointed into, as GitHub makes them.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var all []string
	for _, match := range heading.FindAllStringSubmatch(read(t, page), -1) {
		kept := func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
				return r
			}
			return -1
		}
		all = append(all, strings.Map(kept, strings.ToLower(match[1])))
	}
	return all
}

var internal = regexp.MustCompile(`\]\(([a-z/.]*\.md)?#([a-z0-9-]+)\)`)

// Links into the runbook, and out of it, lead somewhere.
func TestAnchors(t *testing.T) {
	known := anchors(t, "docs/runbook.md")
	for _, page := range []string{"docs/status.md", "docs/metrics.md", rulesFile} {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			if !slices.Contains(known, match[1]) {
				t.Errorf("%s points to #%s, which the runbook does not have", page, match[1])
			}
		}
	}
	for _, match := range internal.FindAllStringSubmatch(read(t, "docs/runbook.md"), -1) {
		target := "docs/runbook.md"
		if match[1] != "" {
			target = filepath.Join("docs", match[1])
		}
		if !slices.Contains(anchors(t, target), match[2]) {
			t.Errorf("the runbook points to %s, which %s does not have", match[0], target)
		}
	}
}
