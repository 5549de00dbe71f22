package k8s

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func rollsGoOneByOne(m *manifests) []string {
	d, _ := worker(m)
	roll := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || roll == nil || roll.MaxUnavailable == nil || roll.MaxSurge == nil {
		return []string{"the strategy is not spelled out"}
	}
	return slices.Concat(
		when(*roll.MaxUnavailable != intstr.FromInt32(0), "a roll takes workers away: maxUnavailable %v", roll.MaxUnavailable),
		when(*roll.MaxSurge != intstr.FromInt32(1), "several hand over at once: maxSurge %v", roll.MaxSurge),
		when(d.Spec.MinReadySeconds < 10, "the next step begins %d s after a worker was ready", d.Spec.MinReadySeconds),
		when(d.Spec.RevisionHistoryLimit == nil || *d.Spec.RevisionHistoryLimit < 2, "nothing to roll back to"),
	)
}

func workersSpread(m *manifests) []string {
	d, _ := worker(m)
	var keys, problems []string
	for _, constraint := range d.Spec.Template.Spec.TopologySpreadConstraints {
		keys = append(keys, constraint.TopologyKey)
		problems = slices.Concat(
			problems,
			when(!meets(constraint.LabelSelector, d.Spec.Template.Labels), "the constraint on %s counts other pods", constraint.TopologyKey),
			when(constraint.WhenUnsatisfiable != corev1.ScheduleAnyway, "%s may keep a worker from running", constraint.TopologyKey),
		)
	}
	want := []string{corev1.LabelTopologyZone, corev1.LabelHostname}
	return append(problems, when(!slices.Equal(keys, want), "spread over %v, want %v", keys, want)...)
}

// somebodySetsTheReplicas: the scaler or the manifest, and never both.
func somebodySetsTheReplicas(m *manifests) []string {
	d, _ := worker(m)
	scaled := false
	for _, s := range custom(m, "ScaledObject") {
		target, _, _ := unstructured.NestedString(s.Object, "spec", "scaleTargetRef", "name")
		scaled = scaled || target == d.Name
	}
	return slices.Concat(
		when(scaled && d.Spec.Replicas != nil, "every apply undoes what the scaler did"),
		when(!scaled && d.Spec.Replicas == nil, "nothing sets the number of workers"),
	)
}

func disruptionsGoOneByOne(m *manifests) []string {
	budget := named[*policyv1.PodDisruptionBudget](m, "meterworker")
	if budget == nil {
		return []string{"there is no budget"}
	}
	always := budget.Spec.UnhealthyPodEvictionPolicy
	return slices.Concat(
		when((budget.Spec.MinAvailable == nil) == (budget.Spec.MaxUnavailable == nil), "a budget has one bound"),
		when(budget.Spec.MaxUnavailable == nil || *budget.Spec.MaxUnavailable != intstr.FromInt32(1), "maxUnavailable %v", budget.Spec.MaxUnavailable),
		when(always == nil || *always != policyv1.AlwaysAllow, "a halted worker holds up the drain of its node"),
	)
}

// selectorsMeetOneWorkload: whatever selects pods selects those of one workload.
func selectorsMeetOneWorkload(m *manifests) []string {
	var problems []string
	check := func(who string, selector map[string]string) {
		var met []string
		for _, w := range workloads(m) {
			if len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(w.template.Labels)) {
				met = append(met, w.name)
			}
		}
		problems = append(problems, when(len(met) != 1, "%s selects the pods of %v", who, met)...)
	}
	for _, w := range workloads(m) {
		check(w.name, w.selector)
	}
	for _, s := range all[*corev1.Service](m) {
		check(describe(s), s.Spec.Selector)
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](m) {
		check(describe(b), b.Spec.Selector.MatchLabels)
	}
	for _, p := range all[*networkingv1.NetworkPolicy](m) {
		if p.Name != defaultDeny {
			check(describe(p), p.Spec.PodSelector.MatchLabels)
		}
	}
	for _, p := range custom(m, "PodMonitor") {
		selector, _, _ := unstructured.NestedStringMap(p.Object, "spec", "selector", "matchLabels")
		check(describe(p), selector)
	}
	return problems
}

func meets(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(set))
}

func everythingIsLabelled(m *manifests) []string {
	var problems []string
	for _, o := range m.objects {
		keys := []string{"app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of"}
		if _, ok := o.(*corev1.Namespace); ok {
			keys = keys[2:]
		}
		for _, key := range keys {
			problems = append(problems, when(metadata(o).GetLabels()[key] == "", "%s has no label %s", describe(o), key)...)
		}
	}
	return problems
}

func namespaceIsRestricted(m *manifests) []string {
	namespaces := all[*corev1.Namespace](m)
	if len(namespaces) != 1 {
		return []string{"an overlay has one namespace"}
	}
	namespace := namespaces[0]
	problems := when(namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted", "the namespace admits any pod")
	for _, o := range m.objects {
		if o != namespace {
			problems = append(problems, when(metadata(o).GetNamespace() != namespace.Name, "%s is in %q", describe(o), metadata(o).GetNamespace())...)
		}
	}
	return problems
}

// natsServerIsOneAndSafe looks at the server itself; nats_test.go at its configuration.
func natsServerIsOneAndSafe(m *manifests) []string {
	server := named[*appsv1.StatefulSet](m, "nats")
	if server == nil {
		return when(strings.Contains(settings(m)["NATS_URL"], "//nats:"), "NATS_URL names a server that is not there")
	}
	return slices.Concat(
		when(server.Spec.Replicas == nil || *server.Spec.Replicas != 1, "each server would have streams of its own"),
		when(len(server.Spec.VolumeClaimTemplates) != 1, "the store is not on a claim"),
		when(settings(m)["METERWORKER_STREAM_REPLICAS"] > "1", "one server cannot hold several copies"),
	)
}
