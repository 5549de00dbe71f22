// Command v2 measures how much a worker sends over API v2, with every promise kept: NATS
// (every write synced), worker and simulator are processes of their own, and a backlog
// waits when the worker starts.
//
//	go run ./bench/v2 -events 400000
//	go run ./bench/v2 -events 300000 -rate 10000
//
// Beside it runs, in turn, a bare loop that promises nothing: fetch, encode 100 events, send,
// ack. It prints a line for each: events a second, and the CPU time of each process for 10,000
// events; then their ratio. Without -rate nothing is limited. At the end the simulator's books must
// hold every event once: it exits 1 if they do not, and judges nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/simulator"
)

func main() {
	b := bench{}
	flag.IntVar(&b.events, "events", 200000, "events in the backlog")
	flag.IntVar(&b.rounds, "rounds", 1, "rounds of worker and bare loop")
	flag.Float64Var(&b.rate, "rate", 0, "events a second, of the worker and of the simulator's bucket; 0: unlimited")
	flag.StringVar(&b.latency, "latency", "0s", "of the simulator")
	flag.StringVar(&b.profile, "profile", "", "folder for CPU profiles of worker and simulator, while they are at work")
	flag.StringVar(&b.store, "store", "", "folder for the NATS servers' stores; on tmpfs the disk is left out of the measurement")
	flag.BoolVar(&b.alone, "alone", false, "leave the bare loop out")
	loop := flag.String("loop", "", "be the bare loop between this NATS server and the simulator that is the argument")
	flag.Parse()
	if err := start(context.Background(), &b, *loop); err != nil {
		fmt.Fprintln(os.Stderr, "v2:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, b *bench, loop string) error {
	switch {
	case loop != "" && flag.NArg() == 1:
		return bareLoop(ctx, loop, flag.Arg(0))
	case flag.NArg() > 0:
		return fmt.Errorf("%q is no flag", flag.Arg(0))
	}
	return b.run(ctx)
}

type bench struct {
	events, rounds int
	rate           float64
	latency        string
	profile, store string
	alone          bool

	dir string
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "meterworker-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	for round := 1; round <= b.rounds; round++ {
		ours, err := b.round(ctx, true)
		if err != nil {
			return err
		}
		if b.alone {
			continue
		}
		bare, err := b.round(ctx, false)
		if err != nil {
			return err
		}
		say("round %d: %.2f of the bare loop's events a second, at %.1f times its CPU time", round, ours.perSecond/bare.perSecond, ours.cpu/bare.cpu)
	}
	return nil
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) }

// result is what one way came to.
type result struct {
	perSecond float64
	cpu       float64 // seconds for 10,000 events, of all processes
}

// round measures one way on a stage of its own.
func (b *bench) round(ctx context.Context, promises bool) (r result, err error) {
	s := &servers{bench: b}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return r, err
	}
	if promises {
		err = s.startWorker(ctx)
	} else {
		err = s.startLoop(ctx)
	}
	if err != nil {
		return r, err
	}
	if b.profile != "" && promises {
		s.profileSoon(ctx)
	}
	return s.measure(ctx, promises)
}

// measure begins when the first events are counted, and ends when all are.
func (s *servers) measure(ctx context.Context, promises bool) (r result, err error) {
	what := "bare loop"
	if promises {
		what = "worker"
	}
	first, err := s.until(ctx, 1)
	if err != nil {
		return r, err
	}
	began, before := time.Now(), s.cpu()
	last, err := s.until(ctx, int64(s.events))
	if err != nil {
		return r, err
	}
	took, after := time.Since(began), s.cpu()
	events := float64(last.Counted - first.Counted)
	r.perSecond = events / took.Seconds()
	var costs []string
	for i, p := range s.processes {
		cost := (after[i] - before[i]).Seconds() / events * 10000
		r.cpu += cost
		costs = append(costs, fmt.Sprintf("%s %.3f", p.name, cost))
	}
	say("%s: %.0f events/s; CPU s per 10,000: %s = %.3f; requests %d; refused %d; peak memory %s",
		what, r.perSecond, strings.Join(costs, " + "), r.cpu, last.Requests, last.RateLimited, s.memory())
	if promises {
		writes, err := s.writes(ctx)
		if err != nil {
			return r, err
		}
		say("        %d writes of the journal, %.0f a second", writes, float64(writes)/took.Seconds())
	}
	return r, s.balance(ctx)
}

// until waits for that many events in the books.
func (s *servers) until(ctx context.Context, events int64) (t simulator.Totals, err error) {
	deadline := time.Now().Add(time.Minute + time.Duration(s.events)*time.Millisecond)
	for time.Now().Before(deadline) {
		if err := stage.Get(ctx, s.stripe+"/_simulator/totals", &t); err != nil {
			return t, err
		}
		if t.Counted >= events {
			return t, nil
		}
		stage.Pause(ctx, 20*time.Millisecond)
	}
	return t, fmt.Errorf("the books hold %d events of %d after %s", t.Counted, events, time.Minute)
}
