// Command go is a producer in Go: it reads the log of an API from standard input, one
// JSON object a line, and reports each request as usage.
//
//	{"request":"req-7f3a","meter":"api_calls","customer":"cus_123","units":1024,"region":"eu","at":"2026-11-22T10:00:00Z"}
//
// For each line it prints where the event is stored, that it was stored before, or why it
// is not. It may be run again on the same log at any time, after a crash for example:
// the same line always makes the same event, and no event is billed twice.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/usage"
)

// deadline bounds the tries for one event: enough for a NATS server to restart.
const deadline = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	conn, err := connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	return report(ctx, usage.NewPublisher(js), in, out)
}

// connect dials NATS_URL and never gives up on a connection that it once had.
func connect() (*nats.Conn, error) {
	url := os.Getenv("NATS_URL")
	if url == "" {
		url = nats.DefaultURL
	}
	options := []nats.Option{
		nats.Name("usage producer"), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			fmt.Fprintln(os.Stderr, "NATS:", err)
		}),
	}
	if file := os.Getenv("NATS_CREDS"); file != "" {
		options = append(options, nats.UserCredentials(file))
	}
	if prefix := os.Getenv("NATS_INBOX_PREFIX"); prefix != "" {
		options = append(options, nats.CustomInboxPrefix(prefix))
	}
	return nats.Connect(url, options...)
}

// report publishes the lines in turn. It goes on after a line that fails; to get the
// failed ones stored, run it on the same log again.
func report(ctx context.Context, publisher *usage.Publisher, in io.Reader, out io.Writer) error {
	lines, failed := bufio.NewScanner(in), 0
	number := 0
	for ctx.Err() == nil && lines.Scan() {
		number++
		result, err := reportLine(ctx, publisher, lines.Bytes())
		if err != nil {
			failed++
			result = "error: " + err.Error()
		}
		fmt.Fprintf(out, "line %d: %s\n", number, result)
	}
	if err := errors.Join(lines.Err(), ctx.Err()); err != nil {
		return fmt.Errorf("stopped after line %d: %w; run it again on the same log", number, err)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d lines failed; run it again on the same log", failed, number)
	}
	return nil
}

func reportLine(ctx context.Context, publisher *usage.Publisher, line []byte) (string, error) {
	event, err := eventOf(line)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	receipt, err := publisher.Publish(ctx, event)
	switch {
	case errors.Is(err, usage.ErrRefused):
		return "", err // nothing is stored; a full stream takes it later
	case err != nil: // usage.ErrUnconfirmed
		return "", fmt.Errorf("publish it again: %w", err)
	case receipt.Duplicate:
		return fmt.Sprintf("duplicate of sequence %d", receipt.Sequence), nil
	}
	return fmt.Sprintf("stored sequence=%d identifier=%s", receipt.Sequence, event.Identifier()), nil
}

// request is a line of the log.
type request struct {
	ID       string    `json:"request"`
	Meter    string    `json:"meter"`
	Customer string    `json:"customer"`
	Units    int64     `json:"units"`
	Region   string    `json:"region"`
	At       time.Time `json:"at"`
}

// eventOf makes the event of a line. Identifier and timestamp come from the log: made
// up here, they would be others when the program runs again, and the usage another.
func eventOf(line []byte) (usage.Event, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return usage.Event{}, err
	}
	if r.ID == "" || r.At.IsZero() {
		return usage.Event{}, errors.New("a line needs a request and the time at which it was served")
	}
	return usage.New(usage.Params{
		EventName:  r.Meter,
		Customer:   r.Customer,
		Value:      r.Units, // negative takes back
		Identifier: r.ID,
		Timestamp:  r.At,
		Dimensions: map[string]string{"region": r.Region},
	})
}
