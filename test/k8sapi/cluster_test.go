package k8sapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// cluster is the API server as `kubectl apply --server-side` sees it.
type cluster struct {
	objects dynamic.Interface
	kinds   *restmapper.DeferredDiscoveryRESTMapper

	mu       sync.Mutex
	warnings []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	config := startServer(t)
	config.WarningHandlerWithContext = c
	config.QPS = -1 // one client, one server: nobody to be considerate of
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c.objects, c.kinds = objects, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds))
	return c
}

// HandleWarningHeaderWithContext implements [rest.WarningHandlerWithContext]: pod security warns of a
// Deployment whose pods it would refuse, and the server of what is deprecated.
func (c *cluster) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, text)
}

var _ rest.WarningHandlerWithContext = (*cluster)(nil)

// warned returns the warnings since it was last asked.
func (c *cluster) warned() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	warnings := c.warnings
	c.warnings = nil
	return warnings
}

func (c *cluster) of(u *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := u.GroupVersionKind()
	mapping, err := c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.kinds.Reset() // a definition may have come since
		mapping, err = c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	return c.objects.Resource(mapping.Resource).Namespace(u.GetNamespace()), nil
}

// apply sends the object as it is in the manifests; dryRun goes through admission and
// validation and stores nothing.
func (c *cluster) apply(t *testing.T, u *unstructured.Unstructured, dryRun ...string) (*unstructured.Unstructured, error) {
	t.Helper()
	resource, err := c.of(u)
	if err != nil {
		return nil, err
	}
	text, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return resource.Patch(t.Context(), u.GetName(), types.ApplyPatchType, text,
		metav1.PatchOptions{FieldManager: "manifests", FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun})
}

// define installs a definition and waits until it is served.
func (c *cluster) define(t *testing.T, definition *unstructured.Unstructured) {
	t.Helper()
	resource, err := c.of(definition)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resource.Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatalf("%s: %v", definition.GetName(), err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, startBound, true, func(ctx context.Context) (bool, error) {
		stored, err := resource.Get(ctx, definition.GetName(), metav1.GetOptions{})
		return err == nil && established(stored), err
	})
	if err != nil {
		t.Fatalf("%s is not established: %v", definition.GetName(), err)
	}
}

func established(definition *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		condition, ok := c.(map[string]any)
		return ok && condition["type"] == "Established" && condition["status"] == "True"
	})
}

// refusal is the error as one line, "" if there is none or it is not the server's
// judgement of the object.
func refusal(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	return strings.ReplaceAll(fmt.Sprint(err), "\n", " ")
}
