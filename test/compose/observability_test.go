package compose

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

func TestPrometheusScrapesEveryWorker(t *testing.T) {
	var config struct {
		Global struct {
			ScrapeInterval     string `yaml:"scrape_interval"`
			EvaluationInterval string `yaml:"evaluation_interval"`
		} `yaml:"global"`
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "deploy/prometheus/prometheus.compose.yml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	// The files of rules are where Prometheus looks for them.
	for _, rules := range config.RuleFiles {
		if !slices.ContainsFunc(all(t).Services["prometheus"].Volumes, func(m types.ServiceVolumeConfig) bool { return m.Target == rules }) {
			t.Errorf("%s is not mounted", rules)
		}
	}
	if len(config.RuleFiles) == 0 {
		t.Error("no alerts")
	}
	var targets, want []string
	for _, scrape := range config.ScrapeConfigs {
		for _, static := range scrape.StaticConfigs {
			targets = append(targets, static.Targets...)
		}
	}
	project := all(t)
	for _, name := range workers {
		_, port, _ := strings.Cut(value(project.Services[name], "METERWORKER_ADMIN_ADDR"), ":")
		want = append(want, name+":"+port)
	}
	if !slices.Equal(targets, want) {
		t.Errorf("scraped %q, want %q", targets, want)
	}
	if datasource := read(t, "deploy/grafana/provisioning/datasources/prometheus.yaml"); !strings.Contains(datasource, "timeInterval: "+config.Global.ScrapeInterval+" ") {
		t.Errorf("Grafana thinks of another interval than %s", config.Global.ScrapeInterval)
	}
}

func TestGrafanaFindsItsFiles(t *testing.T) {
	project := all(t)
	mounted := map[string]string{}
	for _, m := range project.Services["grafana"].Volumes {
		mounted[m.Target] = m.Source
	}
	home := value(project.Services["grafana"], "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH")
	if filepath.Base(mounted[home]) != "meterworker.json" {
		t.Errorf("nothing at %s", home)
	}
	if provider := read(t, "deploy/grafana/provisioning/dashboards/meterworker.yaml"); !strings.Contains(provider, "path: "+filepath.Dir(home)+"\n") {
		t.Errorf("dashboards are not looked for at %s", filepath.Dir(home))
	}
	if source := read(t, "deploy/grafana/provisioning/datasources/prometheus.yaml"); !strings.Contains(source, "url: http://prometheus:9090\n") {
		t.Error("the data source is not the service")
	}
}

// dashboard is what we check of Grafana's model.
type dashboard struct {
	UID    string `json:"uid"`
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

var metricRow = regexp.MustCompile("(?m)^\\| `(meterworker_[a-z_]+)` \\| (.*?) \\|")

// metrics are those of docs/metrics.md, each with its labels.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	known := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		known[row[1]] = nil
		for label := range strings.SplitSeq(row[2], ",") {
			if label = strings.Trim(label, " `"); label != "" {
				known[row[1]] = append(known[row[1]], label)
			}
		}
	}
	if len(known) < 20 || !slices.Equal(known["meterworker_units_total"], []string{"event_name", "disposition"}) {
		t.Fatalf("docs/metrics.md is not what it was: %v", known)
	}
	return known
}

func TestDashboard(t *testing.T) {
	var board dashboard
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/meterworker.json")), &board); err != nil {
		t.Fatal(err)
	}
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, panel := range board.Panels {
		if ids[panel.ID] || panel.Title == "" || (panel.Type != "row" && len(panel.Targets) == 0) {
			t.Errorf("panel %d %q", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			for name := range checkQuery(t, panel.Title, target.Expr, metrics(t)) {
				shown[name] = true
			}
		}
	}
	for _, name := range []string{
		"meterworker_outbox_pending", "meterworker_outbox_oldest_seconds", "meterworker_settled_total", "meterworker_rate_limit",
		"meterworker_permits_total", "meterworker_breaker_state", "meterworker_dlq_messages", "meterworker_dead_letters_total",
		"meterworker_delivery_seconds", "meterworker_stripe_request_seconds", "meterworker_partitions_owned",
	} {
		if !shown[name] {
			t.Errorf("%s is not shown", name)
		}
	}
}

// checkQuery returns the metrics of a query, after Grafana's variables have their values.
func checkQuery(t *testing.T, panel, query string, known map[string][]string) map[string]bool {
	t.Helper()
	text := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+").Replace(query)
	expr, err := parser.ParseExpr(text)
	if err != nil || strings.Contains(text, "$") {
		t.Errorf("%s: %q: %v", panel, query, err)
		return nil
	}
	found := map[string]bool{}
	used := map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			found[strings.TrimSuffix(n.Name, "_bucket")] = true
			for _, m := range n.LabelMatchers {
				used[m.Name] = true
			}
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				used[label] = true
			}
		}
		return nil
	})
	allowed := []string{"__name__", "job", "instance", "le"}
	for name := range found {
		if _, ok := known[name]; !ok && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s: %s is not in docs/metrics.md", panel, name)
		}
		allowed = append(allowed, known[name]...)
	}
	for label := range maps.Keys(used) {
		if !slices.Contains(allowed, label) {
			t.Errorf("%s: no metric of %q has the label %s", panel, query, label)
		}
	}
	if len(found) == 0 {
		t.Errorf("%s: %q asks for nothing", panel, query)
	}
	return found
}
