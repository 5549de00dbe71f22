package main

import "context"

// RunCmd is the daemon.
type RunCmd struct {
	Settings
}

// Help is the text below the one-line description.
func (*RunCmd) Help() string {
	return `Takes usage from the stream USAGE and delivers each event to Stripe, once in effect, until SIGTERM or SIGINT; ` +
		`then finishes what is in flight within the shutdown timeout, hands back the rest and exits 0.

Without NATS_URL it starts a NATS server of its own on 127.0.0.1:4222 that stores in the data dir, every write synced.

Example:
  STRIPE_API_KEY_FILE=/run/secrets/stripe NATS_URL=nats://nats:4222 meterworker run`
}

// Run serves until ctx ends.
func (c *RunCmd) Run(ctx context.Context, p *process) error {
	cfg, err := p.load(c, keyRequired)
	if err != nil {
		return err
	}
	log, err := newLog(p.Err, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	return runDaemon(ctx, cfg, log)
}
