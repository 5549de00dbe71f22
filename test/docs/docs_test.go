// Package docs holds the pages of docs/ against the code.
package docs

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/metrics"
)

const root = "../.."

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstColumn is the code in the first column of every table row.
func firstColumn(text string) []string {
	var names []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	return names
}

func same(t *testing.T, what string, documented, existing []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(existing)
	for _, name := range documented {
		if !slices.Contains(existing, name) {
			t.Errorf("%s %s is documented and does not exist", what, name)
		}
	}
	for _, name := range existing {
		if !slices.Contains(documented, name) {
			t.Errorf("%s %s exists and is not documented", what, name)
		}
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	set := metrics.New(metrics.Labels{
		Reasons: []string{"x"}, Classes: []string{"x"}, BreakerStates: []string{"x"}, LookupResults: []string{"x"},
		WebhookResults: []string{"x"},
	})
	set.Units("x", "delivered", 1)
	set.Expiring(map[string]float64{"x": 1})
	set.StreamBytes.WithLabelValues("x")
	set.StreamMaxBytes.WithLabelValues("x")
	set.Ready.WithLabelValues("x")
	families, err := set.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var existing []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "meterworker_") {
			existing = append(existing, family.GetName())
		}
	}
	same(t, "metric", firstColumn(page(t, "docs/metrics.md")), existing)
}

func TestEveryReasonIsInTheRunbook(t *testing.T) {
	var existing []string
	for _, reason := range deadletter.Reasons() {
		existing = append(existing, string(reason))
	}
	_, section, ok := strings.Cut(page(t, "docs/runbook.md"), "## Dead letters arrive")
	if !ok {
		t.Fatal("the runbook has no section on dead letters")
	}
	same(t, "reason", firstColumn(section), existing)
}

func TestEveryBreakerStateIsInTheRunbook(t *testing.T) {
	_, section, ok := strings.Cut(page(t, "docs/runbook.md"), "## The breaker is not closed")
	section, _, more := strings.Cut(section, "\n## ")
	if !ok || !more {
		t.Fatal("the runbook has no section on the breaker, or it is the last one")
	}
	same(t, "state", firstColumn(section), delivery.States())
}

// tests are the names of all test functions of the repository.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for name := range testSources(t) {
		names[name] = true
	}
	return names
}

func TestEveryInvariantNamesTestsThatExist(t *testing.T) {
	known := tests(t)
	rows := regexp.MustCompile(`(?m)^\| (I\d+) \|(.*)\|$`).FindAllStringSubmatch(page(t, "docs/invariants.md"), -1)
	if len(rows) == 0 {
		t.Fatal("no invariants found")
	}
	for _, row := range rows {
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w*)`").FindAllStringSubmatch(row[2], -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", row[1])
		}
		for _, name := range named {
			if !known[name[1]] {
				t.Errorf("%s names %s, which does not exist; there are %d tests", row[1], name[1], len(slices.Collect(maps.Keys(known))))
			}
		}
	}
}

// Links between the pages, and from the README, lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, path := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), match[1])); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(path), match[1], err)
			}
		}
	}
}
