package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"
)

// DoctorCmd looks for what is wrong, and for what will be.
type DoctorCmd struct {
	Settings
	NATSMonitor string `name:"nats-monitor" placeholder:"URL" help:"Monitoring address of the NATS server, such as http://nats:8222: the only place that tells how it syncs."`
	Output      string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a finding."`
}

// Help shows how the command is used.
func (*DoctorCmd) Help() string {
	return "Give it the worker's settings: it checks what they meet. It sends one request to Stripe, with a permit out of the account's rate, " +
		"which lists the meters; it changes nothing. Each finding is ok, a warning or a problem, with what to do about it. " +
		"What cannot be read from here is said. Exit code 1 if there is a problem.\n\nExamples:\n\n" +
		"  meterworker doctor\n" +
		"  meterworker doctor --nats-monitor http://nats:8222 -o json | jq 'select(.level != \"ok\")'"
}

// level says how bad a finding is. The list is closed.
type level string

const (
	levelOK      level = "ok"
	levelWarning level = "warning" // it works, and could be better or will not do for ever
	levelProblem level = "problem" // usage is not delivered, or may be lost or doubled
)

// finding is one line.
type finding struct {
	Level  level  `json:"level"`
	Check  string `json:"check"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"` // "" where it is ok
}

func fine(check, format string, values ...any) finding {
	return finding{Level: levelOK, Check: check, Detail: fmt.Sprintf(format, values...)}
}

func (f finding) warn(remedy string) finding {
	f.Level, f.Remedy = levelWarning, remedy
	return f
}

func (f finding) problem(remedy string) finding {
	f.Level, f.Remedy = levelProblem, remedy
	return f
}

// checks are all that the doctor does, in the order of the output. Each looks at the facts
// only; none asks anybody.
func checks() []func(facts) []finding {
	return []func(facts) []finding{
		checkReach, checkJetStream, checkVersion, checkSync, checkReplication, checkNATSClock,
		checkStreams, checkContinuity, checkRoom, checkJournalAge, checkPermissions,
		checkWorkers, checkPartitions, checkLedger, checkBacklog, checkOrders, checkLetters,
		checkStripe, checkMeters, checkStripeClock,
	}
}

// Run gathers the facts and judges them.
func (c *DoctorCmd) Run(ctx context.Context, p *process) error {
	if problem := badMonitor(c.NATSMonitor); problem != "" {
		return &usageError{fmt.Errorf("--nats-monitor=%s %s; set http://HOST:8222, for example", c.NATSMonitor, problem)}
	}
	cfg, err := p.load(c, keyOptional)
	if err != nil {
		return err
	}
	known := gatherFacts(ctx, p, c, cfg)
	if ctx.Err() != nil {
		return &silentError{exitFailed} // whoever pressed Ctrl-C needs no half of the truth
	}
	counts := map[level]int{}
	for _, check := range checks() {
		for _, f := range check(known) {
			counts[f.Level]++
			if err := c.print(p.Out, f); err != nil {
				return err
			}
		}
	}
	if c.Output == "text" {
		if _, err := fmt.Fprintf(p.Out, "%d ok, %d warnings, %d problems\n", counts[levelOK], counts[levelWarning], counts[levelProblem]); err != nil {
			return err
		}
	}
	if counts[levelProblem] > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

func badMonitor(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return "is no URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "is neither http nor https"
	case u.User != nil:
		return "has a user in it, which other users of this machine can read"
	}
	return ""
}

func (c *DoctorCmd) print(w io.Writer, f finding) error {
	if c.Output == "json" {
		return writeJSONLine(w, f)
	}
	text := fmt.Sprintf("%-8s %-19s %s", f.Level, f.Check, escapeText(f.Detail))
	if f.Remedy != "" {
		text += "; do: " + escapeText(f.Remedy)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// facts is what could be read. What could not has its error; what was not asked is nil.
type facts struct {
	cfg     Config
	nats    natsFacts
	outbox  outboxFacts
	probes  []probe
	stripe  stripeFacts
	control look // workers, backlog, letters, orders
}

// clockReading is somebody's clock, between two readings of ours.
type clockReading struct {
	began, received, said time.Time
}

// skew is by how much at least our clock is ahead, or behind (negative).
func (r clockReading) skew() time.Duration { return skewOf(r.began, r.received, r.said) }

// clockFinding judges a clock by the limits that the worker has.
func clockFinding(check, whose string, r clockReading) finding {
	skew := r.skew()
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	f := fine(check, "this machine's clock and %s agree within a minute", whose)
	if skew.Abs() > skewWarned {
		f = fine(check, "this machine's clock is at least %s %s %s", skew.Abs().Round(time.Second), word, whose)
	}
	const remedy = "set the clocks by NTP (on this machine: timedatectl set-ntp true)"
	switch {
	case skew.Abs() > skewCounted:
		return f.problem(remedy)
	case skew.Abs() > skewWarned:
		return f.warn(remedy)
	default:
		return f
	}
}
