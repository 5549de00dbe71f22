package k8s

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every overlay renders, and every document of it is what its kind allows.
func TestOverlaysDecodeStrictly(t *testing.T) {
	for _, overlay := range overlays(t) {
		t.Run(overlay, func(t *testing.T) {
			if m := render(t, overlay); len(m.objects) < 8 {
				t.Errorf("%d objects", len(m.objects))
			}
		})
	}
}

// Every component goes onto the base by itself, and adds what it is for.
func TestComponentsDecodeStrictly(t *testing.T) {
	want := map[string][]string{
		"keda":             {"ScaledObject"},
		"podmonitor":       {"PodMonitor", "PrometheusRule"},
		"external-secrets": {"ServiceAccount", "SecretStore", "ExternalSecret", "ExternalSecret", "ExternalSecret"},
		"webhooks":         {},
		"nats":             {"ServiceAccount", "StatefulSet", "Service", "NetworkPolicy", "ConfigMap"},
	}
	if found := folders(t, "components"); !slices.Equal(slices.Sorted(maps.Keys(want)), found) {
		t.Fatalf("components %v, tested are %v", found, slices.Sorted(maps.Keys(want)))
	}
	base := kinds(renderWith(t))
	for component, kindsWanted := range want {
		t.Run(component, func(t *testing.T) {
			got := kinds(renderWith(t, component))
			for _, kind := range append(slices.Clone(base), kindsWanted...) {
				i := slices.Index(got, kind)
				if i < 0 {
					t.Fatalf("a %s is missing", kind)
				}
				got = slices.Delete(got, i, i+1)
			}
			if len(got) > 0 {
				t.Errorf("unexpected: %v", got)
			}
		})
	}
}

// renderWith renders the base with components, from a kustomization of its own.
func renderWith(t *testing.T, components ...string) *manifests {
	t.Helper()
	folder := t.TempDir()
	absolute, err := filepath.Abs(deploy)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(folder, absolute) // kustomize takes no absolute paths
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + relative + "/base]\ncomponents:\n"
	for _, component := range components {
		text += fmt.Sprintf("  - %s/components/%s\n", relative, component)
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return decode(t, renderFolder(t, folder))
}

func kinds(m *manifests) []string {
	var names []string
	for _, o := range m.objects {
		names = append(names, o.GetObjectKind().GroupVersionKind().Kind)
	}
	return names
}

// What strict decoding is for: each of these would be dropped in silence otherwise.
func TestMistakesAreRefused(t *testing.T) {
	tests := []struct{ overlay, old, mistake, message string }{
		{"production", "minReadySeconds:", "minReadySecond:", `unknown field "spec.minReadySecond"`},
		{"production", "maxUnavailable: 1", "maxUnavailable: 1\n  maxUnavailable: 2", "already set"},
		{"production", "memory: 2Gi", "memory: 10Gib", "quantities must match"},
		{"production", "unhealthyPodEvictionPolicy", "unhealthyPodEviction", "unknown field"},
		{"production", "minReplicaCount: 2", "minReplicas: 2", "unknown field spec.minReplicas"},
		{"production", "behavior: currentReplicasIfHigher", "behavior: hope", "Unsupported value"},
		{"production", "refreshInterval: 5m", "refresh: 5m", "unknown field spec.refresh"},
		{"production", "creationPolicy: Owner", "creationPolicy: Perhaps", "Unsupported value"},
		{"production", "service: SecretsManager", "service: Secrets", "Unsupported value"},
		{"production", "podMetricsEndpoints:", "podMetricEndpoints:", "unknown field spec.podMetricEndpoints"},
		{"production", "kind: PodMonitor", "kind: PodMonitors", "neither a kind"},
		{"dev", "serviceName: nats", "servicename: nats", "unknown field"},
	}
	for _, tt := range tests {
		t.Run(tt.mistake, func(t *testing.T) {
			text := string(renderFolder(t, filepath.Join(deploy, "overlays", tt.overlay)))
			if !strings.Contains(text, tt.old) {
				t.Fatalf("%s has no %q", tt.overlay, tt.old)
			}
			if err := decodeAll(strings.Replace(text, tt.old, tt.mistake, 1)); err == nil || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("%v, want %q", err, tt.message)
			}
		})
	}
}

func decodeAll(text string) error {
	for document := range strings.SplitSeq(text, "\n---\n") {
		if _, err := decodeOne([]byte(document)); err != nil {
			return err
		}
	}
	return nil
}
