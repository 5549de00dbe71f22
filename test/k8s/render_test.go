package k8s

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

const (
	repository = "../.."
	deploy     = repository + "/deploy/k8s"
)

// manifests are the objects of one rendering: typed where Kubernetes itself knows the
// kind, unstructured where an operator does.
type manifests struct {
	objects []runtime.Object
}

func (m *manifests) clone() *manifests {
	c := &manifests{}
	for _, o := range m.objects {
		c.objects = append(c.objects, o.DeepCopyObject())
	}
	return c
}

// all are the objects of one type.
func all[T runtime.Object](m *manifests) []T {
	var found []T
	for _, o := range m.objects {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// named is the object of one type and name, nil if there is none.
func named[T runtime.Object](m *manifests, name string) (found T) {
	for _, o := range all[T](m) {
		if metadata(o).GetName() == name {
			return o
		}
	}
	return found
}

// custom are the custom resources of one kind.
func custom(m *manifests, kind string) []*unstructured.Unstructured {
	return slices.DeleteFunc(all[*unstructured.Unstructured](m), func(u *unstructured.Unstructured) bool { return u.GetKind() != kind })
}

func metadata(o runtime.Object) metav1.Object {
	accessor, err := meta.Accessor(o)
	if err != nil {
		panic(err) // everything that is rendered has metadata
	}
	return accessor
}

// describe names an object in messages.
func describe(o runtime.Object) string {
	return o.GetObjectKind().GroupVersionKind().Kind + " " + metadata(o).GetName()
}

// renderFolder renders as `kubectl kustomize` does, with its restrictions.
func renderFolder(t *testing.T, folder string) []byte {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("render %s: %v", folder, err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// render renders and decodes an overlay.
func render(t *testing.T, overlay string) *manifests {
	t.Helper()
	return decode(t, renderFolder(t, filepath.Join(deploy, "overlays", overlay)))
}

func decode(t *testing.T, text []byte) *manifests {
	t.Helper()
	m := &manifests{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return m
		}
		if err != nil {
			t.Fatal(err)
		}
		object, err := decodeOne(document)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		m.objects = append(m.objects, object)
	}
}

var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// decodeOne refuses unknown and doubled fields.
func decodeOne(document []byte) (runtime.Object, error) {
	object, _, err := strict.Decode(document, nil, nil)
	if !runtime.IsNotRegisteredError(err) {
		return object, err
	}
	text, err := sigsyaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return u, checkCustom(u)
}

// overlays are the folders below overlays/: a new one is tested without being named here.
func overlays(t *testing.T) []string { return folders(t, "overlays") }

func folders(t *testing.T, of string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(deploy, of))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if len(names) == 0 {
		t.Fatalf("there are no %s", of)
	}
	return names
}
