package k8s

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// policy is one thing that must be true of every overlay. check returns what is wrong.
type policy struct {
	name  string
	check func(*manifests) []string
}

// policies is the list; mutations has at least one row for each.
var policies = []policy{
	{"pods are restricted", podsAreRestricted},
	{"pods have no token", podsHaveNoToken},
	{"images are pinned", imagesArePinned},
	{"probes ask the right question", probesAskTheRightQuestion},
	{"the grace period covers the drain", gracePeriodCoversTheDrain},
	{"memory is bounded and used", memoryIsBoundedAndUsed},
	{"processors are not throttled", processorsAreNotThrottled},
	{"rolls go one by one", rollsGoOneByOne},
	{"workers spread", workersSpread},
	{"somebody sets the replicas", somebodySetsTheReplicas},
	{"disruptions go one by one", disruptionsGoOneByOne},
	{"selectors meet one workload", selectorsMeetOneWorkload},
	{"everything is labelled", everythingIsLabelled},
	{"the namespace is restricted", namespaceIsRestricted},
	{"traffic is denied by default", trafficIsDeniedByDefault},
	{"the network lets in what listens", networkLetsInWhatListens},
	{"the network lets out what is needed", networkLetsOutWhatIsNeeded},
	{"ports agree", portsAgree},
	{"settings are known", settingsAreKnown},
	{"rights in NATS are the worker's", rightsInNATSAreTheWorkers},
	{"production is for money", productionIsForMoney},
	{"secrets are folders", secretsAreFolders},
	{"no secret is written down", noSecretIsWrittenDown},
	{"the simulator is beside its worker", simulatorIsBesideItsWorker},
	{"the NATS server is one and safe", natsServerIsOneAndSafe},
	{"the scaler stays in bounds", scalerStaysInBounds},
	{"the scaler asks for metrics that exist", scalerAsksForMetricsThatExist},
	{"secrets outlive their store", secretsOutliveTheirStore},
	{"alerts are those that are tested", alertsAreThoseThatAreTested},
}

func TestPolicies(t *testing.T) {
	for _, overlay := range overlays(t) {
		m := render(t, overlay)
		for _, p := range policies {
			t.Run(overlay+"/"+p.name, func(t *testing.T) {
				for _, problem := range p.check(m) {
					t.Error(problem)
				}
			})
		}
	}
}

// workload is what makes pods.
type workload struct {
	name     string
	template *corev1.PodTemplateSpec
	selector map[string]string
}

func workloads(m *manifests) []workload {
	var found []workload
	for _, d := range all[*appsv1.Deployment](m) {
		found = append(found, workload{describe(d), &d.Spec.Template, d.Spec.Selector.MatchLabels})
	}
	for _, s := range all[*appsv1.StatefulSet](m) {
		found = append(found, workload{describe(s), &s.Spec.Template, s.Spec.Selector.MatchLabels})
	}
	return found
}

// containers are those of the pod, sidecars included.
func containers(pod *corev1.PodSpec) []*corev1.Container {
	var found []*corev1.Container
	for i := range pod.InitContainers {
		found = append(found, &pod.InitContainers[i])
	}
	for i := range pod.Containers {
		found = append(found, &pod.Containers[i])
	}
	return found
}

// eachContainer collects what check says of each container of each workload.
func eachContainer(m *manifests, check func(*corev1.PodSpec, *corev1.Container) []string) []string {
	var problems []string
	for _, w := range workloads(m) {
		for _, c := range containers(&w.template.Spec) {
			for _, problem := range check(&w.template.Spec, c) {
				problems = append(problems, fmt.Sprintf("%s, container %s: %s", w.name, c.Name, problem))
			}
		}
	}
	return problems
}

// worker is the Deployment of the workers, and its container.
func worker(m *manifests) (*appsv1.Deployment, *corev1.Container) {
	d := named[*appsv1.Deployment](m, "meterworker")
	i := slices.IndexFunc(d.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Name == "meterworker" })
	return d, &d.Spec.Template.Spec.Containers[i]
}

// settings is the environment that the workers get.
func settings(m *manifests) map[string]string {
	_, c := worker(m)
	environment := map[string]string{}
	for _, from := range c.EnvFrom {
		maps.Copy(environment, named[*corev1.ConfigMap](m, from.ConfigMapRef.Name).Data)
	}
	for _, variable := range c.Env {
		environment[variable.Name] = variable.Value
	}
	return environment
}

// when is the problem as a list, if there is one.
func when(wrong bool, format string, args ...any) []string {
	if !wrong {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}
