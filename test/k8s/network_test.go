package k8s

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const defaultDeny = "meterworker-default-deny"

func trafficIsDeniedByDefault(m *manifests) []string {
	deny := named[*networkingv1.NetworkPolicy](m, defaultDeny)
	if deny == nil {
		return []string{"nothing denies"}
	}
	problems := when(len(deny.Spec.Ingress)+len(deny.Spec.Egress) > 0, "the default lets something through")
	for _, w := range workloads(m) {
		problems = append(problems, when(!meets(&deny.Spec.PodSelector, w.template.Labels), "%s is left out", w.name)...)
	}
	for _, p := range all[*networkingv1.NetworkPolicy](m) {
		problems = append(problems, when(len(p.Spec.PolicyTypes) != 2, "%s leaves a way open", describe(p))...)
		for _, rule := range p.Spec.Ingress {
			problems = append(problems, when(len(rule.From) == 0 || len(rule.Ports) == 0, "%s lets in anybody, or anything", describe(p))...)
		}
		for _, rule := range p.Spec.Egress {
			problems = append(problems, when(len(rule.Ports) == 0, "%s lets out anything", describe(p))...)
		}
	}
	return problems
}

// networkLetsInWhatListens: ports that serve somebody outside the pod are reachable by
// the name that the container gives them. NATS' monitoring serves the kubelet only.
func networkLetsInWhatListens(m *manifests) []string {
	var problems []string
	for _, w := range workloads(m) {
		var open []string
		for _, p := range policiesOf(m, w) {
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					open = append(open, port.Port.String())
				}
			}
		}
		slices.Sort(open)
		served := served(m, w)
		problems = append(problems, when(!slices.Equal(open, served), "%s serves %v, open are %v", w.name, served, open)...)
	}
	return problems
}

func policiesOf(m *manifests, w workload) []*networkingv1.NetworkPolicy {
	return slices.DeleteFunc(all[*networkingv1.NetworkPolicy](m), func(p *networkingv1.NetworkPolicy) bool {
		return !meets(&p.Spec.PodSelector, w.template.Labels)
	})
}

// served are the named ports of the workload's Services.
func served(m *manifests, w workload) []string {
	var names []string
	for _, s := range all[*corev1.Service](m) {
		for _, port := range s.Spec.Ports {
			if s.Spec.Selector["app.kubernetes.io/name"] == w.template.Labels["app.kubernetes.io/name"] {
				names = append(names, port.TargetPort.String())
			}
		}
	}
	slices.Sort(names)
	return names
}

// networkLetsOutWhatIsNeeded: names, NATS where NATS_URL says, Stripe; and nothing private
// over 443.
func networkLetsOutWhatIsNeeded(m *manifests) []string {
	d, _ := worker(m)
	nats, err := url.Parse(settings(m)["NATS_URL"])
	if err != nil {
		return []string{err.Error()}
	}
	var open []string
	var problems []string
	for _, p := range policiesOf(m, workload{d.Name, &d.Spec.Template, nil}) {
		for _, rule := range p.Spec.Egress {
			for _, port := range rule.Ports {
				open = append(open, port.Port.String()+"/"+string(*port.Protocol))
				if port.Port.IntVal == 443 {
					problems = append(problems, privateNetworks(rule)...)
				}
			}
		}
	}
	slices.Sort(open)
	needed := []string{"53/TCP", "53/UDP", nats.Port() + "/TCP", "443/TCP"}
	slices.Sort(needed)
	return append(problems, when(!slices.Equal(open, needed), "open are %v, needed %v", open, needed)...)
}

func privateNetworks(rule networkingv1.NetworkPolicyEgressRule) []string {
	problems := when(len(rule.To) != 2, "443 is open beyond the two internets")
	for _, to := range rule.To {
		if to.IPBlock == nil {
			return []string{"443 is open within the cluster"}
		}
		for _, private := range []string{"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} {
			v4 := to.IPBlock.CIDR == "0.0.0.0/0"
			problems = append(problems, when(v4 && !slices.Contains(to.IPBlock.Except, private), "443 is open to %s", private)...)
		}
	}
	return problems
}

// portsAgree: settings, container, Service and probes mean the same port, and the
// worker listens beyond loopback.
func portsAgree(m *manifests) []string {
	environment := settings(m)
	_, c := worker(m)
	var problems []string
	for name, setting := range map[string]string{"admin": "METERWORKER_ADMIN_ADDR", "webhook": "METERWORKER_WEBHOOK_ADDR"} {
		host, port, _ := strings.Cut(environment[setting], ":")
		problems = slices.Concat(
			problems,
			when(host != "", "%s listens on %q only", setting, host),
			when(port != quoted(containerPort(c, name)), "%s is port %s, the container's is %d", setting, port, containerPort(c, name)),
		)
	}
	for _, s := range all[*corev1.Service](m) {
		for _, port := range s.Spec.Ports {
			problems = append(problems, when(!resolves(m, s, port), "%s: port %s leads nowhere", describe(s), port.Name)...)
		}
	}
	return problems
}

func containerPort(c *corev1.Container, name string) int32 {
	for _, port := range c.Ports {
		if port.Name == name {
			return port.ContainerPort
		}
	}
	return 0
}

// resolves: the target is a named port of the pods, with the number that clients use.
func resolves(m *manifests, s *corev1.Service, port corev1.ServicePort) bool {
	for _, w := range workloads(m) {
		for _, c := range containers(&w.template.Spec) {
			selected := s.Spec.Selector["app.kubernetes.io/name"] == w.template.Labels["app.kubernetes.io/name"]
			if selected && port.TargetPort.Type == intstr.String && containerPort(c, port.TargetPort.StrVal) == port.Port {
				return true
			}
		}
	}
	return false
}

// simulatorIsBesideItsWorker: plain http goes to loopback only, so who names such a base
// needs the simulator in the same pod, there before the worker and until after it; and
// one worker, since each simulator is an account of its own.
func simulatorIsBesideItsWorker(m *manifests) []string {
	base := settings(m)["STRIPE_API_BASE"]
	if base == "" {
		return nil
	}
	d, _ := worker(m)
	at := slices.IndexFunc(d.Spec.Template.Spec.InitContainers, func(c corev1.Container) bool { return slices.Contains(c.Args, "simulate") })
	if at < 0 {
		return []string{"there is no simulator"}
	}
	sidecar := d.Spec.Template.Spec.InitContainers[at]
	return slices.Concat(
		when(base != "http://127.0.0.1:"+strconv.Itoa(simulatorPort), "the simulator is not at %s", base),
		when(sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != corev1.ContainerRestartPolicyAlways, "the simulator is no sidecar"),
		when(d.Spec.Replicas == nil || *d.Spec.Replicas != 1, "each worker would have an account of its own"),
	)
}

// simulatorPort is where `meterworker simulate` listens.
const simulatorPort = 12111
