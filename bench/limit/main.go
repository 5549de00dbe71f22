// Command limit measures how much of Stripe's rate limit a fleet of workers uses, and
// what a strict bucket refuses: workers and simulator as processes of their own,
// against an embedded NATS server with every write synced, draining a backlog.
//
//	go run ./bench/limit -seconds 60 -replicas 3
//	go run ./bench/limit -seconds 60 -replicas 1,5,2
//
// Several numbers of replicas are gone through one after another, each for an equal
// part of the time. It prints one line for each and one for all: requests a second as
// a share of the rate, refusals, the peak in any sliding second, and calls that were
// beside another for the same customer and meter. It judges nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

func main() {
	b := bench{}
	replicas := flag.String("replicas", "1", "workers beside each other; several numbers, separated by commas, are gone through")
	flag.IntVar(&b.seconds, "seconds", 30, "length of the measurement")
	flag.IntVar(&b.rate, "rate", 1000, "requests a second, of the workers and of the bucket")
	flag.IntVar(&b.customers, "customers", 3000, "customers of the traffic")
	flag.StringVar(&b.latency, "latency", "80ms", "of the simulator")
	flag.StringVar(&b.jitter, "jitter", "20ms", "of the simulator, to either side")
	flag.Parse()
	if err := errors.Join(b.parse(*replicas), flagsOver()); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(2)
	}
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

// flagsOver refuses what is no flag.
func flagsOver() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flag.Arg(0))
	}
	return nil
}

type bench struct {
	seconds, rate, customers int
	latency, jitter          string

	phases  []int // replicas
	stage   *stage.Stage
	workers []*stage.Worker
}

func (b *bench) parse(replicas string) error {
	for text := range strings.SplitSeq(replicas, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-replicas %s: %q is no number above 0", replicas, text)
		}
		b.phases = append(b.phases, n)
	}
	return nil
}

func (b *bench) run(ctx context.Context) (err error) {
	b.stage, err = stage.Open(ctx, stage.Config{Rate: b.rate, Latency: b.latency, Jitter: b.jitter})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stage.Close()) }()
	if err := b.stage.Streams(ctx); err != nil {
		return err
	}
	if err := b.publish(); err != nil {
		return err
	}
	return b.measure(ctx)
}

// measure begins when the first phase's workers are ready and warm.
func (b *bench) measure(ctx context.Context) error {
	if err := b.scale(ctx, b.phases[0]); err != nil {
		return err
	}
	stage.Pause(ctx, 3*time.Second) // connections and lanes are warm
	first, err := b.stage.Totals(ctx)
	if err != nil {
		return err
	}
	began, before := time.Now(), first
	since := began
	for _, replicas := range b.phases {
		if err := b.scale(ctx, replicas); err != nil {
			return err
		}
		end := since.Add(time.Duration(b.seconds) * time.Second / time.Duration(len(b.phases)))
		stage.Pause(ctx, time.Until(end))
		now, err := b.stage.Totals(ctx)
		if err != nil {
			return err
		}
		b.tell(fmt.Sprintf("%d replicas", replicas), before, now, time.Since(since))
		before, since = now, time.Now()
	}
	b.tell("all", first, before, since.Sub(began))
	return nil
}

// scale has that many workers.
func (b *bench) scale(ctx context.Context, replicas int) error {
	for len(b.workers) > replicas {
		last := len(b.workers) - 1
		b.workers[last].Stop()
		b.workers = b.workers[:last]
	}
	for len(b.workers) < replicas {
		w, err := b.stage.StartWorker(ctx)
		if err != nil {
			return err
		}
		b.workers = append(b.workers, w)
	}
	return nil
}

func (b *bench) tell(what string, first, last simulator.Totals, took time.Duration) {
	perSecond := float64(last.Requests-first.Requests) / took.Seconds()
	_, _ = fmt.Fprintf(os.Stdout, "%s: %.1f requests/s = %.2f %% of %d/s; refused %d; peak %d in a sliding second; beside another %d\n",
		what, perSecond, 100*perSecond/float64(b.rate), b.rate, last.RateLimited-first.RateLimited, last.PeakPerSecond, last.Violations)
}

// publish stores half as much again as the measurement takes, and no less than ten
// seconds' worth more.
func (b *bench) publish() error {
	js, err := b.stage.JetStream()
	if err != nil {
		return err
	}
	for i := range b.rate * (b.seconds + max(10, b.seconds/2)) {
		if _, err := stage.Publish(js, usage.Params{
			EventName: fmt.Sprintf("meter_%d", i%3), Customer: fmt.Sprintf("cus_%d", i%b.customers),
			Identifier: fmt.Sprintf("bench-%d", i), Value: 1, Timestamp: time.Now(),
		}); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	return nil
}
