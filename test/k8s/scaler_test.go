package k8s

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// scaler is what a ScaledObject asks, and what it makes of the answers.
type scaler struct {
	least, most int64
	fallback    int64
	behavior    string
	namespace   string
	asks        []ask
}

// ask is one trigger.
type ask struct {
	name, query, null, kind string
	threshold               float64
}

func scalerOf(u *unstructured.Unstructured) scaler {
	s := scaler{namespace: u.GetNamespace()}
	s.least, _, _ = unstructured.NestedInt64(u.Object, "spec", "minReplicaCount")
	s.most, _, _ = unstructured.NestedInt64(u.Object, "spec", "maxReplicaCount")
	s.fallback, _, _ = unstructured.NestedInt64(u.Object, "spec", "fallback", "replicas")
	s.behavior, _, _ = unstructured.NestedString(u.Object, "spec", "fallback", "behavior")
	triggers, _, _ := unstructured.NestedSlice(u.Object, "spec", "triggers")
	for _, trigger := range triggers {
		name, _, _ := unstructured.NestedString(trigger.(map[string]any), "name")
		kind, _, _ := unstructured.NestedString(trigger.(map[string]any), "metricType")
		metadata, _, _ := unstructured.NestedStringMap(trigger.(map[string]any), "metadata")
		threshold, _ := strconv.ParseFloat(metadata["threshold"], 64)
		s.asks = append(s.asks, ask{name, metadata["query"], metadata["ignoreNullValues"], kind, threshold})
	}
	return s
}

func scalerStaysInBounds(m *manifests) []string {
	const partitions = 24 // METERWORKER_PARTITIONS' default, which no overlay changes
	var problems []string
	for _, u := range custom(m, "ScaledObject") {
		s := scalerOf(u)
		window, _, _ := unstructured.NestedInt64(u.Object, "spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown", "stabilizationWindowSeconds")
		problems = slices.Concat(
			problems,
			when(s.least < 2, "%d workers are left", s.least),
			when(s.most < s.least || partitions%max(1, s.most) != 0 || partitions%max(1, s.least) != 0, "%d to %d workers do not share %d partitions evenly", s.least, s.most, partitions),
			when(s.fallback < s.least || s.fallback > s.most || s.behavior != "currentReplicasIfHigher", "without Prometheus: %d, %s", s.fallback, s.behavior),
			when(window < 300, "scales in after %d s", window),
			when(settings(m)["METERWORKER_PARTITIONS"] != "", "another number of partitions than the scaler reckons with"),
			when(len(s.asks) != 2, "asks %d times", len(s.asks)),
		)
		for _, a := range s.asks {
			ledger := float64(sizeOf(settings(m)["METERWORKER_LEDGER_MAX_BYTES"]))
			problems = slices.Concat(
				problems,
				when(a.null != "false", "%s: no workers to be seen pass for nothing to do", a.name),
				when(a.kind != "AverageValue" || a.threshold < 1, "%s: %s of %v", a.name, a.kind, a.threshold),
				when(a.name == "ledger" && a.threshold != ledger/2, "%.0f bytes of ledger a worker, half of the limit is %.0f", a.threshold, ledger/2),
			)
		}
	}
	return problems
}

func scalerAsksForMetricsThatExist(m *manifests) []string {
	var problems []string
	for _, u := range custom(m, "ScaledObject") {
		s := scalerOf(u)
		for _, a := range s.asks {
			problems = append(problems, wrongMetrics(a.query, s.namespace)...)
		}
	}
	return problems
}

func wrongMetrics(query, namespace string) []string {
	expression, err := parser.ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	known := documented("metrics.md")
	var problems []string
	asked := 0
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		asked++
		problems = slices.Concat(
			problems,
			when(!slices.Contains(known, selector.Name), "%s does not exist", selector.Name),
			when(!strings.Contains(selector.String(), `namespace="`+namespace+`"`), "%s counts other installations", selector),
		)
		return nil
	})
	return append(problems, when(asked == 0, "%q asks for nothing", query)...)
}
