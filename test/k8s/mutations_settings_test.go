package k8s

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

var networkMutations = []mutation{
	{"traffic is denied by default", "production", network(defaultDeny, func(p *networkingv1.NetworkPolicySpec) { p.Egress = []networkingv1.NetworkPolicyEgressRule{{}} })},
	{"traffic is denied by default", "production", network(defaultDeny, func(p *networkingv1.NetworkPolicySpec) { p.PolicyTypes = p.PolicyTypes[:1] })},
	{"traffic is denied by default", "dev", network(defaultDeny, func(p *networkingv1.NetworkPolicySpec) {
		p.PodSelector.MatchLabels = map[string]string{"app.kubernetes.io/name": "meterworker"}
	})},
	{"traffic is denied by default", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[0].From = nil })},
	{"traffic is denied by default", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Egress[0].Ports = nil })},
	{"traffic is denied by default", "dev", network("nats", func(p *networkingv1.NetworkPolicySpec) { p.PolicyTypes = nil })},
	{"traffic is denied by default", "production", remove("NetworkPolicy")},

	{"the network lets in what listens", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Ingress = p.Ingress[:1] })},
	{"the network lets in what listens", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[0].Ports[0].Port = number(9090) })},
	{"the network lets in what listens", "dev", network("nats", func(p *networkingv1.NetworkPolicySpec) { p.Ingress = nil })},

	{"the network lets out what is needed", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Egress = p.Egress[1:] })},
	{"the network lets out what is needed", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Egress[2].To[0].IPBlock.Except = nil })},
	{"the network lets out what is needed", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Egress[2].To = nil })},
	{"the network lets out what is needed", "production", network("meterworker", func(p *networkingv1.NetworkPolicySpec) { p.Egress[1].Ports[0].Port = number(80) })},
	{"the network lets out what is needed", "production", setting("NATS_URL", "tls://nats.example.com:4443")},

	{"ports agree", "production", setting("METERWORKER_ADMIN_ADDR", "127.0.0.1:8080")},
	{"ports agree", "production", setting("METERWORKER_ADMIN_ADDR", ":9090")},
	{"ports agree", "production", without("METERWORKER_WEBHOOK_ADDR")},
	{"ports agree", "production", container(func(c *corev1.Container) { c.Ports[0].ContainerPort = 9090 })},
	{"ports agree", "production", service("meterworker", func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = *number(8080) })},
	{"ports agree", "dev", service("nats", func(s *corev1.ServiceSpec) { s.Ports[0].Port = 4223 })},
}

var settingMutations = []mutation{
	{"settings are known", "production", setting("METERWORKER_RATES", "500")},
	{"settings are known", "production", setting("NATS_USER", "x")},
	{"settings are known", "production", container(func(c *corev1.Container) { c.Env = append(c.Env, corev1.EnvVar{Name: "STRIPE_KEY"}) })},

	{"rights in NATS are the worker's", "production", without("METERWORKER_MANAGE_STREAMS")},
	{"rights in NATS are the worker's", "production", setting("NATS_INBOX_PREFIX", "_INBOX")},

	{"alerts are those that are tested", "production", remove("PrometheusRule")},
	{"alerts are those that are tested", "production", field("PrometheusRule", []any{}, "spec", "groups")},
	{"production is for money", "production", without("METERWORKER_MODE")},
	{"production is for money", "production", without("STRIPE_WEBHOOK_SECRET_FILE")},
	{"production is for money", "production", without("METERWORKER_STREAM_REPLICAS")},

	{"secrets are folders", "production", container(func(c *corev1.Container) { c.VolumeMounts[0].SubPath = "api-key" })},
	{"secrets are folders", "production", container(func(c *corev1.Container) { c.VolumeMounts = c.VolumeMounts[1:] })},
	{"secrets are folders", "production", setting("STRIPE_API_KEY_FILE", "/run/secrets/stripe/key")},
	{"secrets are folders", "production", without("STRIPE_API_KEY_FILE")},
	{"secrets are folders", "production", setting("NATS_CA", "/run/secrets/nats/ca.crt")},
	{"secrets are folders", "production", remove("ExternalSecret")},
	{"secrets are folders", "dev", remove("Secret")},
	{"secrets are folders", "production", pod(func(p *corev1.PodSpec) { p.Volumes[0].Secret.DefaultMode = new(int32(0o400)) })},

	{"no secret is written down", "production", setting("STRIPE_API_KEY", "x")},
	{"no secret is written down", "production", setting("NATS_URL", "nats://worker:password@nats:4222")},
	{"no secret is written down", "dev", object(func(s *corev1.Secret) { s.Data["api-key"] = []byte("sk_test_51abc") })},
	{"no secret is written down", "production", object(func(c *corev1.ConfigMap) { c.Data["note"] = "whsec_1" })},

	{"the simulator is beside its worker", "dev", simulator(func(c *corev1.Container) { c.Args = []string{"run"} })},
	{"the simulator is beside its worker", "dev", simulator(func(c *corev1.Container) { c.RestartPolicy = nil })},
	{"the simulator is beside its worker", "dev", setting("STRIPE_API_BASE", "http://simulator:12111")},
	{"the simulator is beside its worker", "production", setting("STRIPE_API_BASE", "http://127.0.0.1:12111")},

	{"secrets outlive their store", "production", field("ExternalSecret", "Delete", "spec", "target", "deletionPolicy")},
	{"secrets outlive their store", "production", field("ExternalSecret", "other", "spec", "secretStoreRef", "name")},
	{"secrets outlive their store", "production", field("SecretStore", "other", "spec", "provider", "aws", "auth", "jwt", "serviceAccountRef", "name")},
}

var scalerMutations = []mutation{
	{"the scaler stays in bounds", "production", field("ScaledObject", int64(0), "spec", "minReplicaCount")},
	{"the scaler stays in bounds", "production", field("ScaledObject", int64(7), "spec", "maxReplicaCount")},
	{"the scaler stays in bounds", "production", field("ScaledObject", int64(1), "spec", "fallback", "replicas")},
	{"the scaler stays in bounds", "production", field("ScaledObject", "static", "spec", "fallback", "behavior")},
	{"the scaler stays in bounds", "production", field("ScaledObject", map[string]any{}, "spec", "advanced")},
	{"the scaler stays in bounds", "production", setting("METERWORKER_PARTITIONS", "10")},
	{"the scaler stays in bounds", "production", setting("METERWORKER_LEDGER_MAX_BYTES", "512MiB")},
	{"the scaler stays in bounds", "production", trigger(func(_, metadata map[string]any) { delete(metadata, "ignoreNullValues") })},
	{"the scaler stays in bounds", "production", trigger(func(trigger, _ map[string]any) { trigger["metricType"] = "Value" })},
	{"the scaler stays in bounds", "production", trigger(func(_, metadata map[string]any) { metadata["threshold"] = "0" })},

	{"the scaler asks for metrics that exist", "production", trigger(func(_, metadata map[string]any) {
		metadata["query"] = `sum(meterworker_backlog{namespace="meterworker"})`
	})},
	{"the scaler asks for metrics that exist", "production", trigger(func(_, metadata map[string]any) {
		metadata["query"] = `sum(meterworker_outbox_pending)`
	})},
	{"the scaler asks for metrics that exist", "production", trigger(func(_, metadata map[string]any) { metadata["query"] = "1" })},
	{"the scaler asks for metrics that exist", "production", trigger(func(_, metadata map[string]any) { metadata["query"] = "sum(" })},
}
