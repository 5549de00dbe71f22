package k8sapi

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// mistake is one that the API server must refuse, naming it.
type mistake struct {
	name, overlay, kind, object string
	make                        func(map[string]any)
	names                       string
}

var mistakes = []mistake{
	{"a privileged pod", "production", "Pod", "meterworker", ofContainer(func(c map[string]any) {
		c["securityContext"].(map[string]any)["privileged"] = true
		delete(c["securityContext"].(map[string]any), "allowPrivilegeEscalation")
	}), "violates PodSecurity"},
	{"a pod that may be root", "production", "Pod", "meterworker", func(o map[string]any) {
		delete(at(o, "spec", "securityContext"), "runAsNonRoot")
	}, "runAsNonRoot != true"},
	{"a pod that keeps capabilities", "production", "Pod", "meterworker", ofContainer(func(c map[string]any) {
		delete(c["securityContext"].(map[string]any), "capabilities")
	}), "unrestricted capabilities"},
	{"a pod without seccomp", "production", "Pod", "meterworker", func(o map[string]any) {
		delete(at(o, "spec", "securityContext"), "seccompProfile")
	}, "seccompProfile"},
	{"a pod on the host's network", "production", "Pod", "meterworker", func(o map[string]any) { at(o, "spec")["hostNetwork"] = true }, "host namespaces"},
	{"a privileged sidecar", "dev", "Pod", "meterworker", func(o map[string]any) {
		at(o, "spec")["initContainers"].([]any)[0].(map[string]any)["securityContext"] = map[string]any{"privileged": true}
	}, "violates PodSecurity"},
	{"a privileged NATS", "dev", "Pod", "nats", ofContainer(func(c map[string]any) { c["securityContext"] = map[string]any{"privileged": true} }), "violates PodSecurity"},
	{"10Gib", "production", "Deployment", "meterworker", ofTemplate(func(c map[string]any) { at(c, "resources", "limits")["memory"] = "10Gib" }), "quantit"},
	{"a request above the limit", "production", "Deployment", "meterworker", ofTemplate(func(c map[string]any) { at(c, "resources", "requests")["memory"] = "3Gi" }), "less than or equal to memory limit"},
	{"a port that nobody named", "production", "Deployment", "meterworker", ofTemplate(func(c map[string]any) { at(c, "livenessProbe", "httpGet")["port"] = "a_port" }), "livenessProbe.httpGet.port"},
	{"a sleep beyond the grace period", "production", "Deployment", "meterworker", ofTemplate(func(c map[string]any) { at(c, "lifecycle", "preStop", "sleep")["seconds"] = int64(50) }), "must be non-negative and less than terminationGracePeriodSeconds"},
	{"an unknown field", "production", "Deployment", "meterworker", func(o map[string]any) { at(o, "spec")["minReadySecond"] = int64(1) }, "minReadySecond"},
	{"selectors that miss the pods", "dev", "Deployment", "meterworker", func(o map[string]any) {
		at(o, "spec", "template", "metadata", "labels")["app.kubernetes.io/name"] = "x"
	}, "does not match template"},
	{"no way to roll", "production", "Deployment", "meterworker", func(o map[string]any) { at(o, "spec", "strategy", "rollingUpdate")["maxSurge"] = int64(0) }, "may not be 0 when"},
	{"a budget with both bounds", "production", "PodDisruptionBudget", "meterworker", func(o map[string]any) { at(o, "spec")["minAvailable"] = int64(1) }, "cannot be both set"},
	{"a network outside its own range", "production", "NetworkPolicy", "meterworker", func(o map[string]any) {
		to := at(o, "spec")["egress"].([]any)[2].(map[string]any)["to"].([]any)[1].(map[string]any)
		to["ipBlock"].(map[string]any)["except"] = []any{"10.0.0.0/8"}
	}, "except"},
	{"fewer at most than at least", "production", "ScaledObject", "meterworker", func(o map[string]any) { at(o, "spec")["maxReplicaCount"] = int64(1) }, "minReplicaCount must be less than"},
	{"a fallback that does not exist", "production", "ScaledObject", "meterworker", func(o map[string]any) { at(o, "spec", "fallback")["behavior"] = "hope" }, "Unsupported value"},
	{"a scaler's unknown field", "production", "ScaledObject", "meterworker", func(o map[string]any) { at(o, "spec")["minReplicas"] = int64(1) }, "minReplicas"},
	{"an interval without a unit", "production", "PodMonitor", "meterworker", func(o map[string]any) {
		at(o, "spec")["podMetricsEndpoints"].([]any)[0].(map[string]any)["interval"] = "15"
	}, "interval"},
	{"a policy of deletion that does not exist", "production", "ExternalSecret", "stripe-api-key", func(o map[string]any) { at(o, "spec", "target")["deletionPolicy"] = "Keep" }, "Unsupported value"},
	{"a service that AWS does not have", "production", "SecretStore", "meterworker", func(o map[string]any) { at(o, "spec", "provider", "aws")["service"] = "Secrets" }, "Unsupported value"},
}

// at is the map at a path that the manifests have.
func at(o map[string]any, path ...string) map[string]any {
	for _, name := range path {
		o = o[name].(map[string]any)
	}
	return o
}

func ofContainer(change func(map[string]any)) func(map[string]any) {
	return func(o map[string]any) { change(at(o, "spec")["containers"].([]any)[0].(map[string]any)) }
}

func ofTemplate(change func(map[string]any)) func(map[string]any) {
	return func(o map[string]any) { ofContainer(change)(at(o, "spec", "template")) }
}

// testRefused makes the mistake where everything else has been accepted.
func testRefused(t *testing.T, c *cluster, m mistake) {
	objects := render(t, m.overlay)
	objects = append(objects, podsOf(t, objects)...)
	mistaken := &unstructured.Unstructured{Object: find(t, objects, m.kind, m.object).Object}
	if _, err := c.apply(t, mistaken, "All"); err != nil {
		t.Fatalf("without the mistake: %v", err)
	}
	m.make(mistaken.Object)
	if _, err := c.apply(t, mistaken, "All"); !strings.Contains(refusal(err), m.names) {
		t.Errorf("%v, want a refusal that names %q", err, m.names)
	}
}
