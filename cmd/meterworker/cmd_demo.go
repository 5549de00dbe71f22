package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds of --events: below, not every kind of trouble fits in; above, the plan
// takes gigabytes of memory. Of --replicas: each takes at least a partition or two.
const (
	demoLeast        = 100
	demoMost         = 1_000_000
	demoMostReplicas = 12
)

// DemoCmd shows the whole worker at work on nothing but this program.
type DemoCmd struct {
	Events   int    `default:"5000" placeholder:"N" help:"Messages to publish, 100 to 1000000; the default takes some ten seconds."`
	Replicas int    `default:"1" placeholder:"N" help:"Workers that share the traffic, 1 to 12."`
	Output   string `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"Form of the books at the end: text or json."`
	Verbose  bool   `short:"v" help:"Show the workers' log."`
}

// Help is the text below the one-line description.
func (*DemoCmd) Help() string {
	return `Starts a NATS server, a simulated Stripe that is stricter than Stripe, and workers, all in this process and on ` +
		`loopback; publishes events, repeats of them, conflicting and bad ones; lets Stripe fail in many ways meanwhile; and holds ` +
		`what Stripe counted and what is in the dead letters against the plan, by identifier and units.

It needs no key and no network, leaves nothing behind, and reads none of the settings for real workers. It exits 0 only if the books balance.

Examples:
  meterworker demo
  meterworker demo --events 20000 --replicas 3
  meterworker demo -o json | jq .dead_letters`
}

// Run plays the demo and presents its books.
func (c *DemoCmd) Run(ctx context.Context, p *process) error {
	if err := c.check(); err != nil {
		return &usageError{err}
	}
	reportBrokenPipe() // or `| head` would leave the folder behind
	d, err := newDemo(c, p)
	if err != nil {
		return err
	}
	evidence, err := d.play(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return d.present(p, evidence)
}

func (c *DemoCmd) check() error {
	switch {
	case c.Events < demoLeast || c.Events > demoMost:
		return fmt.Errorf("--events=%d is not within %d to %d", c.Events, demoLeast, demoMost)
	case c.Replicas < 1 || c.Replicas > demoMostReplicas:
		return fmt.Errorf("--replicas=%d is not within 1 to %d", c.Replicas, demoMostReplicas)
	}
	return nil
}

func newDemo(c *DemoCmd, p *process) (*demo, error) {
	traffic, err := planDemo(c.Events, time.Now())
	if err != nil {
		return nil, err
	}
	level, live := "warn", p.Terminal
	if c.Verbose {
		level, live = "info", false
	}
	d := &demo{command: c, traffic: traffic, screen: &demoScreen{out: p.Err, live: live}}
	d.log, err = newLog(d.screen, level, "console")
	return d, err
}

// present closes the books; an error says that they do not balance.
func (d *demo) present(p *process, evidence demoEvidence) error {
	books := d.traffic.audit(evidence)
	books.Replicas, books.Seconds = d.command.Replicas, d.took.Seconds()
	var err error
	if d.command.Output == "json" {
		err = writeJSON(p.Out, books)
	} else {
		err = books.print(p.Out)
	}
	if !books.Balanced {
		err = errors.Join(err, fmt.Errorf("demo: the books do not balance: %d differences", len(books.Differences)))
	}
	return err
}
