package main

import (
	"fmt"
	"runtime/debug"
)

// VersionCmd prints what this program was built from.
type VersionCmd struct {
	Output string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json."`
}

// versionInfo is what the Go toolchain recorded in the program.
type versionInfo struct {
	Version  string `json:"version"` // of the module; "(devel)" for a build from a working tree
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
		Version:  info.Main.Version,
		Revision: settings["vcs.revision"],
		Time:     settings["vcs.time"],
		Modified: settings["vcs.modified"] == "true",
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
