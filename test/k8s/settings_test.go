package k8s

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	sigsyaml "sigs.k8s.io/yaml"
)

// documented are the first columns of a page's tables.
func documented(page string) []string {
	text, err := os.ReadFile(filepath.Join(repository, "docs", page))
	if err != nil {
		panic(err) // the page is part of the repository
	}
	var names []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		names = append(names, match[1])
	}
	return names
}

// settingsAreKnown: a setting that does not exist is one that somebody relies on in vain.
func settingsAreKnown(m *manifests) []string {
	known := append(documented("configuration.md"), "GOMEMLIMIT")
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(settings(m))) {
		problems = append(problems, when(!slices.Contains(known, name), "nobody reads %s", name)...)
	}
	return problems
}

// rightsInNATSAreTheWorkers: with credentials come the rights that deploy/nats gives to
// a worker, which neither creates streams nor listens to others' answers.
func rightsInNATSAreTheWorkers(m *manifests) []string {
	environment := settings(m)
	if environment["NATS_CREDS"] == "" {
		return nil
	}
	rights, err := os.ReadFile(filepath.Join(repository, "deploy/nats/permissions.conf"))
	if err != nil {
		return []string{err.Error()}
	}
	_, rest, _ := strings.Cut(string(rights), "user: worker\n")
	_, inbox, _ := strings.Cut(rest, "subscribe:")
	inbox, _, _ = strings.Cut(inbox, "\n")
	return slices.Concat(
		when(environment["METERWORKER_MANAGE_STREAMS"] != "false", "a worker may not create streams"),
		when(!strings.Contains(inbox, `"`+environment["NATS_INBOX_PREFIX"]+`.>"`), "a worker may not listen to %s, but:%s", environment["NATS_INBOX_PREFIX"], inbox),
	)
}

// productionIsForMoney: where the real Stripe is billed, a test key is refused and the loss
// of a NATS server is survived.
func productionIsForMoney(m *manifests) []string {
	environment := settings(m)
	if environment["STRIPE_API_BASE"] != "" {
		return nil
	}
	return slices.Concat(
		when(environment["METERWORKER_MODE"] != "live", "a test key would settle live usage"),
		when(environment["METERWORKER_STREAM_REPLICAS"] != "3", "usage is on %q servers", environment["METERWORKER_STREAM_REPLICAS"]),
		when(environment["STRIPE_WEBHOOK_SECRET_FILE"] == "", "nobody hears of usage that Stripe rejects later"),
	)
}

// secretsAreFolders: each setting that names a file below /run/secrets finds it in a
// Secret that is mounted as a folder and provided by somebody.
func secretsAreFolders(m *manifests) []string {
	problems := eachContainer(m, func(_ *corev1.PodSpec, c *corev1.Container) []string {
		return when(slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return v.SubPath != "" || v.SubPathExpr != "" }),
			"a subPath never sees a rotation")
	})
	environment := settings(m)
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if file := environment[name]; strings.HasPrefix(file, "/run/") {
			problems = append(problems, when(!slices.Contains(provided(m), file), "%s: nobody provides %s", name, file)...)
		}
	}
	_, given := environment["STRIPE_API_KEY_FILE"]
	return append(problems, when(!given, "the key is not in a file")...)
}

// provided are the files that the worker's mounted Secrets hold.
func provided(m *manifests) []string {
	d, c := worker(m)
	var files []string
	for _, mount := range c.VolumeMounts {
		for _, volume := range d.Spec.Template.Spec.Volumes {
			if volume.Name != mount.Name || volume.Secret == nil || volume.Secret.DefaultMode == nil || *volume.Secret.DefaultMode != 0o440 {
				continue
			}
			for _, key := range secretKeys(m, volume.Secret.SecretName) {
				files = append(files, path.Join(mount.MountPath, key))
			}
		}
	}
	return files
}

// secretKeys are the keys of a Secret, whether it is here or made by an operator.
func secretKeys(m *manifests, name string) []string {
	var keys []string
	if secret := named[*corev1.Secret](m, name); secret != nil {
		keys = slices.Sorted(maps.Keys(secret.Data))
	}
	for _, external := range custom(m, "ExternalSecret") {
		if target, _, _ := unstructured.NestedString(external.Object, "spec", "target", "name"); target != name {
			continue
		}
		data, _, _ := unstructured.NestedSlice(external.Object, "spec", "data")
		for _, entry := range data {
			key, _, _ := unstructured.NestedString(entry.(map[string]any), "secretKey")
			keys = append(keys, key)
		}
	}
	return keys
}

// noSecretIsWrittenDown: the one Secret in the repository holds what no Stripe takes.
func noSecretIsWrittenDown(m *manifests) []string {
	environment := settings(m)
	var problems []string
	for _, name := range []string{"STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"} {
		_, given := environment[name]
		problems = append(problems, when(given, "%s is in the environment", name)...)
	}
	for _, secret := range all[*corev1.Secret](m) {
		for key, value := range secret.Data {
			problems = append(problems, when(string(value) != "sk_test_simulator", "%s: %s is a secret", describe(secret), key)...)
		}
	}
	for _, o := range m.objects {
		looksLike := regexp.MustCompile(`(sk|rk)_live_|whsec_|://[^/]*:[^/]*@`).FindString(fmt.Sprint(o))
		problems = append(problems, when(looksLike != "", "%s holds %s…", describe(o), looksLike)...)
	}
	return problems
}

func secretsOutliveTheirStore(m *manifests) []string {
	var problems []string
	for _, external := range custom(m, "ExternalSecret") {
		policy, _, _ := unstructured.NestedString(external.Object, "spec", "target", "deletionPolicy")
		store, _, _ := unstructured.NestedString(external.Object, "spec", "secretStoreRef", "name")
		there := slices.ContainsFunc(custom(m, "SecretStore"), func(s *unstructured.Unstructured) bool { return s.GetName() == store })
		problems = slices.Concat(
			problems,
			when(policy != "Retain", "%s goes with its source", describe(external)),
			when(!there, "%s has no store", describe(external)),
		)
	}
	for _, store := range custom(m, "SecretStore") {
		account, _, _ := unstructured.NestedString(store.Object, "spec", "provider", "aws", "auth", "jwt", "serviceAccountRef", "name")
		reader := named[*corev1.ServiceAccount](m, account)
		problems = append(problems, when(reader == nil || reader.Annotations["eks.amazonaws.com/role-arn"] == "", "%s reads as nobody", describe(store))...)
	}
	return problems
}

// alertsAreThoseThatAreTested: where metrics are scraped the rules of deploy/prometheus, which
// have unit tests, are loaded, and no others.
func alertsAreThoseThatAreTested(m *manifests) []string {
	if len(custom(m, "PodMonitor")) == 0 {
		return nil
	}
	var tested map[string]any
	text, err := os.ReadFile(filepath.Join(repository, "deploy/prometheus/alerts.yaml"))
	if err == nil {
		err = sigsyaml.Unmarshal(text, &tested)
	}
	if err != nil {
		return []string{err.Error()}
	}
	rules := custom(m, "PrometheusRule")
	if len(rules) != 1 {
		return []string{"there is not one PrometheusRule"}
	}
	groups, _, err := unstructured.NestedFieldNoCopy(rules[0].Object, "spec", "groups")
	return when(err != nil || !reflect.DeepEqual(groups, tested["groups"]), "the alerts are not those of deploy/prometheus (make docs)")
}

// TestWorkerTakesTheSettings has the worker itself judge every overlay's settings.
func TestWorkerTakesTheSettings(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "meterworker")
	build := exec.Command("go", "build", "-C", repository, "-o", binary, "./cmd/meterworker")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, overlay := range overlays(t) {
		t.Run(overlay, func(t *testing.T) {
			environment := settings(render(t, overlay))
			mode := environment["METERWORKER_MODE"]
			if out, err := configCheck(t, binary, environment, mode); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			environment["METERWORKER_SHUTDOWN_TIMEOUT"] = "25"
			if out, err := configCheck(t, binary, environment, mode); err == nil || !strings.Contains(out, "METERWORKER_SHUTDOWN_TIMEOUT") {
				t.Errorf("a duration without its unit passes: %v: %s", err, out)
			}
		})
	}
}

// configCheck runs `meterworker config check` with files that stand in for the Secrets.
func configCheck(t *testing.T, binary string, environment map[string]string, mode string) (string, error) {
	t.Helper()
	folder := t.TempDir()
	check := exec.Command(binary, "config", "check")
	for name, value := range environment {
		if strings.HasPrefix(value, "/run/secrets/") {
			value = filepath.Join(folder, name)
			key := "sk_" + map[string]string{"live": "live", "": "test"}[mode] + "_standin"
			if name == "STRIPE_WEBHOOK_SECRET_FILE" {
				key = "whsec_standin"
			}
			if err := os.WriteFile(value, []byte(key), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		check.Env = append(check.Env, name+"="+value)
	}
	out, err := check.CombinedOutput()
	return string(out), err
}
