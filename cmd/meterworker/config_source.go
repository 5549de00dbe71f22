package main

import (
	"maps"
	"slices"
	"strings"
)

// origin says where a value came from.
type origin string

// The origins, the strongest first.
const (
	fromFlag        origin = "flag"
	fromEnvironment origin = "environment"
	fromFile        origin = "file"
	fromDefault     origin = "default"
)

// environment holds the process's variables by name.
type environment map[string]string

// newEnvironment reads the form of os.Environ.
func newEnvironment(pairs []string) environment {
	env := make(environment, len(pairs))
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// setting is a definition with the text that won and where it came from. The
// text of a secret is never here.
type setting struct {
	definition
	Text   string
	Origin origin
}

// Given tells a value that somebody chose from a preset.
func (s setting) Given() bool { return s.Origin != fromDefault }

// shown is the value as it may be printed.
func (s setting) shown() string {
	if s.URL {
		return redactURL(s.Text)
	}
	return redact(s.Text)
}

// gather finds the text of every setting: flag, else environment, else file,
// else preset. An empty variable counts as not set, since that is what compose
// files and manifests leave behind for a value they were not given.
func gather(flags map[string]string, env environment) ([]setting, []problem) {
	known := definitions()
	var fromYAML map[string]string
	var problems []problem
	if path, ok := flags["config"]; ok {
		fromYAML, problems = readSettingsFile(path, known)
	}
	settings := make([]setting, len(known))
	for i, def := range known {
		settings[i] = pick(def, flags, env, fromYAML)
	}
	return settings, problems
}

func pick(def definition, flags map[string]string, env environment, file map[string]string) setting {
	if text, ok := flags[def.Name]; ok {
		return setting{def, text, fromFlag}
	}
	if text := env[def.Variable]; text != "" {
		if def.Secret {
			text = redacted // whoever needs it reads the environment
		}
		return setting{def, text, fromEnvironment}
	}
	if text, ok := file[def.Name]; ok {
		return setting{def, text, fromFile}
	}
	return setting{def, def.Preset, fromDefault}
}

// mistypedVariables warns of variables that are ours by prefix, mean nothing,
// and are one or two letters from one that does. Kubernetes puts variables like
// METERWORKER_SERVICE_HOST there by itself, so the others are left in peace.
func mistypedVariables(env environment) []string {
	const typo = 2
	var variables, warnings []string
	for _, def := range definitions() {
		variables = append(variables, def.Variable)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		ours := strings.HasPrefix(name, "METERWORKER_") || strings.HasPrefix(name, "STRIPE_")
		if !ours || slices.Contains(variables, name) {
			continue
		}
		if near := nearest(name, variables); near != "" && distance(name, near) <= typo {
			warnings = append(warnings, name+" is not a setting and has no effect; did you mean "+near+"?")
		}
	}
	return warnings
}
