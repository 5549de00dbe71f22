package k8sapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const overlaysFolder = "../../deploy/k8s/overlays"

func overlays(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(overlaysFolder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// render is what `kubectl kustomize` prints.
func render(t *testing.T, overlay string) []*unstructured.Unstructured {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(overlaysFolder, overlay))
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, text)
}

func documents(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var found []*unstructured.Unstructured
	for {
		u := &unstructured.Unstructured{}
		switch err := decoder.Decode(u); {
		case errors.Is(err, io.EOF):
			return found
		case err != nil:
			t.Fatal(err)
		case len(u.Object) > 0:
			found = append(found, u)
		}
	}
}

// find is the object of a kind and name.
func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, u := range objects {
		if u.GetKind() == kind && u.GetName() == name {
			return u
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// definitions are the custom resources of the operators' releases. The sums are those that go.sum
// would have: the modules are downloaded, not imported.
var definitions = []struct {
	module, sum string
	files       []string
}{
	{"github.com/kedacore/keda/v2@v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=", []string{
		"config/crd/bases/keda.sh_scaledobjects.yaml",
	}},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", []string{
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	}},
	{"github.com/external-secrets/external-secrets@v1.3.2", "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=", []string{
		"config/crds/bases/external-secrets.io_externalsecrets.yaml",
		"config/crds/bases/external-secrets.io_secretstores.yaml",
	}},
}

func install(t *testing.T, c *cluster) {
	t.Helper()
	for _, d := range definitions {
		folder := module(t, d.module, d.sum)
		for _, file := range d.files {
			text, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, definition := range documents(t, text) {
				c.define(t, definition)
			}
		}
	}
}

// module is where Go keeps the module; it is downloaded if need be.
func module(t *testing.T, name, sum string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", name).Output()
	var got struct{ Dir, Sum, Error string }
	if decoding := json.Unmarshal(out, &got); decoding != nil {
		t.Fatalf("go mod download %s: %v, %v", name, err, decoding)
	}
	if got.Sum != sum {
		t.Fatalf("go mod download %s: sum %s, want %s %s", name, got.Sum, sum, got.Error)
	}
	return got.Dir
}
