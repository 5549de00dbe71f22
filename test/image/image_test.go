package image

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root     = "../.."
	version  = "v1.2.3-test"
	revision = "0123456789abcdef0123456789abcdef01234567"
)

// sources are what a build reads, as .dockerignore lets it through.
var sources = []string{"cmd", "internal", "usage", "go.mod", "go.sum", "Makefile", "LICENSE"}

func copyOfTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range sources {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else {
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run gives the command neither our GOFLAGS nor a git configuration.
func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GOFLAGS=", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	var errs bytes.Buffer
	command.Stderr = &errs
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, errs.Bytes())
	}
	return out
}

func build(t *testing.T, dir, target, version string) []byte {
	t.Helper()
	run(t, dir, "make", target, "VERSION="+version, "REVISION="+revision)
	binary, err := os.ReadFile(filepath.Join(dir, "bin", "meterworker"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// A clone and an archive, in folders of different names, with and without changes that the
// build does not read.
func TestOneCommitIsOneBinary(t *testing.T) {
	archive, clone := copyOfTree(t), copyOfTree(t)
	run(t, clone, "git", "init", "--quiet")
	run(t, clone, "git", "add", ".")
	run(t, clone, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message=all")
	first, second := build(t, archive, "build", version), build(t, clone, "build", version)
	if sha256.Sum256(first) != sha256.Sum256(second) {
		t.Error("an archive and a clone of one commit differ")
	}
	if bytes.Contains(first, []byte(archive)) {
		t.Errorf("the folder %s is in the binary", archive)
	}
	if err := os.WriteFile(filepath.Join(clone, "LICENSE"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third := build(t, clone, "build", version); !bytes.Equal(first, third) {
		t.Error("a changed file that is not compiled changes the binary")
	}
	if other := build(t, clone, "build", "v9.9.9"); bytes.Equal(first, other) {
		t.Error("the version is not in the binary")
	}
}

// bill is what we ask of CycloneDX; its form is tested beside the command.
type bill struct {
	Metadata struct {
		Component struct{ Name, Version string }
	}
	Components []struct{ Name, Version string }
}

func TestImageFiles(t *testing.T) {
	dir := copyOfTree(t)
	build(t, dir, "image-files", version)
	want := map[string]fs.FileMode{
		"meterworker":                             0o755,
		"etc/ssl/certs/ca-certificates.crt":       0o644,
		"usr/share/doc/meterworker/LICENSE":       0o644,
		"usr/share/doc/meterworker/sbom.cdx.json": 0o644,
	}
	files := os.DirFS(filepath.Join(dir, "bin", "image", "root"))
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if mode, ok := want[path]; !ok || err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, want %v; %v", path, info.Mode(), mode, err)
		}
		delete(want, path)
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("missing %v, %v", want, err)
	}
	if data, err := os.ReadDir(filepath.Join(dir, "bin", "image", "data")); err != nil || len(data) > 0 {
		t.Errorf("data holds %v, %v", data, err)
	}
	binary := filepath.Join(dir, "bin", "image", "root", "meterworker")
	if got := string(run(t, dir, binary, "version")); !strings.HasPrefix(got, "meterworker "+version+" "+revision+" go1.") {
		t.Errorf("version %q", got)
	}
	wantBill(t, files, binary, run(t, dir, binary, "version", "--sbom"))
}

// wantBill compares the file with what the binary says of itself, and that with what the
// toolchain reads from it, as `go version -m` does.
func wantBill(t *testing.T, files fs.FS, binary string, printed []byte) {
	t.Helper()
	written, err := fs.ReadFile(files, "usr/share/doc/meterworker/sbom.cdx.json")
	if err != nil || !bytes.Equal(written, printed) {
		t.Errorf("the file is not the binary's: %v", err)
	}
	var b bill
	if err := json.Unmarshal(written, &b); err != nil || b.Metadata.Component.Version != version {
		t.Errorf("%v, %+v", err, b.Metadata)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	wanted, got := []string{"std " + info.GoVersion}, []string{}
	for _, dep := range info.Deps {
		wanted = append(wanted, dep.Path+" "+dep.Version)
	}
	for _, c := range b.Components {
		got = append(got, c.Name+" "+c.Version)
	}
	slices.Sort(wanted)
	slices.Sort(got)
	if !slices.Equal(wanted, got) {
		t.Errorf("the bill has %q, the binary %q", got, wanted)
	}
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	toolchain := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\d+\.\d+)\.\d+$`).FindSubmatch(text)
	if language == nil || toolchain == nil || !bytes.Equal(language[1], toolchain[1]) {
		t.Errorf("go.mod %q, Dockerfile %q", language, toolchain)
	}
	if bytes.Contains(text, []byte("# syntax=")) {
		t.Error("a front end from the network")
	}
	ignored, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"bin/image"}, sources...) {
		if !bytes.Contains(ignored, []byte("\n!"+name+"\n")) {
			t.Errorf(".dockerignore keeps %s out", name)
		}
	}
	if !bytes.Contains(ignored, []byte("\n*\n")) {
		t.Error(".dockerignore lets through what it does not name")
	}
}
