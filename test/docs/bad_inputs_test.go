package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meterworker/meterworker/usage/usagetest"
)

// badInputs is how many rows each section of the page has: a row that goes takes its
// promise with it.
var badInputs = map[string]int{"Messages": 40, "Headers": 15, "Stripe's replies": 25, "Configuration": 23, "Commands": 18, "Webhooks": 7, "Console": 20}

// badInput is one row of the page: an input, what is to come of it, and what shows it.
type badInput struct {
	section, input, expectation string
	shownBy                     []string // the code in the last column
	cases                       bool     // they are cases of the corpus, not tests
}

func readBadInputs(t *testing.T) []badInput {
	t.Helper()
	code := regexp.MustCompile("`([^`]+)`")
	var rows []badInput
	section, cases := "", false
	for line := range strings.Lines(page(t, "docs/bad-inputs.md")) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		switch {
		case !strings.HasPrefix(line, "| ") || len(cells) != 3:
			continue
		case strings.TrimSpace(cells[0]) == "input":
			cases = strings.Contains(cells[2], "cases")
			continue
		}
		row := badInput{section: section, input: strings.TrimSpace(cells[0]), expectation: strings.Trim(cells[1], " `"), cases: cases}
		for _, match := range code.FindAllStringSubmatch(cells[2], -1) {
			row.shownBy = append(row.shownBy, match[1])
		}
		rows = append(rows, row)
	}
	return rows
}

func TestEveryBadInputIsShown(t *testing.T) {
	now := time.Now()
	corpus := map[string]string{}
	for _, c := range append(usagetest.Cases(now), usagetest.EdgeOfWindow(now)...) {
		corpus[c.Name] = c.Reason
		if c.Reason == "" {
			corpus[c.Name] = "delivered"
		}
	}
	sources := testSources(t)
	counted := map[string]int{}
	for _, row := range readBadInputs(t) {
		counted[row.section]++
		if len(row.shownBy) == 0 {
			t.Errorf("%s: %s is shown by nothing", row.section, row.input)
		}
		for _, name := range row.shownBy {
			reason, found := corpus[name]
			switch {
			case !row.cases:
				checkTest(t, row, name, sources)
			case !found:
				t.Errorf("%s: %s: the corpus has no case %q", row.section, row.input, name)
			case reason != row.expectation:
				t.Errorf("%s: %s: case %q is %s, the page says %s", row.section, row.input, name, reason, row.expectation)
			}
		}
	}
	for section, want := range badInputs {
		if counted[section] != want {
			t.Errorf("%s: %d rows, want %d", section, counted[section], want)
		}
	}
}

// checkTest wants the test to exist, and where a row of its table is named, that its file
// has that name in quotes.
func checkTest(t *testing.T, row badInput, name string, sources map[string]string) {
	t.Helper()
	test, part, named := strings.Cut(name, "/")
	source, found := sources[test]
	if !found {
		t.Errorf("%s: %s: there is no %s", row.section, row.input, test)
	} else if named && !strings.Contains(source, `"`+part+`"`) {
		t.Errorf("%s: %s: %s has no row %q", row.section, row.input, test, part)
	}
}

// testSources are the files of all tests of the repository, by the test's name.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	sources := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range declaration.FindAllStringSubmatch(string(text), -1) {
			sources[match[1]] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}
