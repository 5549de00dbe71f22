package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

const description = "Delivers usage events from NATS JetStream to Stripe's billing meters, each exactly once in effect."

// newParser builds the command line. exit is called after --help was answered.
func newParser(p *process, exit func(int)) (*kong.Kong, error) {
	return kong.New(&CLI{},
		kong.Name("meterworker"),
		kong.Description(description),
		kong.Writers(p.Out, p.Err),
		kong.Exit(exit),
		kong.ValueFormatter(describeFlag),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups(groups),
	)
}

// groups are the headings of the help text and of docs/configuration.md.
var groups = []kong.Group{
	{Key: "operate", Title: "Operate:"},
	{Key: "tools", Title: "Tools:"},
	{Key: "nats", Title: "NATS:"},
	{Key: "stripe", Title: "Stripe:"},
	{Key: "delivery", Title: "Delivery:"},
	{Key: "streams", Title: "Streams:"},
	{Key: "ledger", Title: "Ledger:"},
	{Key: "http", Title: "HTTP:"},
	{Key: "tracing", Title: "Tracing and profiling:"},
	{Key: "log", Title: "Log:"},
}

// describeFlag adds the default and the environment variable to a flag's help.
func describeFlag(value *kong.Value) string {
	tag := value.Tag
	var notes []string
	if preset := tag.Get("preset"); preset != "" {
		notes = append(notes, "default "+preset)
	} else if text := tag.Get("presettext"); text != "" {
		notes = append(notes, "default "+text)
	} else if value.HasDefault {
		notes = append(notes, "default "+value.Default)
	}
	if variable := tag.Get("variable"); variable != "" {
		notes = append(notes, "$"+variable)
	}
	if len(notes) == 0 {
		return value.Help
	}
	return value.Help + " (" + strings.Join(notes, "; ") + ")"
}

// usageError is a command line that makes no sense.
type usageError struct{ err error }

// Error repeats what was wrong without what may be a key in an argument.
func (e *usageError) Error() string {
	return escapeLines(redact(e.err.Error())) + "\nRun `meterworker --help` or `meterworker <command> --help` for usage."
}

// Unwrap is the parser's error.
func (e *usageError) Unwrap() error { return e.err }

// ExitCode is that of bad usage.
func (e *usageError) ExitCode() int { return exitUsage }

// silentError ends a command that has already said why it fails.
type silentError struct{ code int }

// Error is for logs; the command line does not print it.
func (e *silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// ExitCode is the code the command chose.
func (e *silentError) ExitCode() int { return e.code }

// report prints an error and returns the exit code that it stands for.
func report(p *process, err error) int {
	if err == nil {
		return 0
	}
	if _, silent := errors.AsType[*silentError](err); !silent {
		// Names of files, words of servers and what stands in a file of settings may be in it.
		_, _ = fmt.Fprintf(p.Err, "meterworker: error: %s\n", escapeLines(err.Error()))
	}
	var coder interface{ ExitCode() int }
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return exitFailed
}
