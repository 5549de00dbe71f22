//go:build container

package container

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// inspected is what we ask of an image.
type inspected struct {
	Size   int64
	Config struct {
		User, StopSignal, WorkingDir string
		Entrypoint, Cmd, Env         []string
		Labels                       map[string]string
		ExposedPorts, Volumes        map[string]struct{}
		Healthcheck                  struct{ Test []string }
	}
}

func TestImage(t *testing.T) {
	var images []inspected
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", image)), &images); err != nil || len(images) != 1 {
		t.Fatal(err, images)
	}
	c := images[0].Config
	t.Logf("size: %.1f MB", float64(images[0].Size)/1e6)
	if images[0].Size > 40e6 {
		t.Errorf("%d bytes are more than the binary and its roots", images[0].Size)
	}
	for what, pair := range map[string][2]string{
		"user": {c.User, "65532:65532"}, "stop signal": {c.StopSignal, "SIGTERM"},
		"entrypoint": {strings.Join(c.Entrypoint, " "), "/meterworker"}, "command": {strings.Join(c.Cmd, " "), "run"},
		"health check": {strings.Join(c.Healthcheck.Test, " "), "CMD /meterworker healthcheck"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q, want %q", what, pair[0], pair[1])
		}
	}
	for label, want := range map[string]string{
		"title": "meterworker", "licenses": "Apache-2.0", "version": version, "revision": revision,
		"source": "https://github.com/meterworker/meterworker",
	} {
		if got := c.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("label %s: %q, want %q", label, got, want)
		}
	}
	if c.Labels["org.opencontainers.image.description"] == "" {
		t.Error("no description")
	}
	_, admin := c.ExposedPorts["8080/tcp"]
	_, webhooks := c.ExposedPorts["4242/tcp"]
	_, data := c.Volumes["/data"]
	if !admin || !webhooks || !data || !slices.Contains(c.Env, "METERWORKER_DATA_DIR=/data") {
		t.Errorf("ports %v, volumes %v, environment %q", c.ExposedPorts, c.Volumes, c.Env)
	}
}

// The whole image, file by file: no shell, nothing that its user could write but /data.
func TestImageHoldsNothingElse(t *testing.T) {
	id := docker(t, "create", image)
	t.Cleanup(func() { docker(t, "rm", "--volumes", id) })
	path := filepath.Join(t.TempDir(), "image.tar")
	docker(t, "export", "--output", path, id)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got := map[string]string{}
	for archive := tar.NewReader(f); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Size > 0 || strings.HasPrefix(h.Name, "data") {
			got[h.Name] = fmt.Sprintf("%d:%d %o", h.Uid, h.Gid, h.Mode&0o777)
		}
	}
	want := map[string]string{
		"data/":                                   "65532:65532 755",
		"meterworker":                             "0:0 755",
		"etc/ssl/certs/ca-certificates.crt":       "0:0 644",
		"usr/share/doc/meterworker/LICENSE":       "0:0 644",
		"usr/share/doc/meterworker/sbom.cdx.json": "0:0 644",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, shell := range []string{"/bin/sh", "/bin/bash", "/busybox/sh"} {
		if out, err := command1("docker", "run", "--rm", "--entrypoint", shell, image, "-c", "true"); err == nil {
			t.Errorf("%s: %s", shell, out)
		}
	}
}

func TestBillOfMaterialsInTheImage(t *testing.T) {
	id := docker(t, "create", image)
	t.Cleanup(func() { docker(t, "rm", "--volumes", id) })
	path := filepath.Join(t.TempDir(), "sbom.cdx.json")
	docker(t, "cp", id+":/usr/share/doc/meterworker/sbom.cdx.json", path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	said := docker(t, "run", "--rm", "--read-only", "--network", "none", image, "version", "--sbom")
	if strings.TrimSpace(string(text)) != said || !strings.Contains(said, `"version": "`+version+`"`) {
		t.Errorf("the file is not the binary's:\n%s\n%s", text, said)
	}
}

// One container and nothing else: the embedded server on the volume, nothing written
// beside it, ready by the image's own probe, an orderly end.
func TestImageRunsReadOnly(t *testing.T) {
	id := docker(t, "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true",
		"--env", "STRIPE_API_KEY=sk_test_x", "--env", "STRIPE_API_BASE=http://127.0.0.1:12111", "--health-interval", "1s", image)
	t.Cleanup(func() { docker(t, "rm", "--force", "--volumes", id) })
	wantSoon(t, "health", time.Minute, func() error { return health(id) })
	if changed := docker(t, "diff", id); changed != "" {
		t.Errorf("written beside the volume: %s", changed)
	}
	docker(t, "stop", "--time", "30", id)
	if code := docker(t, "inspect", "--format", "{{.State.ExitCode}}", id); code != "0" {
		t.Errorf("exit code %s\n%s", code, docker(t, "logs", id))
	}
}

// An empty volume with another owner is said, not guessed at.
func TestVolumeOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	out, err := command1("docker", "run", "--rm", "--read-only", "--env", "STRIPE_API_KEY=sk_test_x", "--volume", dir+":/data", image)
	if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "METERWORKER_DATA_DIR") {
		t.Errorf("%q, %v", out, err)
	}
}
