package k8s

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// definitions are the custom resources that we use, in the releases of the operators
// that we say we work with. The sums are those of go.sum: the module is downloaded, not
// imported, since the operators' code would pull in half the world.
var definitions = []struct{ module, sum, file string }{
	{
		"github.com/kedacore/keda/v2@v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
		"config/crd/bases/keda.sh_scaledobjects.yaml",
	},
	{
		"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
	},
	{
		"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	},
	{
		"github.com/external-secrets/external-secrets@v1.3.2", "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
		"config/crds/bases/external-secrets.io_externalsecrets.yaml",
	},
	{
		"github.com/external-secrets/external-secrets@v1.3.2", "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
		"config/crds/bases/external-secrets.io_secretstores.yaml",
	},
}

// checkCustom holds a custom resource against the schema of its definition: unknown
// fields, types, enumerations, bounds.
func checkCustom(u *unstructured.Unstructured) error {
	schemas, err := customSchemas()
	if err != nil {
		return err
	}
	known, ok := schemas[u.GroupVersionKind()]
	if !ok {
		return fmt.Errorf("%s is neither a kind of Kubernetes nor of a definition in crds_test.go", u.GroupVersionKind())
	}
	return known.check(u)
}

type customSchema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
}

func (s customSchema) check(u *unstructured.Unstructured) error {
	unknown := pruning.PruneWithOptions(u.DeepCopy().Object, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	var problems []error
	for _, path := range unknown {
		problems = append(problems, fmt.Errorf("%s %s: unknown field %s", u.GetKind(), u.GetName(), path))
	}
	return errors.Join(append(problems, validation.ValidateCustomResource(nil, u.Object, s.validator).ToAggregate())...)
}

var customSchemas = sync.OnceValues(func() (map[schema.GroupVersionKind]customSchema, error) {
	schemas := map[schema.GroupVersionKind]customSchema{}
	for _, d := range definitions {
		dir, err := moduleFolder(d.module, d.sum)
		if err == nil {
			err = readDefinition(filepath.Join(dir, d.file), schemas)
		}
		if err != nil {
			return nil, err
		}
	}
	return schemas, nil
})

// moduleFolder is where Go keeps the module; it is downloaded if need be.
func moduleFolder(module, sum string) (string, error) {
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	var got struct{ Dir, Sum, Error string }
	if decoding := json.Unmarshal(out, &got); decoding != nil {
		return "", fmt.Errorf("go mod download %s: %w, %w", module, err, decoding)
	}
	if got.Error != "" || got.Sum != sum {
		return "", fmt.Errorf("go mod download %s: sum %s, want %s %s", module, got.Sum, sum, got.Error)
	}
	return got.Dir, nil
}

func readDefinition(path string, schemas map[schema.GroupVersionKind]customSchema) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var published apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &published); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, version := range published.Spec.Versions {
		if !version.Served {
			continue
		}
		s, err := compile(version.Schema.OpenAPIV3Schema)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		schemas[schema.GroupVersionKind{Group: published.Spec.Group, Version: version.Name, Kind: published.Spec.Names.Kind}] = s
	}
	return nil
}

func compile(published *apiextensionsv1.JSONSchemaProps) (s customSchema, err error) {
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(published, &internal, nil); err != nil {
		return s, err
	}
	if s.structural, err = structuralschema.NewStructural(&internal); err != nil {
		return s, err
	}
	s.validator, _, err = validation.NewSchemaValidator(&internal)
	return s, err
}
