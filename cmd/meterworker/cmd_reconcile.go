package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/reconcile"
)

// ReconcileCmd compares what was delivered with what Stripe has counted.
type ReconcileCmd struct {
	Settings
	ActorSettings
	Since     *string        `placeholder:"TIME" help:"First hour: RFC 3339, or how long ago, such as 6h or 2d (default 24h before the end)." group:"Period:"`
	Until     *string        `placeholder:"TIME" help:"Behind the last hour, in the same forms (default the last full hour that is over for as long as --settle)." group:"Period:"`
	EventName *string        `placeholder:"NAME" help:"This meter only." group:"Filter:"`
	Customer  *string        `placeholder:"ID" help:"This customer only, also where nothing was delivered to it." group:"Filter:"`
	Settle    time.Duration  `default:"15m" placeholder:"DURATION" help:"How long Stripe's sums may take to take a delivery in: nothing younger is called a difference."`
	Wait      *time.Duration `placeholder:"DURATION" help:"How long to wait for sums that are still moving, after the second look (default 2 x settle)."`
	LookEvery time.Duration  `default:"30s" placeholder:"DURATION" help:"Time between two looks at what differs."`
	ReadRate  float64        `default:"25" placeholder:"N" help:"At most so many requests to Stripe a second; each also takes a permit out of the account's rate."`
	Apply     bool           `help:"Do what the sums prove about ambiguous dead letters: discard what was counted, replay what was not."`
	Yes       bool           `short:"y" help:"Do not ask before applying."`
	Why       string         `placeholder:"TEXT" help:"The reason, kept in the audit trail; required with --apply."`
	Output    string         `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// Help shows how the command is used.
func (*ReconcileCmd) Help() string {
	return "Give it the worker's settings. It adds up what was delivered by meter, customer and hour of the events' timestamps, out of the outbox's retained past, " +
		"and compares it with Stripe's event summaries. What differs is looked at again until both sides have come to rest, and named with what can explain it: " +
		"dead letters, rejections, events in flight, other senders. Customers that nothing was delivered to are not looked at, unless named by --customer. " +
		"Changes nothing without --apply. Exit code 0 if there is no difference, 1 if there is one or the comparison is not complete.\n\nExamples:\n\n" +
		"  meterworker reconcile\n" +
		"  meterworker reconcile --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z -o json\n" +
		"  meterworker reconcile --since 2d --apply --why \"monthly close\""
}

// Run compares, shows, and settles.
func (c *ReconcileCmd) Run(ctx context.Context, p *process) error {
	cfg, err := p.load(c, keyRequired)
	if err != nil {
		return err
	}
	period, err := c.check(p, cfg, time.Now())
	if err != nil {
		return &usageError{err}
	}
	return withClient(ctx, p, c, roleOperator, func(ctx context.Context, conn *client) error {
		run, work, err := c.prepare(ctx, p, conn, cfg, period)
		if err != nil {
			return err
		}
		defer work.close()
		report, err := run.Do(ctx)
		work.progress.clear()
		if ctx.Err() != nil {
			_, _ = fmt.Fprintln(p.Err, "meterworker: interrupted: nothing was compared to the end, and nothing was changed")
			return &silentError{exitFailed}
		}
		if err != nil {
			return err
		}
		if err := c.show(p, report, work.received); err != nil {
			return err
		}
		err = c.settle(ctx, p, conn, work, report)
		return worse(differing(report), err)
	})
}

// differing is the exit code of a comparison.
func differing(r reconcile.Report) error {
	if r.Trimmed > 0 || r.Count(reconcile.Less)+r.Count(reconcile.More)+r.Count(reconcile.Unsettled) > 0 {
		return &silentError{exitFailed}
	}
	return nil
}

const (
	defaultPeriod  = 24 * time.Hour
	longestSettle  = 24 * time.Hour
	longestWait    = 7 * 24 * time.Hour
	mostReadRate   = 1000
	shortestLookup = time.Millisecond
)

// check refuses what cannot be compared.
func (c *ReconcileCmd) check(p *process, cfg Config, now time.Time) (reconcile.Period, error) {
	switch {
	case c.Settle < 0 || c.Settle > longestSettle:
		return reconcile.Period{}, fmt.Errorf("--settle=%s is not from 0s to %s", c.Settle, longestSettle)
	case c.Wait != nil && (*c.Wait < 0 || *c.Wait > longestWait):
		return reconcile.Period{}, fmt.Errorf("--wait=%s is not from 0s to %s", *c.Wait, longestWait)
	case c.LookEvery < shortestLookup || c.LookEvery > longestSettle:
		return reconcile.Period{}, fmt.Errorf("--look-every=%s is not from %s to %s", c.LookEvery, shortestLookup, longestSettle)
	case !(c.ReadRate > 0 && c.ReadRate <= mostReadRate):
		return reconcile.Period{}, fmt.Errorf("--read-rate=%v is not above 0 and up to %d", c.ReadRate, mostReadRate)
	case c.EventName != nil && *c.EventName == "":
		return reconcile.Period{}, errors.New("--event-name is empty; give a value, or leave it out")
	case c.Customer != nil && *c.Customer == "":
		return reconcile.Period{}, errors.New("--customer is empty; give a value, or leave it out")
	case c.Apply && !c.Yes && !canAsk(p):
		return reconcile.Period{}, errors.New("there is no terminal to ask on; give --yes, or leave --apply out to look first")
	case c.Apply:
		if err := whyMissing(c.Why, "the record of what was settled"); err != nil {
			return reconcile.Period{}, err
		}
	}
	return c.period(cfg, now)
}

// period is that of whole hours, of which the outbox still has the messages.
func (c *ReconcileCmd) period(cfg Config, now time.Time) (reconcile.Period, error) {
	none := reconcile.Period{}
	until, err := wholeHour("--until", c.Until, now, now.Add(-c.Settle))
	if err != nil {
		return none, err
	}
	since, err := wholeHour("--since", c.Since, now, until.Add(-defaultPeriod))
	kept := now.Add(-cfg.Retention + reconcile.Early)
	switch {
	case err != nil:
		return none, err
	case !since.Before(until):
		return none, fmt.Errorf("--since (%s) is not before --until (%s), so there is nothing to compare", rfc3339(since), rfc3339(until))
	case until.After(now):
		return none, fmt.Errorf("--until (%s) is not over yet", rfc3339(until))
	case since.Before(kept):
		return none, fmt.Errorf("--since (%s) is before what the outbox keeps: METERWORKER_RETENTION is %s, so begin at %s or later", rfc3339(since), cfg.Retention, rfc3339(kept.Add(time.Hour-1).Truncate(time.Hour)))
	}
	return reconcile.Period{Since: since, Until: until}, nil
}

// wholeHour takes how long ago as the beginning of that hour, and a time as it is.
func wholeHour(flag string, value *string, now, preset time.Time) (time.Time, error) {
	if value == nil {
		return preset.UTC().Truncate(time.Hour), nil
	}
	t, err := parseMoment(flag, value, now)
	if err != nil {
		return t, err
	}
	whole := t.UTC().Truncate(time.Hour)
	if _, err := time.Parse(time.RFC3339, *value); err == nil && !whole.Equal(t) {
		return t, fmt.Errorf("%s=%s is no whole hour, which Stripe's sums are of; give %s", flag, *value, rfc3339(whole))
	}
	return whole, nil
}

// openOutbox opens the streams and changes nothing.
func openOutbox(ctx context.Context, conn *client, cfg Config) (*outbox.Streams, error) {
	streams, err := outbox.Open(ctx, conn.js, outbox.Settings{Mode: cfg.Mode, Partitions: cfg.Partitions, Replicas: cfg.StreamReplicas, AckWait: cfg.AckWait})
	if _, refused := errors.AsType[*outbox.Refused](err); refused {
		return nil, &setupError{err}
	}
	return streams, err // names the stream
}
