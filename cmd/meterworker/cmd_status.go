package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

// StatusCmd shows how delivery goes, from NATS alone.
type StatusCmd struct {
	ClientSettings
	Watch  watchInterval `placeholder:"DURATION" help:"Look again and again until interrupted; every 2s, or as given: --watch=10s."`
	Over   time.Duration `default:"2s" placeholder:"DURATION" help:"Time between the two looks that tell what moves; 0s looks once."`
	Output string        `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a look."`
}

// watchInterval is a duration that may be left out: --watch is --watch=2s.
type watchInterval time.Duration

// IsBool lets the flag stand without a value.
func (*watchInterval) IsBool() bool { return true }

// Decode implements kong.MapperValue.
func (w *watchInterval) Decode(ctx *kong.DecodeContext) error {
	*w = watchInterval(outbox.BeatEvery)
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	text, _ := ctx.Scan.Pop().Value.(string) // anything else is no duration either
	d, err := time.ParseDuration(text)
	if err != nil || d < leastWatch {
		return fmt.Errorf("%q is no duration from %s up; leave it out for %s", text, leastWatch, outbox.BeatEvery)
	}
	*w = watchInterval(d)
	return nil
}

// leastWatch bounds what a screen left open costs the server: a look is some sixty calls.
const leastWatch = 500 * time.Millisecond

// Help shows how the command is used, and what its exit code says.
func (*StatusCmd) Help() string {
	return "Everything is read from NATS: it works from anywhere, and asks no worker. The first word is the verdict:\n\n" +
		verdictHelp() + "\n\n" +
		"Exit code 0 when usage is delivered, or would be if there were any: idle and delivering; 1 else. Dead letters and a " +
		"lowered rate do not change it. With --watch an interruption ends with 0. The fields of -o json are in docs/status.md.\n\nExamples:\n\n" +
		"  meterworker status\n" +
		"  meterworker status --watch\n" +
		"  meterworker status -o json | jq .backlog.oldest_seconds"
}

// Run looks and prints.
func (c *StatusCmd) Run(ctx context.Context, p *process) error {
	if c.Over < 0 || c.Over > time.Minute {
		return &usageError{fmt.Errorf("--over=%s is not from 0s to 1m", c.Over)}
	}
	return withClient(ctx, p, c, roleOperator, func(ctx context.Context, conn *client) error {
		if c.Watch > 0 {
			return cmp.Or(c.watch(ctx, p, conn.js), conn.refusal())
		}
		return c.once(ctx, p, conn.js)
	})
}

func (c *StatusCmd) once(ctx context.Context, p *process, js jetstream.JetStream) error {
	var before *look
	now, err := lookAround(ctx, js)
	if err == nil && c.Over > 0 {
		before = now
		if err = waitFor(ctx, c.Over); err == nil {
			now, err = lookAround(ctx, js)
		}
	}
	if err != nil {
		return interruptedQuietly(ctx, err)
	}
	status := newStatus(before, now)
	if err := c.print(p.Out, status); err != nil {
		return err
	}
	if !status.Verdict.healthy() {
		return &silentError{exitFailed}
	}
	return nil
}

// clearScreen moves the cursor home and clears what is below it.
const clearScreen = "\x1b[H\x1b[J"

// watch looks until it is interrupted. What cannot be read is shown, and tried again.
func (c *StatusCmd) watch(ctx context.Context, p *process, js jetstream.JetStream) error {
	redraw := c.Output == "text" && isTerminal(p.Out)
	var before *look
	for !ended(ctx) {
		var status status
		if status, before = statusSince(ctx, js, before); ended(ctx) {
			break
		}
		var frame strings.Builder
		if redraw {
			frame.WriteString(clearScreen)
		}
		if err := c.print(&frame, status); err != nil {
			return err
		}
		if c.Output == "text" && !redraw {
			frame.WriteByte('\n')
		}
		if _, err := io.WriteString(p.Out, frame.String()); err != nil {
			return err
		}
		_ = waitFor(ctx, time.Duration(c.Watch)) // the loop sees an interruption
	}
	return nil // whoever watches ends it so
}

func ended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// statusSince looks, and compares with the last look that succeeded, which it returns.
func statusSince(ctx context.Context, js jetstream.JetStream, before *look) (status, *look) {
	now, err := lookAround(ctx, js)
	if err != nil {
		return unknownStatus(time.Now(), err), before
	}
	return newStatus(before, now), now
}

func (c *StatusCmd) print(w io.Writer, s status) error {
	if c.Output == "json" {
		return writeJSONLine(w, s)
	}
	return printStatus(w, s)
}

func waitFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// look is one look at everything.
type look struct {
	outbox.Survey

	rate      ratelimit.InForce
	rateKnown bool
}

func lookAround(ctx context.Context, js jetstream.JetStream) (*look, error) {
	streams, err := outbox.Inspect(ctx, js)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s does not exist on this server: no worker has run here; check NATS_URL, or start `meterworker run`", outbox.UsageStream)
	}
	if err != nil {
		return nil, err
	}
	survey, err := streams.Survey(ctx)
	if err != nil {
		return nil, err
	}
	l := &look{Survey: survey}
	kv, err := js.KeyValue(ctx, outbox.ControlBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("key-value bucket %s: %w", outbox.ControlBucket, err)
	}
	l.rate, l.rateKnown, err = ratelimit.LookAt(ctx, kv)
	return l, err
}
