// Command latency measures how long an event takes from its publisher to Stripe where
// there is no queue: 100 a second, published as they happen, worker and bare loop in
// turn on the same NATS server with every write synced, into a sink that answers after
// the latency.
//
//	go run ./bench/latency -rounds 3
//
// The way of an event ends when the sink has its headers. It prints the median and the
// 99th percentile of each turn, and what the worker adds in each round. It judges
// nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/bench/internal/pair"
	"github.com/meterworker/meterworker/bench/internal/stage"
)

func main() {
	l := latency{work: pair.Work{Rate: 1000, Events: 2000, Rounds: 2, Customers: 3000, Latency: "80ms"}}
	flag.IntVar(&l.traffic, "traffic", 100, "events published a second, at random moments")
	l.work.Flags()
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) // what was started ends with it
	defer end()
	if err := l.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

type latency struct {
	work    pair.Work
	traffic int
	pair    *pair.Pair
}

// quantiles of one turn, in milliseconds.
type quantiles struct{ p50, p99 float64 }

func (l *latency) run(ctx context.Context) (err error) {
	if l.pair, err = pair.Open(ctx, l.work); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.pair.Stage.Close()) }()
	a, b := l.pair.A, l.pair.B
	var p50, p99 []float64
	for range l.work.Rounds {
		var turns [2]quantiles
		for i, c := range []*pair.Contender{a, b} {
			if turns[i], err = l.turn(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			_, _ = fmt.Fprintf(os.Stdout, "%-8s published → received: p50 %.2f ms, p99 %.2f ms\n", c.Name, turns[i].p50, turns[i].p99)
		}
		p50, p99 = append(p50, turns[0].p50-turns[1].p50), append(p99, turns[0].p99-turns[1].p99)
	}
	_, _ = fmt.Fprintf(os.Stdout, "%s − %s: p50 %+.2f ms %+.2f, p99 %+.2f ms %+.2f\n", a.Name, b.Name, pair.Median(p50), p50, pair.Median(p99), p99)
	return nil
}

// turn publishes at random moments, as unrelated producers do, and asks the sink
// when each event came.
func (l *latency) turn(ctx context.Context, c *pair.Contender) (q quantiles, err error) {
	js, err := l.pair.Stage.JetStream()
	if err != nil {
		return q, err
	}
	running, err := c.Start(ctx)
	if err != nil {
		return q, err
	}
	defer running.Stop()
	published := map[string]time.Time{}
	warm := l.traffic * 3
	next := time.Now()
	for i := range warm + l.work.Events {
		next = next.Add(time.Duration(rand.ExpFloat64() * float64(time.Second) / float64(l.traffic)))
		stage.Pause(ctx, time.Until(next))
		event := l.pair.Event()
		if i >= warm {
			published[event.Identifier] = time.Now()
		}
		if _, err := stage.PublishBelow(js, c.Prefix, event); err != nil {
			return q, err
		}
	}
	return l.waits(ctx, js, published)
}

// waits are those of all events, once the last has come.
func (l *latency) waits(ctx context.Context, js jetstream.JetStream, published map[string]time.Time) (q quantiles, err error) {
	<-js.PublishAsyncComplete()
	for range 100 {
		arrivals, err := l.pair.Stage.Arrivals(ctx)
		if err != nil {
			return q, err
		}
		var waits []float64
		for identifier, at := range published {
			if arrived, came := arrivals[identifier]; came {
				waits = append(waits, float64(arrived-at.UnixNano())/float64(time.Millisecond))
			}
		}
		if len(waits) == len(published) {
			slices.Sort(waits)
			return quantiles{waits[len(waits)/2], waits[len(waits)*99/100]}, nil
		}
		stage.Pause(ctx, 100*time.Millisecond)
	}
	return q, errors.New("not every event has arrived 10 s after the last was published")
}
