package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// longestFile bounds the file of settings in bytes; the full set takes 4 KiB.
const longestFile = 1 << 20

// readSettingsFile reads a YAML file of settings into texts by name. What is
// wrong with single keys comes back as problems, all of them at once.
func readSettingsFile(path string, known []definition) (map[string]string, []problem) {
	const readable = "name a readable YAML file, or leave --config out"
	if detail := unreadable(path); detail != "" {
		return nil, []problem{fileProblem(path, detail, readable)}
	}
	content, err := readBounded(path)
	if err != nil {
		return nil, []problem{fileProblem(path, withoutPath(err), readable)}
	}
	pairs, err := settingsNodes(content)
	if err != nil {
		return nil, []problem{fileProblem(path, err.Error(), "write one \"name: value\" a line, as in docs/configuration.md")}
	}
	texts := map[string]string{}
	var problems []problem
	for i := 0; i+1 < len(pairs); i += 2 {
		name, text, problem := settingOf(pairs[i], pairs[i+1], known)
		if _, twice := texts[name]; problem == nil && twice {
			problem = keyProblem(pairs[i], "the key stands twice", "keep one of the two")
		}
		if problem != nil {
			problem.Detail = fmt.Sprintf("%s, line %d: %s", redact(path), pairs[i].Line, problem.Detail)
			problems = append(problems, *problem)
			continue
		}
		texts[name] = text
	}
	return texts, problems
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, longestFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > longestFile {
		return nil, fmt.Errorf("longer than %d bytes", longestFile)
	}
	return content, nil
}

// settingsNodes is the one mapping of a YAML file, as keys and values in turn;
// an empty file has none.
func settingsNodes(content []byte) ([]*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, errors.New(redact(err.Error()))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("not a mapping of names to values")
	}
	return root.Content, nil
}

// settingOf reads one pair. The text is taken as written, so that the same rules
// judge it as in a flag or a variable.
func settingOf(key, value *yaml.Node, known []definition) (name, text string, _ *problem) {
	def, ok := findDefinition(known, key.Value)
	switch {
	case !ok:
		return "", "", unknownKey(key, known)
	case def.Secret:
		return "", "", keyProblem(key, "a secret has no place in a file of settings",
			fmt.Sprintf("set %s_FILE, or %s in the environment", def.Variable, def.Variable))
	case value.Kind != yaml.ScalarNode:
		return "", "", keyProblem(key, "not a single value", "write one value behind the key")
	case value.Tag == "!!null":
		return "", "", keyProblem(key, "has no value", "give it one, or leave the key out for the default")
	}
	return def.Name, value.Value, nil
}

func findDefinition(known []definition, name string) (definition, bool) {
	for _, def := range known {
		if def.Name == name {
			return def, true
		}
	}
	return definition{}, false
}

func unknownKey(key *yaml.Node, known []definition) *problem {
	remedy := "docs/configuration.md lists the keys"
	names := make([]string, len(known))
	for i, def := range known {
		names[i] = def.Name
	}
	if near := nearest(key.Value, names); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	return keyProblem(key, "unknown key", remedy)
}

func keyProblem(key *yaml.Node, detail, remedy string) *problem {
	return &problem{Setting: strconv.Quote(shorten(redact(key.Value))), Source: fromFile, Detail: detail, Remedy: remedy}
}

func fileProblem(path, detail, remedy string) problem {
	return problem{Setting: "--config", Source: fromFlag, Value: shorten(redact(path)), Detail: detail, Remedy: remedy}
}
