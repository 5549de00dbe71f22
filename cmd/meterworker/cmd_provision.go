package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/meterworker/meterworker/internal/outbox"
)

// ProvisionCmd creates the streams, so that workers need no right to.
type ProvisionCmd struct {
	Settings
}

// Help shows how the command is used.
func (*ProvisionCmd) Help() string {
	return "Creates the streams, consumers and buckets that are missing, as the first worker would, and checks the others; it delivers nothing and deletes nothing. " +
		"Workers with METERWORKER_MANAGE_STREAMS=false then need no right to create them. Run it again before each update: it changes nothing that is right. " +
		"Give it the workers' settings; instead of the Stripe key METERWORKER_MODE is enough. Exit code 2 if a stream cannot be worked with.\n\nExample:\n\n" +
		"  NATS_URL=nats://provisioner:…@nats:4222 NATS_INBOX_PREFIX=_INBOX_provisioner meterworker provision --mode live"
}

// Run creates what is missing.
func (c *ProvisionCmd) Run(ctx context.Context, p *process) error {
	cfg, err := p.load(c, keyOptional)
	if err != nil {
		return err
	}
	switch {
	case cfg.NATSURL == "":
		return &usageError{errors.New("NATS_URL (--nats-url) is missing: say where the streams are to be; `meterworker run` creates those of its embedded server itself")}
	case cfg.Mode == "":
		return &usageError{errors.New("METERWORKER_MODE (--mode) is missing: set live or test, as the workers' Stripe key is; nothing else keeps test usage and live usage apart")}
	}
	return withClient(ctx, p, c, roleProvisioner, func(ctx context.Context, conn *client) error { return provision(ctx, p, conn, cfg) })
}

func provision(ctx context.Context, p *process, conn *client, cfg Config) error {
	streams, err := outbox.Open(ctx, conn.js, outbox.Settings{
		Mode: cfg.Mode, Partitions: cfg.Partitions, Replicas: cfg.StreamReplicas, Manage: true, AckWait: cfg.AckWait,
	})
	if err == nil {
		_, err = streams.Control(ctx)
	}
	if err == nil {
		_, err = streams.Reports(ctx)
	}
	if _, refused := errors.AsType[*outbox.Refused](err); refused {
		return &setupError{err}
	}
	if err != nil {
		return err // names the stream
	}
	_, err = fmt.Fprintf(p.Out, "ready: streams %s, %s, %s, %s, %s, %d consumers, buckets %s, %s; mode %s\n",
		outbox.UsageStream, outbox.JournalStream, outbox.DLQStream, outbox.AuditStream, outbox.ReportsStream,
		streams.Partitions(), outbox.ControlBucket, outbox.DurableBucket, cfg.Mode)
	return err
}
