package compose

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// load reads docker-compose.yml in the given environment, and nothing of ours.
func load(t *testing.T, env []string, profiles ...string) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(dir, "docker-compose.yml")},
		cli.WithWorkingDirectory(dir), cli.WithName("test"), cli.WithEnv(env), cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// all is every service, the optional ones included.
func all(t *testing.T) *types.Project { t.Helper(); return load(t, nil, "observability") }

var workers = []string{"meterworker-1", "meterworker-2"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProfiles(t *testing.T) {
	always := []string{"meterworker-1", "meterworker-2", "nats", "simulator"}
	tests := []struct {
		profiles, want []string
	}{
		{nil, always},
		{[]string{"observability"}, append([]string{"grafana", "prometheus"}, always...)},
	}
	for _, tt := range tests {
		got := load(t, nil, tt.profiles...).ServiceNames()
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("profiles %q start %q, want %q", tt.profiles, got, tt.want)
		}
	}
}

// Nothing here asks for a password, so nothing listens beyond this machine.
func TestPortsAreOnLoopback(t *testing.T) {
	published := map[string]string{}
	for name, service := range all(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" || port.Published == "" {
				t.Errorf("%s publishes %+v", name, port)
			}
			if other, taken := published[port.Published]; taken {
				t.Errorf("port %s is both %s's and %s's", port.Published, name, other)
			}
			published[port.Published] = name
		}
		if service.NetworkMode != "" {
			t.Errorf("%s has network_mode %q", name, service.NetworkMode)
		}
	}
	want := map[string]string{
		"4222": "nats", "8080": "meterworker-1", "8081": "meterworker-2", "12111": "simulator", "9090": "prometheus", "3000": "grafana",
	}
	for port, name := range want {
		if published[port] != name {
			t.Errorf("port %s is %q's, want %s", port, published[port], name)
		}
	}
}

func TestServicesAreConfined(t *testing.T) {
	for name, s := range all(t).Services {
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 ||
			!slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: read-only %t, privileged %t, dropped %q, added %q, %q", name, s.ReadOnly, s.Privileged, s.CapDrop, s.CapAdd, s.SecurityOpt)
		}
		if s.Restart != "unless-stopped" {
			t.Errorf("%s: restart %q", name, s.Restart)
		}
		if s.Logging == nil || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s: the log is not bounded: %+v", name, s.Logging)
		}
	}
}

// A service without a check in the file is one of ours, whose image brings it.
func TestHealthChecks(t *testing.T) {
	brought := strings.Contains(read(t, "Dockerfile"), `CMD ["/meterworker", "healthcheck"]`)
	for name, s := range all(t).Services {
		check := s.HealthCheck
		if check == nil || check.Disable || check.Interval == nil || check.Timeout == nil || check.StartPeriod == nil || check.Retries == nil {
			t.Errorf("%s: %+v", name, check)
			continue
		}
		ours := slices.Contains(workers, name)
		switch {
		case ours && (len(check.Test) > 0 || !brought):
			t.Errorf("%s: test %q, image %t", name, check.Test, brought)
		case !ours && (len(check.Test) < 2 || check.Test[0] != "CMD"): // no shell
			t.Errorf("%s: test %q", name, check.Test)
		}
	}
}

func TestStartOrder(t *testing.T) {
	want := map[string][]string{
		"meterworker-1": {"nats", "simulator"}, "meterworker-2": {"nats", "simulator"}, "grafana": {"prometheus"},
	}
	for name, s := range all(t).Services {
		var got []string
		for dependency, how := range s.DependsOn {
			got = append(got, dependency)
			if how.Condition != types.ServiceConditionHealthy || !how.Required {
				t.Errorf("%s waits for %s: %+v", name, dependency, how)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want[name]) {
			t.Errorf("%s waits for %q, want %q", name, got, want[name])
		}
	}
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z]+)?$`)

func TestImages(t *testing.T) {
	server := regexp.MustCompile(`github\.com/nats-io/nats-server/v2 v(\S+)`).FindStringSubmatch(read(t, "go.mod"))
	if server == nil {
		t.Fatal("go.mod names no nats-server")
	}
	for name, s := range all(t).Services {
		if s.Build != nil {
			if s.Image != "meterworker:compose" || s.Build.Context == "" {
				t.Errorf("%s: image %q, %+v", name, s.Image, s.Build)
			}
			continue
		}
		if !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q is not of one version", name, s.Image)
		}
		if name == "nats" && s.Image != "nats:"+server[1]+"-alpine" {
			t.Errorf("image %q, and we are tested with %s", s.Image, server[1])
		}
	}
}

// What a service writes lies on a volume with a name; what it is given is there, and read only.
func TestMounts(t *testing.T) {
	project := all(t)
	named := map[string]bool{}
	for name, s := range project.Services {
		for _, mount := range s.Volumes {
			switch mount.Type {
			case types.VolumeTypeVolume:
				if _, declared := project.Volumes[mount.Source]; !declared {
					t.Errorf("%s: volume %q has no name of its own", name, mount.Source)
				}
				named[mount.Source] = true
			case types.VolumeTypeBind:
				if _, err := os.Stat(mount.Source); err != nil || !mount.ReadOnly {
					t.Errorf("%s mounts %s: %v, read only %t", name, mount.Source, err, mount.ReadOnly)
				}
			default:
				t.Errorf("%s: mount %+v", name, mount)
			}
		}
	}
	for volume := range project.Volumes {
		if !named[volume] {
			t.Errorf("volume %s is nobody's", volume)
		}
	}
	for service, volume := range map[string]string{"nats": "nats-data", "prometheus": "prometheus-data", "grafana": "grafana-data"} {
		if !slices.ContainsFunc(project.Services[service].Volumes, func(m types.ServiceVolumeConfig) bool { return m.Source == volume && !m.ReadOnly }) {
			t.Errorf("%s does not store on %s", service, volume)
		}
	}
}
