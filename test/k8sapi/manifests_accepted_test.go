package k8sapi

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// TestManifests is one test, since starting the server is what takes the time.
func TestManifests(t *testing.T) {
	c := newCluster(t)
	install(t, c)
	c.warned() // of the operators' definitions
	for _, overlay := range overlays(t) {
		t.Run("accepted/"+overlay, func(t *testing.T) { testAccepted(t, c, overlay) })
	}
	t.Run("scaled", func(t *testing.T) { testScaled(t, c) })
	for _, m := range mistakes {
		t.Run("refused/"+m.name, func(t *testing.T) { testRefused(t, c, m) })
	}
}

// testAccepted applies the overlay, twice: the second time changes nothing.
func testAccepted(t *testing.T, c *cluster, overlay string) {
	objects := render(t, overlay)
	versions := map[string]string{}
	for range 2 {
		for _, u := range objects {
			stored, err := c.apply(t, u)
			if err != nil {
				t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
				continue
			}
			key := u.GetKind() + " " + u.GetName()
			if before := versions[key]; before != "" && before != stored.GetResourceVersion() {
				t.Errorf("%s changes when it is applied again", key)
			}
			versions[key] = stored.GetResourceVersion()
		}
	}
	pods := podsOf(t, objects)
	if len(pods) == 0 {
		t.Error("nothing makes pods")
	}
	for _, pod := range pods {
		if _, err := c.apply(t, pod, "All"); err != nil {
			t.Errorf("pod of %s: %v", pod.GetName(), err)
		}
	}
	if warnings := c.warned(); len(warnings) > 0 {
		t.Errorf("warned:\n%s", strings.Join(warnings, "\n"))
	}
}

// podsOf are the pods that the workloads would make: pod security judges pods, and only
// warns of what makes them.
func podsOf(t *testing.T, objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	t.Helper()
	var pods []*unstructured.Unstructured
	for _, u := range objects {
		template, found, err := unstructured.NestedMap(u.Object, "spec", "template")
		if err != nil {
			t.Fatal(err)
		}
		if !found || (u.GetKind() != "Deployment" && u.GetKind() != "StatefulSet") {
			continue
		}
		claimed(t, u, template)
		pod := &unstructured.Unstructured{Object: template}
		pod.SetAPIVersion("v1")
		pod.SetKind("Pod")
		pod.SetName(u.GetName())
		pod.SetNamespace(u.GetNamespace())
		pods = append(pods, pod)
	}
	return pods
}

// claimed adds the volumes that the claims of a StatefulSet become.
func claimed(t *testing.T, set *unstructured.Unstructured, template map[string]any) {
	t.Helper()
	claims, _, err := unstructured.NestedSlice(set.Object, "spec", "volumeClaimTemplates")
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range claims {
		name := at(claim.(map[string]any), "metadata")["name"]
		volume := map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name}}
		at(template, "spec")["volumes"] = append(at(template, "spec")["volumes"].([]any), volume)
	}
}

// testScaled: what the scaler did survives the next apply, which is why the base has
// no number of replicas.
func testScaled(t *testing.T, c *cluster) {
	deployment := find(t, render(t, "production"), "Deployment", "meterworker")
	workers, err := c.of(deployment)
	if err != nil {
		t.Fatal(err)
	}
	_, err = workers.Patch(t.Context(), deployment.GetName(), types.MergePatchType, []byte(`{"spec":{"replicas":4}}`),
		metav1.PatchOptions{FieldManager: "scaler"}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := c.apply(t, deployment)
	if err != nil {
		t.Fatal(err)
	}
	if replicas, _, _ := unstructured.NestedInt64(stored.Object, "spec", "replicas"); replicas != 4 {
		t.Errorf("an apply leaves %d of 4 workers", replicas)
	}
}
