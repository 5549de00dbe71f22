package k8s

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// podsAreRestricted is the standard "restricted", and a root file system that nobody
// writes to.
func podsAreRestricted(m *manifests) []string {
	return eachContainer(m, func(pod *corev1.PodSpec, c *corev1.Container) []string {
		podContext, s := pod.SecurityContext, c.SecurityContext
		if podContext == nil || s == nil || s.Capabilities == nil || podContext.SeccompProfile == nil {
			return []string{"no security context"}
		}
		return slices.Concat(
			when(!isTrue(podContext.RunAsNonRoot) || s.RunAsNonRoot != nil, "may run as root"),
			when(podContext.RunAsUser == nil || *podContext.RunAsUser != 65532 || s.RunAsUser != nil, "is not user 65532"),
			when(podContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || s.SeccompProfile != nil, "seccomp is not RuntimeDefault"),
			when(!isFalse(s.AllowPrivilegeEscalation), "allows privilege escalation"),
			when(isTrue(s.Privileged), "is privileged"),
			when(!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0, "keeps capabilities"),
			when(!isTrue(s.ReadOnlyRootFilesystem), "writes to its root file system"),
			when(pod.HostNetwork || pod.HostPID || pod.HostIPC, "shares the host's namespaces"),
			when(slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil }), "mounts a path of the host"),
		)
	})
}

func podsHaveNoToken(m *manifests) []string {
	var problems []string
	for _, account := range all[*corev1.ServiceAccount](m) {
		problems = append(problems, when(!isFalse(account.AutomountServiceAccountToken), "%s mounts its token", describe(account))...)
	}
	for _, w := range workloads(m) {
		pod := w.template.Spec
		problems = slices.Concat(
			problems,
			when(!isFalse(pod.AutomountServiceAccountToken), "%s mounts a token", w.name),
			when(!isFalse(pod.EnableServiceLinks), "%s gets service links", w.name),
			when(named[*corev1.ServiceAccount](m, pod.ServiceAccountName) == nil, "%s has no account of its own", w.name),
		)
	}
	return problems
}

func imagesArePinned(m *manifests) []string {
	return eachContainer(m, func(_ *corev1.PodSpec, c *corev1.Container) []string {
		_, tag, tagged := strings.Cut(c.Image[strings.LastIndexByte(c.Image, '/')+1:], ":")
		return slices.Concat(
			when(!tagged || tag == "" || tag == "latest", "image %s", c.Image),
			when(c.ImagePullPolicy == corev1.PullAlways, "pulls what is pinned"),
		)
	})
}

// probesAskTheRightQuestion: being alive is another question than being ready, and the
// start waits for the process only, or NATS being down would kill who waits for it.
func probesAskTheRightQuestion(m *manifests) []string {
	_, c := worker(m)
	problems := slices.Concat(
		when(asked(c.LivenessProbe) != "/livez", "liveness asks %q", asked(c.LivenessProbe)),
		when(asked(c.ReadinessProbe) != "/readyz", "readiness asks %q", asked(c.ReadinessProbe)),
		when(asked(c.StartupProbe) != "/livez", "startup asks %q", asked(c.StartupProbe)),
	)
	if len(problems) > 0 {
		return problems
	}
	const ledger, freeze = time.Minute, 30 * time.Second // reading a large ledger; a slow moment of the node
	return slices.Concat(
		when(patience(c.StartupProbe) < ledger, "gives up on the start after %v", patience(c.StartupProbe)),
		when(patience(c.LivenessProbe) < freeze, "is killed after %v", patience(c.LivenessProbe)),
		eachContainer(m, func(_ *corev1.PodSpec, c *corev1.Container) []string {
			return when(asked(c.LivenessProbe) != "" && asked(c.LivenessProbe) == asked(c.ReadinessProbe), "liveness is readiness")
		}),
	)
}

// asked is what the probe asks on a named port, "" without such a probe.
func asked(probe *corev1.Probe) string {
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal == "" {
		return ""
	}
	return probe.HTTPGet.Path
}

// patience is how long the probe may fail before it has a consequence.
func patience(probe *corev1.Probe) time.Duration {
	return time.Duration(probe.PeriodSeconds*probe.FailureThreshold) * time.Second
}

// gracePeriodCoversTheDrain: SIGKILL must not cut off what the worker still settles.
func gracePeriodCoversTheDrain(m *manifests) []string {
	d, c := worker(m)
	drain, err := time.ParseDuration(settings(m)["METERWORKER_SHUTDOWN_TIMEOUT"])
	if err != nil {
		return []string{err.Error()}
	}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return []string{"nothing gives the Service time to forget the pod"}
	}
	const margin = 5 * time.Second // to leave the fleet, to answer the last request, to exit
	needed := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + drain + margin
	grace := d.Spec.Template.Spec.TerminationGracePeriodSeconds
	return when(grace == nil || time.Duration(*grace)*time.Second < needed, "grace period %v s, needed are %v", grace, needed)
}

// memoryIsBoundedAndUsed: Go knows of the limit and leaves room below it, and the
// ledger leaves room below that.
func memoryIsBoundedAndUsed(m *manifests) []string {
	problems := eachContainer(m, func(_ *corev1.PodSpec, c *corev1.Container) []string {
		limit, request := c.Resources.Limits.Memory(), c.Resources.Requests.Memory()
		problems := when(limit.IsZero() || !limit.Equal(*request), "memory: request %v, limit %v", request, limit)
		if goLimit := variable(c, "GOMEMLIMIT"); goLimit != "" {
			share := float64(sizeOf(goLimit)) / float64(limit.Value())
			problems = append(problems, when(share < 0.88 || share > 0.92, "GOMEMLIMIT is %.0f %% of the limit", 100*share)...)
		}
		return problems
	})
	_, c := worker(m)
	goLimit, ledger := variable(c, "GOMEMLIMIT"), settings(m)["METERWORKER_LEDGER_MAX_BYTES"]
	return slices.Concat(
		problems,
		when(goLimit == "", "the workers have no GOMEMLIMIT"),
		when(ledger == "" || float64(sizeOf(ledger)) > 0.6*float64(sizeOf(goLimit)), "the ledger may take %s of %s", ledger, goLimit),
	)
}

// sizeOf reads what GOMEMLIMIT and our sizes have in common: a number and KiB, MiB, GiB.
func sizeOf(size string) int64 {
	quantity, err := resource.ParseQuantity(strings.TrimSuffix(size, "B"))
	if err != nil {
		return 0
	}
	return quantity.Value()
}

func variable(c *corev1.Container, name string) string {
	i := slices.IndexFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name })
	if i < 0 {
		return ""
	}
	return c.Env[i].Value
}

func processorsAreNotThrottled(m *manifests) []string {
	return eachContainer(m, func(_ *corev1.PodSpec, c *corev1.Container) []string {
		return slices.Concat(
			when(!c.Resources.Limits.Cpu().IsZero(), "has a limit of CPU"),
			when(c.Resources.Requests.Cpu().IsZero(), "asks for no CPU"),
		)
	})
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

func quoted(n int32) string { return strconv.Itoa(int(n)) }
