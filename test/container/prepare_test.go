//go:build container

package container

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const (
	image    = "meterworker:compose" // as docker-compose.yml calls it
	version  = "v0.0.0-container"
	revision = "0123456789abcdef0123456789abcdef01234567"
)

// prepare builds programs and images. Compose builds ours by docker-compose.yml.
func prepare(dir string) error {
	built.compose = filepath.Join(dir, "docker-compose")
	if _, err := command1("go", "build", "-C", "test/container", "-trimpath", "-o", built.compose, "github.com/docker/compose/v2/cmd"); err != nil {
		return err
	}
	if _, err := command1("make", "image-files", "VERSION="+version, "REVISION="+revision); err != nil {
		return err
	}
	program, err := filepath.Abs(filepath.Join(root, "bin/meterworker"))
	if err != nil {
		return err
	}
	built.meterworker = program
	if _, err := commandIn([]string{"VERSION=" + version, "REVISION=" + revision}, built.compose,
		"build", "--build-arg", "ARTEFACTS=prebuilt", "meterworker-1"); err != nil {
		return err
	}
	return natsImage(dir)
}

var natsTag = regexp.MustCompile(`(?m)^    image: (nats:\S+)`)

// natsImage is the one of docker-compose.yml, or a stand-in of the same server.
func natsImage(dir string) error {
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		return err
	}
	tag := natsTag.FindSubmatch(text)
	if tag == nil {
		return fmt.Errorf("docker-compose.yml names no nats image")
	}
	name := string(tag[1])
	if _, err := command1("docker", "image", "inspect", name); err == nil {
		return nil
	}
	if _, err := command1("docker", "pull", "--quiet", name); err == nil {
		return nil
	}
	fmt.Printf("%s cannot be pulled: the nats-server of go.mod stands in\n", name)
	files := filepath.Join(dir, "nats")
	static := []string{"CGO_ENABLED=0"}
	for program, from := range map[string][]string{
		"usr/local/bin/nats-server": {"github.com/nats-io/nats-server/v2"},
		"usr/bin/wget":              {"-C", "test/container", "./wget"},
	} {
		args := []string{"build", "-trimpath", "-o", filepath.Join(files, program)}
		if len(from) > 1 {
			args = append([]string{"build", from[0], from[1]}, args[1:]...)
		}
		if _, err := commandIn(static, "go", append(args, from[len(from)-1])...); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(files, "Dockerfile"), []byte("FROM scratch\nCOPY usr /usr\n"), 0o600); err != nil {
		return err
	}
	_, err = command1("docker", "build", "--tag", name, files)
	return err
}
