// Command throughput measures how fast the worker is where nothing limits it, against
// the bare loop with the same SDK: a sink that answers at once, a backlog of the same
// NATS server with every write synced, in turn.
//
//	go run ./bench/throughput -rounds 3
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
	w := pair.Work{Events: 30_000, Rounds: 2, Customers: 3000, Latency: "0s"}
	w.Flags()
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) // what was started ends with it
	defer end()
	if err := run(ctx, w); err != nil {
		fmt.Fprintln(os.Stderr, "throughput:", err)
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
	_, _ = fmt.Fprintln(os.Stdout, p.Verdict("events a second", func(t pair.Turn) float64 { return t.PerSecond }))
	_, _ = fmt.Fprintln(os.Stdout, p.Verdict("CPU", func(t pair.Turn) float64 { return t.CPU }))
	return nil
}
