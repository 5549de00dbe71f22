package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"
)

// version and revision are set by the linker (`make build`). The toolchain's own stamp is
// off there: it differs between a clone and an archive of one and the same commit.
var version, revision string

// VersionCmd prints what this program was built from.
type VersionCmd struct {
	Output string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json."`
	SBOM   bool   `name:"sbom" help:"Print the bill of materials instead: every module in this program, as CycloneDX JSON."`
}

// versionInfo is what the linker and the Go toolchain recorded in the program.
type versionInfo struct {
	Version  string `json:"version"` // "(devel)" for a build from a working tree without make
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"` // of the revision, RFC 3339
	Modified bool   `json:"modified"`       // the working tree had changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the version.
func (c VersionCmd) Run(p *process) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("this program was built without module information")
	}
	v := newVersionInfo(info)
	if c.SBOM {
		return writeJSON(p.Out, newBillOfMaterials(info, v))
	}
	if c.Output == "json" {
		return writeJSON(p.Out, v)
	}
	_, err := fmt.Fprintln(p.Out, v)
	return err
}

func newVersionInfo(info *debug.BuildInfo) versionInfo {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return versionInfo{
		Version:  cmp.Or(version, info.Main.Version),
		Revision: cmp.Or(revision, settings["vcs.revision"]),
		Time:     settings["vcs.time"],
		Modified: settings["vcs.modified"] == "true" || strings.HasSuffix(version, "-dirty"),
		Go:       info.GoVersion,
		Platform: settings["GOOS"] + "/" + settings["GOARCH"],
	}
}

// String is the version as one line.
func (v versionInfo) String() string {
	text := "meterworker " + v.Version
	if v.Revision != "" {
		text += " " + v.Revision
	}
	if v.Modified {
		text += " (modified)"
	}
	return text + " " + v.Go + " " + v.Platform
}
