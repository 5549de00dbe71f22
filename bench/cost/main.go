// Command cost measures what the worker's promises cost at Stripe's limit: user and
// system time for 10,000 events at 1,000 a second, against the bare loop with the same
// SDK, in turn, draining a backlog of the same NATS server with every write synced.
//
//	go run ./bench/cost -rounds 3
//
// It prints a line for each turn, and the ratio of each round. It judges nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/meterworker/meterworker/bench/internal/pair"
)

func main() {
	w := pair.Work{Events: 20_000, Rounds: 2, Customers: 3000, Latency: "80ms"}
	flag.IntVar(&w.Rate, "rate", 1000, "requests a second, of both")
	w.Flags()
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) // what was started ends with it
	defer end()
	if err := run(ctx, w); err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w pair.Work) (err error) {
	p, err := pair.Open(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stage.Close()) }()
	if err := p.Rounds(ctx, os.Stdout); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(os.Stdout, p.Verdict("CPU", func(t pair.Turn) float64 { return t.CPU }))
	_, _ = fmt.Fprintln(os.Stdout, p.Verdict("CPU of the NATS server", func(t pair.Turn) float64 { return t.NATS }))
	return nil
}
