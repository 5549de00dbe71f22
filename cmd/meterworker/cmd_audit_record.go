package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/meterworker/meterworker/internal/audit"
)

// ActorSettings say who does something by hand.
type ActorSettings struct {
	Actor *string `name:"actor" variable:"METERWORKER_ACTOR" placeholder:"NAME" presettext:"user@host" help:"Who does this, for the audit trail, where several people share a user."`
}

// actorVariable is the same from the environment.
const actorVariable = "METERWORKER_ACTOR"

// who is the person, as far as anything knows them.
func (s ActorSettings) who(p *process, conn *client) audit.Who {
	w := audit.Who{Actor: whoami(), User: whoami(), NATSUser: natsUser(conn.cfg)}
	if name := p.Env[actorVariable]; name != "" {
		w.Actor = name
	}
	if s.Actor != nil && *s.Actor != "" {
		w.Actor = *s.Actor
	}
	return w
}

// beginRecord prepares the records of one command; a command that cannot record does
// nothing.
func beginRecord(ctx context.Context, p *process, conn *client, s ActorSettings, action audit.Action, why string) (*audit.Run, error) {
	trail, err := audit.Open(ctx, conn.js)
	if err != nil {
		return nil, err // names the stream
	}
	return trail.Begin(action, s.who(p, conn), why, recordedArguments(p.Args)), nil
}

// recordedArguments are the arguments without what may be secret.
func recordedArguments(args []string) []string {
	recorded := make([]string, len(args))
	address := false // the argument before was --nats-url
	for i, arg := range args {
		value, found := strings.CutPrefix(arg, "--nats-url=")
		switch {
		case found:
			recorded[i] = "--nats-url=" + redactURL(value)
		case address:
			recorded[i] = redactURL(arg)
		default:
			recorded[i] = redact(arg)
		}
		address = arg == "--nats-url"
	}
	return recorded
}

// recorded does one thing between its intent and its result. note says what is about to be
// done; do returns what came of it.
func recorded(ctx context.Context, run *audit.Run, note string, do func() (string, error)) error {
	if err := run.Intent(ctx, audit.Record{Note: note}); err != nil {
		return err
	}
	outcome, err := do()
	count := "done"
	if err != nil {
		count, outcome = "failed", err.Error()
	}
	return errors.Join(err, run.Result(ctx, audit.Record{Note: outcome, Counts: map[string]int{count: 1}}))
}

// whyMissing refuses a mutation that needs a reason and has none.
func whyMissing(why, what string) error {
	if strings.TrimSpace(why) != "" {
		return nil
	}
	return fmt.Errorf("--why is missing: say why, it is kept with %s", what)
}
