package k8s

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// mutation is a mistake that its policy must find.
type mutation struct {
	policy, overlay string
	mutate          func(*manifests)
}

func TestEveryPolicyCanFail(t *testing.T) {
	rendered := map[string]*manifests{}
	for _, overlay := range overlays(t) {
		rendered[overlay] = render(t, overlay)
	}
	found := map[string]int{}
	for i, mistake := range slices.Concat(podMutations, fleetMutations, networkMutations, settingMutations, scalerMutations) {
		at := slices.IndexFunc(policies, func(p policy) bool { return p.name == mistake.policy })
		if at < 0 {
			t.Fatalf("row %d: there is no policy %q", i, mistake.policy)
		}
		mutant := rendered[mistake.overlay].clone()
		mistake.mutate(mutant)
		if slices.Equal(policies[at].check(rendered[mistake.overlay]), policies[at].check(mutant)) {
			t.Errorf("%q does not find mistake %d", mistake.policy, found[mistake.policy])
		}
		found[mistake.policy]++
	}
	for _, p := range policies {
		if found[p.name] == 0 {
			t.Errorf("nothing shows that %q can fail", p.name)
		}
	}
}

// Mutators of the parts that most rows are about.

func pod(change func(*corev1.PodSpec)) func(*manifests) {
	return func(m *manifests) {
		d, _ := worker(m)
		change(&d.Spec.Template.Spec)
	}
}

func container(change func(*corev1.Container)) func(*manifests) {
	return func(m *manifests) {
		_, c := worker(m)
		change(c)
	}
}

func security(change func(*corev1.SecurityContext)) func(*manifests) {
	return container(func(c *corev1.Container) { change(c.SecurityContext) })
}

func deployment(change func(*appsv1.DeploymentSpec)) func(*manifests) {
	return func(m *manifests) {
		d, _ := worker(m)
		change(&d.Spec)
	}
}

func simulator(change func(*corev1.Container)) func(*manifests) {
	return pod(func(p *corev1.PodSpec) { change(&p.InitContainers[0]) })
}

func natsServer(change func(*appsv1.StatefulSetSpec)) func(*manifests) {
	return func(m *manifests) { change(&named[*appsv1.StatefulSet](m, "nats").Spec) }
}

func setting(name, value string) func(*manifests) {
	return func(m *manifests) {
		_, c := worker(m)
		named[*corev1.ConfigMap](m, c.EnvFrom[0].ConfigMapRef.Name).Data[name] = value
	}
}

func without(name string) func(*manifests) {
	return func(m *manifests) {
		_, c := worker(m)
		delete(named[*corev1.ConfigMap](m, c.EnvFrom[0].ConfigMapRef.Name).Data, name)
	}
}

func budget(change func(*policyv1.PodDisruptionBudgetSpec)) func(*manifests) {
	return func(m *manifests) { change(&named[*policyv1.PodDisruptionBudget](m, "meterworker").Spec) }
}

func network(name string, change func(*networkingv1.NetworkPolicySpec)) func(*manifests) {
	return func(m *manifests) { change(&named[*networkingv1.NetworkPolicy](m, name).Spec) }
}

func service(name string, change func(*corev1.ServiceSpec)) func(*manifests) {
	return func(m *manifests) { change(&named[*corev1.Service](m, name).Spec) }
}

// object changes the first object of a type.
func object[T metav1.Object](change func(T)) func(*manifests) {
	return func(m *manifests) {
		for _, o := range m.objects {
			if typed, ok := o.(T); ok {
				change(typed)
				return
			}
		}
		panic("no such object")
	}
}

// field sets a field of the first custom resource of a kind.
func field(kind string, value any, path ...string) func(*manifests) {
	return func(m *manifests) {
		if err := unstructured.SetNestedField(custom(m, kind)[0].Object, value, path...); err != nil {
			panic(err)
		}
	}
}

// trigger sets a field of the scaler's trigger.
func trigger(change func(trigger, metadata map[string]any)) func(*manifests) {
	return func(m *manifests) {
		spec := custom(m, "ScaledObject")[0].Object["spec"].(map[string]any)
		first := spec["triggers"].([]any)[0].(map[string]any)
		change(first, first["metadata"].(map[string]any))
	}
}

func remove(kind string) func(*manifests) {
	return func(m *manifests) {
		m.objects = slices.DeleteFunc(m.objects, func(o runtime.Object) bool { return o.GetObjectKind().GroupVersionKind().Kind == kind })
	}
}

func number(n int) *intstr.IntOrString {
	v := intstr.FromInt(n)
	return &v
}
