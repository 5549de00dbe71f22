package k8s

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var podMutations = []mutation{
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) { p.SecurityContext = nil })},
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) { p.SecurityContext.RunAsNonRoot = nil })},
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) { p.SecurityContext.RunAsUser = new(int64(0)) })},
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) { p.SecurityContext.SeccompProfile.Type = "Unconfined" })},
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) { p.HostNetwork = true })},
	{"pods are restricted", "production", pod(func(p *corev1.PodSpec) {
		p.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
	})},
	{"pods are restricted", "production", container(func(c *corev1.Container) { c.SecurityContext = nil })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.Privileged = new(true) })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = nil })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.ReadOnlyRootFilesystem = nil })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.Capabilities.Drop = nil })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"NET_ADMIN"} })},
	{"pods are restricted", "production", security(func(s *corev1.SecurityContext) { s.RunAsUser = new(int64(0)) })},
	{"pods are restricted", "dev", simulator(func(c *corev1.Container) { c.SecurityContext.ReadOnlyRootFilesystem = nil })},
	{"pods are restricted", "dev", natsServer(func(s *appsv1.StatefulSetSpec) { s.Template.Spec.SecurityContext.RunAsNonRoot = nil })},

	{"pods have no token", "production", pod(func(p *corev1.PodSpec) { p.AutomountServiceAccountToken = nil })},
	{"pods have no token", "production", pod(func(p *corev1.PodSpec) { p.EnableServiceLinks = nil })},
	{"pods have no token", "production", pod(func(p *corev1.PodSpec) { p.ServiceAccountName = "default" })},
	{"pods have no token", "production", object(func(a *corev1.ServiceAccount) { a.AutomountServiceAccountToken = nil })},

	{"images are pinned", "production", container(func(c *corev1.Container) { c.Image = "ghcr.io/meterworker/meterworker" })},
	{"images are pinned", "production", container(func(c *corev1.Container) { c.Image = "registry:5000/meterworker:latest" })},
	{"images are pinned", "production", container(func(c *corev1.Container) { c.Image = "registry:5000/meterworker" })},
	{"images are pinned", "dev", simulator(func(c *corev1.Container) { c.ImagePullPolicy = corev1.PullAlways })},

	{"probes ask the right question", "production", container(func(c *corev1.Container) { c.LivenessProbe.HTTPGet.Path = "/readyz" })},
	{"probes ask the right question", "production", container(func(c *corev1.Container) { c.StartupProbe.HTTPGet.Path = "/readyz" })},
	{"probes ask the right question", "production", container(func(c *corev1.Container) { c.ReadinessProbe = nil })},
	{"probes ask the right question", "production", container(func(c *corev1.Container) { c.StartupProbe.FailureThreshold = 5 })},
	{"probes ask the right question", "production", container(func(c *corev1.Container) { c.LivenessProbe.FailureThreshold = 1 })},
	{"probes ask the right question", "dev", natsServer(func(s *appsv1.StatefulSetSpec) {
		c := &s.Template.Spec.Containers[0]
		c.LivenessProbe = c.ReadinessProbe
	})},

	{"the grace period covers the drain", "production", pod(func(p *corev1.PodSpec) { p.TerminationGracePeriodSeconds = nil })},
	{"the grace period covers the drain", "production", pod(func(p *corev1.PodSpec) { p.TerminationGracePeriodSeconds = new(int64(30)) })},
	{"the grace period covers the drain", "production", setting("METERWORKER_SHUTDOWN_TIMEOUT", "40s")},
	{"the grace period covers the drain", "production", container(func(c *corev1.Container) { c.Lifecycle = nil })},
	{"the grace period covers the drain", "production", container(func(c *corev1.Container) { c.Lifecycle.PreStop.Sleep.Seconds = 30 })},

	{"memory is bounded and used", "production", container(func(c *corev1.Container) { c.Resources.Limits = nil })},
	{"memory is bounded and used", "production", container(func(c *corev1.Container) { c.Resources.Requests[corev1.ResourceMemory] = resource.MustParse("1Gi") })},
	{"memory is bounded and used", "production", container(func(c *corev1.Container) { c.Resources.Limits[corev1.ResourceMemory] = resource.MustParse("4Gi") })},
	{"memory is bounded and used", "production", container(func(c *corev1.Container) { c.Env = nil })},
	{"memory is bounded and used", "production", setting("METERWORKER_LEDGER_MAX_BYTES", "1500MiB")},
	{"memory is bounded and used", "production", without("METERWORKER_LEDGER_MAX_BYTES")},
	{"memory is bounded and used", "dev", natsServer(func(s *appsv1.StatefulSetSpec) { s.Template.Spec.Containers[0].Env[0].Value = "2GiB" })},

	{"processors are not throttled", "production", container(func(c *corev1.Container) { c.Resources.Limits[corev1.ResourceCPU] = resource.MustParse("1") })},
	{"processors are not throttled", "production", container(func(c *corev1.Container) { delete(c.Resources.Requests, corev1.ResourceCPU) })},
}

var fleetMutations = []mutation{
	{"rolls go one by one", "production", deployment(func(d *appsv1.DeploymentSpec) { d.Strategy.Type = appsv1.RecreateDeploymentStrategyType })},
	{"rolls go one by one", "production", deployment(func(d *appsv1.DeploymentSpec) { d.Strategy.RollingUpdate.MaxUnavailable = number(1) })},
	{"rolls go one by one", "production", deployment(func(d *appsv1.DeploymentSpec) { d.Strategy.RollingUpdate.MaxSurge = number(6) })},
	{"rolls go one by one", "production", deployment(func(d *appsv1.DeploymentSpec) { d.MinReadySeconds = 0 })},
	{"rolls go one by one", "production", deployment(func(d *appsv1.DeploymentSpec) { d.RevisionHistoryLimit = new(int32(0)) })},

	{"workers spread", "production", pod(func(p *corev1.PodSpec) { p.TopologySpreadConstraints = p.TopologySpreadConstraints[:1] })},
	{"workers spread", "production", pod(func(p *corev1.PodSpec) {
		p.TopologySpreadConstraints[1].LabelSelector.MatchLabels = map[string]string{"app": "x"}
	})},
	{"workers spread", "production", pod(func(p *corev1.PodSpec) { p.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.DoNotSchedule })},

	{"somebody sets the replicas", "production", deployment(func(d *appsv1.DeploymentSpec) { d.Replicas = new(int32(2)) })},
	{"somebody sets the replicas", "production", field("ScaledObject", "other", "spec", "scaleTargetRef", "name")},
	{"somebody sets the replicas", "dev", deployment(func(d *appsv1.DeploymentSpec) { d.Replicas = nil })},

	{"disruptions go one by one", "production", budget(func(b *policyv1.PodDisruptionBudgetSpec) { b.MinAvailable = number(1) })},
	{"disruptions go one by one", "production", budget(func(b *policyv1.PodDisruptionBudgetSpec) { b.MaxUnavailable = nil })},
	{"disruptions go one by one", "production", budget(func(b *policyv1.PodDisruptionBudgetSpec) { b.MaxUnavailable = number(0) })},
	{"disruptions go one by one", "production", budget(func(b *policyv1.PodDisruptionBudgetSpec) { b.UnhealthyPodEvictionPolicy = nil })},
	{"disruptions go one by one", "production", remove("PodDisruptionBudget")},

	{"selectors meet one workload", "production", service("meterworker", func(s *corev1.ServiceSpec) { s.Selector["app.kubernetes.io/component"] = "x" })},
	{"selectors meet one workload", "dev", service("nats", func(s *corev1.ServiceSpec) {
		s.Selector = map[string]string{"app.kubernetes.io/part-of": "meterworker"}
	})},
	{"selectors meet one workload", "production", budget(func(b *policyv1.PodDisruptionBudgetSpec) { b.Selector.MatchLabels = nil })},
	{"selectors meet one workload", "production", deployment(func(d *appsv1.DeploymentSpec) { d.Template.Labels["app.kubernetes.io/name"] = "x" })},
	{"selectors meet one workload", "production", field("PodMonitor", map[string]any{"app": "x"}, "spec", "selector", "matchLabels")},

	{"everything is labelled", "production", object(func(s *corev1.Service) { s.Labels = nil })},
	{"everything is labelled", "production", object(func(n *corev1.Namespace) { n.Labels = nil })},
	{"everything is labelled", "production", object(func(u *unstructured.Unstructured) { u.SetLabels(nil) })},

	{"the namespace is restricted", "production", object(func(n *corev1.Namespace) { n.Labels["pod-security.kubernetes.io/enforce"] = "baseline" })},
	{"the namespace is restricted", "production", object(func(s *corev1.Service) { s.Namespace = "" })},
	{"the namespace is restricted", "production", remove("Namespace")},

	{"the NATS server is one and safe", "dev", natsServer(func(s *appsv1.StatefulSetSpec) { s.Replicas = new(int32(3)) })},
	{"the NATS server is one and safe", "dev", natsServer(func(s *appsv1.StatefulSetSpec) { s.VolumeClaimTemplates = nil })},
	{"the NATS server is one and safe", "dev", setting("METERWORKER_STREAM_REPLICAS", "3")},
	{"the NATS server is one and safe", "production", setting("NATS_URL", "nats://nats:4222")},
}
