package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meterworker/meterworker/usage"
)

// PublishCmd stores usage events in the outbox.
type PublishCmd struct {
	ClientSettings
	EventName  *string       `placeholder:"NAME" help:"Event name of the meter."`
	Customer   *string       `placeholder:"ID" help:"Stripe's customer id."`
	Value      *string       `placeholder:"N" help:"Units, a whole number; write --value=-5 for one below 0."`
	Identifier *string       `placeholder:"TEXT" help:"Unique for event name and customer; the same usage needs the same one whenever it is published. Without it, a random one."`
	Timestamp  *string       `placeholder:"TIME" help:"When the usage happened: Unix seconds or RFC 3339. Without it, now."`
	Payload    []string      `sep:"none" placeholder:"KEY=VALUE" help:"A further payload pair, a dimension; repeatable."`
	Timeout    time.Duration `default:"10s" placeholder:"DURATION" help:"Bound of one event, tries included."`
	Output     string        `short:"o" enum:"text,json" default:"text" placeholder:"FORMAT" help:"text, or json, one object a line."`
}

// Help shows how the command is used.
func (*PublishCmd) Help() string {
	return "One event from flags, or, without flags for one, JSON lines on standard input, each a message body as `meterworker schema` describes it. " +
		"Prints for each line, in order, the sequence under which the event is stored, or that it is a duplicate, or the error. " +
		"Exit code 1 if any line failed; 2 if the flags make no event.\n\nExamples:\n\n" +
		"  meterworker publish --event-name api_calls --customer cus_123 --value 1024 --identifier req-7f3a\n" +
		"  meterworker publish -o json < usage.jsonl"
}

// Run publishes one event or all lines.
func (c *PublishCmd) Run(ctx context.Context, p *process) error {
	if c.Timeout <= 0 {
		return &usageError{fmt.Errorf("--timeout=%s is not above 0; set 10s, for example", c.Timeout)}
	}
	if !c.single() {
		return c.lines(ctx, p)
	}
	event, err := c.fromFlags()
	if err != nil {
		return &usageError{err}
	}
	conn, err := c.dial(p)
	if err != nil {
		return err
	}
	defer conn.close()
	result := publishing{newPublisher(p, conn.js), c.Timeout, conn.cfg}.publish(ctx, event)
	return c.printSingle(p, result)
}

// dial connects, and makes sure of the way back before anything is stored.
func (c *PublishCmd) dial(p *process) (*client, error) {
	conn, err := dialClient(p, c, roleProducer)
	if err != nil {
		return nil, err
	}
	if err := conn.answerable(); err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

// single tells whether any flag describes an event.
func (c *PublishCmd) single() bool {
	return c.EventName != nil || c.Customer != nil || c.Value != nil || c.Identifier != nil || c.Timestamp != nil || len(c.Payload) > 0
}

// fromFlags goes by way of the message body, so that flags and lines are read by
// the same rules.
func (c *PublishCmd) fromFlags() (candidate, error) {
	for _, flag := range []struct {
		name  string
		value *string
	}{{"--event-name", c.EventName}, {"--customer", c.Customer}, {"--value", c.Value}} {
		if flag.value == nil {
			return candidate{}, fmt.Errorf("%s is missing: an event needs --event-name, --customer and --value", flag.name)
		}
	}
	payload := map[string]string{"stripe_customer_id": *c.Customer, "value": *c.Value}
	for _, text := range c.Payload {
		key, value, ok := strings.Cut(text, "=")
		if _, taken := payload[key]; !ok || key == "" || taken {
			return candidate{}, fmt.Errorf("--payload=%q is not KEY=VALUE with a key of its own", text)
		}
		payload[key] = value
	}
	body, err := json.Marshal(struct {
		EventName  string            `json:"event_name"`
		Identifier *string           `json:"identifier,omitempty"`
		Timestamp  *string           `json:"timestamp,omitempty"`
		Payload    map[string]string `json:"payload"`
	}{*c.EventName, c.Identifier, c.Timestamp, payload})
	if err != nil {
		return candidate{}, err
	}
	parsed := parseCandidate(1, body, time.Now())
	return parsed, parsed.err
}

func (c *PublishCmd) printSingle(p *process, result published) error {
	if err := c.write(p, result, false); err != nil {
		return err
	}
	if result.anonymous {
		_, _ = fmt.Fprintln(p.Err, "meterworker: the event got a random identifier: publishing the same usage again would bill it again; give it --identifier")
	}
	if result.err != nil {
		return &silentError{exitFailed}
	}
	return nil
}

// write writes one result. Errors of an event from flags have no line number and
// go where errors go.
func (c *PublishCmd) write(p *process, r published, numbered bool) error {
	if c.Output == "json" {
		return writeJSONLine(p.Out, r.object())
	}
	prefix := ""
	if numbered {
		prefix = fmt.Sprintf("line %d: ", r.line)
	} else if r.err != nil {
		_, err := fmt.Fprintf(p.Err, "meterworker: error: %s\n", escapeText(r.err.Error()))
		return err
	}
	_, err := fmt.Fprintf(p.Out, "%s%s\n", prefix, r.text())
	return err
}

// candidate is a message body on its way to be published.
type candidate struct {
	line      int
	event     usage.Event // valid unless err is set
	err       error
	anonymous bool // its identifier is random
	undated   bool // its timestamp is the time at which it was read
}

// published is the result for one candidate.
type published struct {
	candidate

	identifier string
	receipt    usage.Receipt
}

func (r published) text() string {
	switch {
	case r.err != nil:
		return "error: " + escapeText(r.err.Error())
	case r.receipt.Duplicate:
		return fmt.Sprintf("duplicate of sequence %d", r.receipt.Sequence)
	default:
		return fmt.Sprintf("stored sequence=%d identifier=%s", r.receipt.Sequence, escapeText(r.identifier))
	}
}

// publishedObject is the form of a result for programs; every field is always there.
type publishedObject struct {
	Line       int    `json:"line"`
	Identifier string `json:"identifier"` // "" if the line is no event
	Sequence   uint64 `json:"sequence"`   // 0 if it is not known to be stored
	Duplicate  bool   `json:"duplicate"`
	Error      string `json:"error"` // "" if it is stored
}

func (r published) object() publishedObject {
	o := publishedObject{Line: r.line, Identifier: r.identifier, Sequence: r.receipt.Sequence, Duplicate: r.receipt.Duplicate}
	if r.err != nil {
		o.Error = r.err.Error()
	}
	return o
}

// publishing stores events, each within the timeout.
type publishing struct {
	publisher *usage.Publisher
	timeout   time.Duration
	cfg       Config
}

// publish is not cut short when ctx ends: what is under way gets its answer, since
// otherwise nobody knows whether it is stored.
func (p publishing) publish(ctx context.Context, c candidate) published {
	result := published{candidate: c, identifier: c.event.Identifier()}
	if c.err != nil {
		if refusal, ok := errors.AsType[*usage.Refusal](c.err); ok {
			result.identifier = refusal.Identifier
		}
		return result
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
	defer cancel()
	result.receipt, result.err = p.publisher.Publish(ctx, c.event)
	if d := asDenial(result.err, natsUser(p.cfg), roleProducer); d != nil && errors.Is(result.err, usage.ErrRefused) {
		result.err = fmt.Errorf("%w: %w", usage.ErrRefused, d)
	}
	return result
}
