package k8s

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The server itself reads its configuration; it agrees with the pod that it runs in.
func TestNATSConfiguration(t *testing.T) {
	m := render(t, "dev")
	text := natsConfig(m)
	for _, problem := range natsProblems(t, m, text) {
		t.Error(problem)
	}
	for _, mistake := range []struct{ old, now string }{
		{"sync_interval: always", ""},
		{"16GiB", "20GiB"},
		{"store_dir: /data", "store_dir: /tmp"},
		{"port: 4222", "port: 4223"},
		{"http: 8222", "http: 8223"},
		{"max_memory_store: 64MiB", "max_memory_store: 2GiB"},
	} {
		if !strings.Contains(text, mistake.old) {
			t.Fatalf("there is no %q", mistake.old)
		}
		if problems := natsProblems(t, m, strings.Replace(text, mistake.old, mistake.now, 1)); len(problems) == 0 {
			t.Errorf("nobody notices %q instead of %q", mistake.now, mistake.old)
		}
	}
}

func natsConfig(m *manifests) string {
	for _, c := range all[*corev1.ConfigMap](m) {
		if text, ok := c.Data["nats.conf"]; ok {
			return text
		}
	}
	return ""
}

func natsProblems(t *testing.T, m *manifests, text string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	set := named[*appsv1.StatefulSet](m, "nats")
	c := &set.Spec.Template.Spec.Containers[0]
	claim := set.Spec.VolumeClaimTemplates[0]
	disk := claim.Spec.Resources.Requests.Storage().Value()
	mount := c.VolumeMounts[slices.IndexFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return v.Name == claim.Name })]
	return slices.Concat(
		when(!options.JetStream || !options.SyncAlways, "a power cut loses what was acknowledged"),
		when(options.StoreDir != mount.MountPath, "stores in %s, the volume is at %s", options.StoreDir, mount.MountPath),
		when(options.JetStreamMaxStore <= 0 || options.JetStreamMaxStore > disk*85/100, "JetStream may take %d of %d bytes", options.JetStreamMaxStore, disk),
		when(options.JetStreamMaxMemory <= 0 || options.JetStreamMaxMemory > c.Resources.Limits.Memory().Value()/4, "JetStream may take %d bytes of memory", options.JetStreamMaxMemory),
		when(options.Port != int(containerPort(c, "client")), "listens on %d", options.Port),
		when(options.HTTPPort != int(containerPort(c, "monitor")), "is monitored on %d", options.HTTPPort),
		when(options.ServerName == "", "has another name after each start"),
	)
}
