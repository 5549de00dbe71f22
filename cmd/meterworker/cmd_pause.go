package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/outbox"
)

// PauseCmd stops the whole fleet's fetching.
type PauseCmd struct {
	OrderSettings
}

// ResumeCmd ends a pause, or a halt.
type ResumeCmd struct {
	OrderSettings
}

// OrderSettings are what the two have in common.
type OrderSettings struct {
	ClientSettings
	ActorSettings
	Why     string        `placeholder:"TEXT" help:"The reason, shown by every worker and kept in the audit trail."`
	Timeout time.Duration `default:"15s" placeholder:"DURATION" help:"How long to wait for the workers to obey; the order stands in any case."`
	Output  string        `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object."`
}

// Help shows how the command is used.
func (*PauseCmd) Help() string {
	return "Every worker hands back what waits, finishes what is under way and fetches nothing, until `meterworker resume`. " +
		"Usage goes on being stored. The order outlives restarts. Exit code 1 if a worker has not obeyed in time.\n\nExample:\n\n" +
		"  meterworker pause --why \"invoices are being corrected\""
}

// Help shows how the command is used.
func (*ResumeCmd) Help() string {
	return "Ends a pause. It also makes a halted worker try again, once its set-up (the key, a meter) is mended, " +
		"and lets one that waits out an outage look at once. Exit code 1 if a worker has not obeyed in time.\n\nExample:\n\n" +
		"  meterworker resume"
}

// Run pauses the fleet.
func (c *PauseCmd) Run(ctx context.Context, p *process) error {
	return c.run(ctx, p, order{
		flags: c, action: audit.Pause, change: pauseFleet,
		obeyed: func(state string) bool { return state == delivery.StatePaused || state == delivery.StateHalted },
		word:   "paused", done: "%d of %d workers have stopped fetching", none: "no worker runs now; one that starts will wait",
	})
}

// Run lets the fleet go on.
func (c *ResumeCmd) Run(ctx context.Context, p *process) error {
	return c.run(ctx, p, order{
		flags: c, action: audit.Resume, change: resumeFleet,
		obeyed: func(state string) bool { return state != delivery.StatePaused && state != "" },
		word:   "resumed", done: "%d of %d workers are not paused any more", none: "no worker runs now",
	})
}

type order struct {
	flags            any
	action           audit.Action
	change           func(*outbox.Orders)
	obeyed           func(state string) bool
	word, done, none string
}

func (c *OrderSettings) run(ctx context.Context, p *process, o order) error {
	if c.Timeout <= 0 {
		return &usageError{fmt.Errorf("--timeout=%s is not above 0; set 15s, for example", c.Timeout)}
	}
	return withClient(ctx, p, o.flags, roleOperator, func(ctx context.Context, conn *client) error {
		run, err := beginRecord(ctx, p, conn, c.ActorSettings, o.action, c.Why)
		if err != nil {
			return err
		}
		err = recorded(ctx, run, "the whole fleet", func() (string, error) {
			return "the order is stored", storeOrder(ctx, conn.js, o.change, c.who(p, conn).Actor, c.Why)
		})
		if err != nil {
			return err
		}
		return c.print(p, o, c.await(ctx, conn.js, o))
	})
}

func pauseFleet(o *outbox.Orders)  { o.Paused = true }
func resumeFleet(o *outbox.Orders) { o.Paused = false; o.Resumed++ }

// storeOrder writes the order down: from then on it stands.
func storeOrder(ctx context.Context, js jetstream.JetStream, change func(*outbox.Orders), actor, why string) error {
	kv, err := js.KeyValue(ctx, outbox.DurableBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("key-value bucket %s does not exist: no worker has run on this NATS account yet; start `meterworker run` once, or check NATS_URL", outbox.DurableBucket)
	}
	if err != nil {
		return fmt.Errorf("key-value bucket %s: %w", outbox.DurableBucket, err)
	}
	_, err = outbox.Order(ctx, kv, func(orders *outbox.Orders) {
		change(orders)
		orders.By, orders.Why, orders.At = actor, why, time.Now()
	})
	return err // says what it was about
}

// whoami is the person as the system knows them.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// tally is how far the workers have obeyed.
type tally struct {
	Order   string   `json:"order"` // paused or resumed
	Workers int      `json:"workers"`
	Obeyed  int      `json:"obeyed"`
	Waiting []string `json:"waiting"` // names of those that have not
	Problem string   `json:"error,omitempty"`
}

// lookEvery is how often the members document is read while a person waits. One whose
// beat does not change in so many looks is gone: five beats.
const (
	lookEvery = 500 * time.Millisecond
	goneAfter = int(5 * outbox.BeatEvery / lookEvery)
)

// await looks at the workers until each has obeyed or is gone, or the time is up.
func (c *OrderSettings) await(ctx context.Context, js jetstream.JetStream, o order) tally {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	beats, unchanged := map[string]uint64{}, map[string]int{}
	var last tally
	for {
		look, err := outbox.LookAtMembers(ctx, js)
		if err == nil {
			for name, seen := range look {
				if beats[name] == seen.Beat {
					unchanged[name]++
				} else {
					beats[name], unchanged[name] = seen.Beat, 0
				}
			}
			last = count(look, unchanged, o)
		} else if ctx.Err() == nil {
			last.Problem = err.Error()
		}
		if err == nil && len(last.Waiting) == 0 {
			return last
		}
		select {
		case <-ctx.Done():
			return last
		case <-ticker.C:
		}
	}
}

func count(look outbox.Look, unchanged map[string]int, o order) tally {
	t := tally{Waiting: []string{}}
	for name, seen := range look {
		switch {
		case unchanged[name] >= goneAfter:
		case o.obeyed(seen.State):
			t.Workers++
			t.Obeyed++
		default:
			t.Workers++
			t.Waiting = append(t.Waiting, name)
		}
	}
	slices.Sort(t.Waiting)
	return t
}

func (c *OrderSettings) print(p *process, o order, t tally) error {
	if c.Output == "json" {
		t.Order = o.word
		if err := writeJSONLine(p.Out, t); err != nil {
			return err
		}
	} else {
		text := o.none
		if t.Workers > 0 {
			text = fmt.Sprintf(o.done, t.Obeyed, t.Workers)
		}
		if _, err := fmt.Fprintf(p.Out, "%s: %s\n", o.word, text); err != nil {
			return err
		}
	}
	if t.Problem == "" && len(t.Waiting) == 0 {
		return nil
	}
	_, _ = fmt.Fprintf(p.Err, "meterworker: the order is stored, but not everybody has shown within %s to have seen it: %s\n",
		c.Timeout, escapeText(strings.TrimSpace(strings.Join(t.Waiting, ", ")+" "+t.Problem)))
	return &silentError{exitFailed}
}
