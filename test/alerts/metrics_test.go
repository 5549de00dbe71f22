package alerts

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/meterworker/meterworker/internal/metrics"
)

var metricRow = regexp.MustCompile("(?m)^\\| `(meterworker_[a-z_]+)` \\|([^|]*)\\|")

// documented are the metrics of docs/metrics.md with their labels. A test of that page holds
// it to the program; here the registry is asked as well, for what it shows without traffic.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	known := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		known[row[1]] = []string{}
		for label := range strings.SplitSeq(row[2], ",") {
			if label = strings.Trim(label, " `"); label != "" {
				known[row[1]] = append(known[row[1]], label)
			}
		}
	}
	return known
}

var gathered = sync.OnceValues(func() (map[string][]string, error) {
	set := metrics.New(metrics.Labels{Reasons: []string{"x"}, Classes: []string{"x"}, BreakerStates: []string{"x"}, LookupResults: []string{"x"}, WebhookResults: []string{"x"}})
	set.Units("x", "delivered", 1)
	set.Expiring(map[string]float64{"x": 1})
	set.StreamBytes.WithLabelValues("x")
	set.StreamMaxBytes.WithLabelValues("x")
	set.Ready.WithLabelValues("x")
	families, err := set.Registry.Gather()
	known := map[string][]string{}
	for _, family := range families {
		labels := []string{}
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		known[family.GetName()] = labels
	}
	return known, err
})

// registered are the program's metrics with their labels, Go's own included.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	known, err := gathered()
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func TestLabelsAreAsDocumented(t *testing.T) {
	known := registered(t)
	for name, labels := range documented(t) {
		have, exists := known[name]
		if !exists {
			continue // shown after the first traffic; the page's own test knows it
		}
		slices.Sort(labels)
		slices.Sort(have)
		if !slices.Equal(labels, have) {
			t.Errorf("%s has the labels %q, documented are %q", name, have, labels)
		}
	}
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr  string `json:"expr"`
		RefID string `json:"refId"`
	} `json:"targets"`
}

// rows are what the dashboard answers, in this order.
var rows = []string{
	"Is billing running?", "Backlog and age", "Rate and 429s", "Latency", "Outcomes and units", "Breaker", "Members and partitions",
	"Dead letters by reason", "Asynchronous rejections", "Ledger and streams", "Process",
}

// Every query of the dashboard parses and asks for what exists; every metric of ours is
// shown; panels do not cover each other.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/meterworker.json")), &board); err != nil {
		t.Fatal(err)
	}
	var titles []string
	shown := map[string]bool{}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+")
	for i, p := range board.Panels {
		if p.Type == "row" {
			titles = append(titles, p.Title)
		}
		for _, target := range p.Targets {
			judge(t, p.Title, variables.Replace(target.Expr))
			names, _ := parse(t, p.Title, variables.Replace(target.Expr))
			for _, name := range names {
				shown[strings.TrimSuffix(name, "_bucket")] = true
			}
		}
		for _, other := range board.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%q covers %q", p.Title, other.Title)
			}
		}
	}
	if !slices.Equal(titles, rows) {
		t.Errorf("rows %q, want %q", titles, rows)
	}
	for name := range documented(t) {
		if !shown[name] {
			t.Errorf("%s is not shown", name)
		}
	}
}
