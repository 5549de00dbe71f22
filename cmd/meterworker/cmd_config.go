package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// ConfigCmd groups the commands about the configuration.
type ConfigCmd struct {
	Check ConfigCheckCmd `cmd:"" help:"Check the configuration as 'run' would; exit 2 with every problem found."`
	Print ConfigPrintCmd `cmd:"" help:"Print every setting with its value and where it comes from; secrets are redacted."`
	Docs  ConfigDocsCmd  `cmd:"" hidden:"" help:"Print docs/configuration.md."`
}

// ConfigCheckCmd validates and starts nothing.
type ConfigCheckCmd struct {
	Settings
	Output     string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text or json."`
	WithoutKey bool   `help:"Accept a configuration without a Stripe key, for a check where none is at hand."`
}

// Help shows how the command is used.
func (*ConfigCheckCmd) Help() string {
	return "Examples:\n\n" +
		"  meterworker config check --config meterworker.yaml\n" +
		"  meterworker config check --without-key -o json"
}

// Run reports the problems, or that there are none.
func (c *ConfigCheckCmd) Run(p *process) error {
	need := keyRequired
	if c.WithoutKey {
		need = keyOptional
	}
	if c.Output == "json" {
		result, err := loadConfig(c, p.Env, need, p.Terminal)
		return checkJSON(p.Out, result, err)
	}
	if _, err := p.load(c, need); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.Out, "configuration is valid")
	return err
}

func checkJSON(w io.Writer, result loaded, err error) error {
	report := struct {
		Valid    bool      `json:"valid"`
		Problems []problem `json:"problems"`
		Warnings []string  `json:"warnings"`
	}{Valid: err == nil, Problems: []problem{}, Warnings: append([]string{}, result.Warnings...)}
	if refusal, ok := errors.AsType[*configError](err); ok {
		report.Problems = refusal.Problems
	}
	if writeErr := writeJSON(w, report); writeErr != nil {
		return writeErr
	}
	if err != nil {
		return &silentError{exitUsage}
	}
	return nil
}

// ConfigPrintCmd shows what the worker would run with.
type ConfigPrintCmd struct {
	Settings
	Output string `short:"o" enum:"table,json,yaml" default:"table" placeholder:"FORMAT" help:"table, json, or yaml, which --config reads back."`
}

// Help shows how the command is used.
func (*ConfigPrintCmd) Help() string {
	return "Examples:\n\n" +
		"  meterworker config print\n" +
		"  meterworker config print -o yaml > meterworker.yaml"
}

// Run prints the settings even where some are refused: that is when one looks.
func (c *ConfigPrintCmd) Run(p *process) error {
	result, err := loadConfig(c, p.Env, keyOptional, p.Terminal)
	p.warn(result.Warnings)
	printErr := printSettings(p.Out, c.Output, result.Settings)
	return errors.Join(printErr, err)
}

func printSettings(w io.Writer, format string, settings []setting) error {
	switch format {
	case "json":
		return printJSON(w, settings)
	case "yaml":
		return printYAML(w, settings)
	default:
		return printTable(w, settings)
	}
}

func printTable(w io.Writer, settings []setting) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SETTING\tVALUE\tSOURCE")
	for _, s := range settings {
		value := s.shown()
		if value == "" {
			value = "-"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, printableLine(value), s.Origin)
	}
	return table.Flush() // tabwriter keeps the first error of its writer
}

// printableLine keeps what a terminal would obey, escape codes above all, and
// what would break the table out of it.
func printableLine(text string) string {
	if quoted := fmt.Sprintf("%+q", text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

func printJSON(w io.Writer, settings []setting) error {
	type row struct {
		Name     string `json:"name"`
		Variable string `json:"variable"`
		Value    string `json:"value"`
		Source   origin `json:"source"`
	}
	rows := make([]row, len(settings))
	for i, s := range settings {
		rows[i] = row{s.Name, s.Variable, s.shown(), s.Origin}
	}
	return writeJSON(w, rows)
}

// printYAML writes a file that --config accepts; secrets, which it would not
// accept, and settings without a value are left out.
func printYAML(w io.Writer, settings []setting) error {
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range settings {
		if s.Secret || s.Text == "" {
			continue
		}
		value := &yaml.Node{Kind: yaml.ScalarNode, Value: s.shown(), LineComment: string(s.Origin)}
		if strings.ContainsFunc(value.Value, func(r rune) bool { return !visible(r) }) {
			value.Style = yaml.DoubleQuotedStyle // in which the escapes below are YAML's own
		}
		mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: s.Name}, value)
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	if err := errors.Join(encoder.Encode(mapping), encoder.Close()); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeLines(b.String()))
	return err
}

func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}

// ConfigDocsCmd prints the reference page.
type ConfigDocsCmd struct{}

// Run prints the page that docs/configuration.md must hold.
func (ConfigDocsCmd) Run(p *process) error {
	_, err := io.WriteString(p.Out, strings.TrimLeft(configurationPage(), "\n"))
	return err
}
