package main

import (
	"fmt"
	"regexp"
	"strings"
)

// secret is a text that no formatting and no encoder shows.
type secret string

const redacted = "(redacted)"

// String hides the text.
func (secret) String() string { return redacted }

// GoString hides the text.
func (secret) GoString() string { return redacted }

// MarshalText hides the text.
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil } //nolint:unparam // the interface has the error

// keyPattern finds what looks like a key of Stripe's wherever it was put by
// mistake, a file name included. The prefix stays: it tells what was mixed up.
var keyPattern = regexp.MustCompile(`((?:sk|rk|pk|ek)_(?:live|test)_)[A-Za-z0-9_-]+|(whsec_)[A-Za-z0-9+/=_-]+`)

// userinfoPattern finds user names and passwords of URLs inside a sentence. A
// NATS URL may hold a token in the user's place, so both are hidden.
var userinfoPattern = regexp.MustCompile(`(\w+://)[^\s"]*@`)

// redact makes a sentence fit to be shown.
func redact(text string) string {
	text = keyPattern.ReplaceAllString(text, "${1}${2}"+redacted)
	return userinfoPattern.ReplaceAllString(text, "${1}"+redacted+"@")
}

// redactURL hides everything before the last @ but the scheme. A password may
// hold any character, even those that would end it in a well-formed URL, so in a
// list of addresses with passwords all but the last host go with them.
func redactURL(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return redact(text)
	}
	scheme, _, ok := strings.Cut(text[:at], "://")
	if !ok {
		return redacted + redact(text[at:])
	}
	return redact(scheme) + "://" + redacted + redact(text[at:])
}

// shorten cuts a value to a length that people read.
func shorten(text string) string {
	const longest = 200
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// problem is one refusal: the setting, the value, what is wrong, what to do.
type problem struct {
	Setting  string `json:"setting"`
	Variable string `json:"variable,omitempty"`
	Source   origin `json:"source,omitempty"`
	Value    string `json:"value,omitempty"` // redacted; empty for secrets
	Detail   string `json:"detail"`
	Remedy   string `json:"remedy"`
}

// String is the problem as one line.
func (p problem) String() string {
	var b strings.Builder
	b.WriteString(p.names())
	if p.Value != "" {
		fmt.Fprintf(&b, " = %q", p.Value)
	}
	if p.Source != "" && p.Source != fromDefault {
		fmt.Fprintf(&b, " (%s)", p.Source)
	}
	b.WriteString(": " + p.Detail + "; " + p.Remedy)
	return b.String()
}

// names is the environment variable and the flag, whichever exist.
func (p problem) names() string {
	switch {
	case p.Variable == "":
		return p.Setting
	case p.Setting == "":
		return p.Variable
	default:
		return fmt.Sprintf("%s (--%s)", p.Variable, p.Setting)
	}
}

// configError carries every problem of a configuration.
type configError struct {
	Problems []problem
}

// Error is one line for a single problem, and a list for more.
func (e *configError) Error() string {
	if len(e.Problems) == 1 {
		return "configuration: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration: %d problems", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// ExitCode is that of bad usage or configuration.
func (e *configError) ExitCode() int { return exitUsage }
