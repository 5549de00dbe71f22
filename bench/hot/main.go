// Command hot measures how long cold customers wait while one customer has half of the
// traffic, far more than Stripe takes of one (one call at a time: 1 ÷ round trip):
// worker and simulator as processes of their own, against an embedded NATS server with
// every write synced, events published as they happen.
//
//	go run ./bench/hot -seconds 60
//
// It prints one line: how long the cold customers' events waited from the publisher's
// acknowledgement to Stripe's counting, the hot customer's events a second against 1 ÷
// latency, and refusals. It judges nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/simulator"
	"github.com/meterworker/meterworker/usage"
)

func main() {
	b := bench{stored: map[string]time.Time{}}
	flag.IntVar(&b.seconds, "seconds", 60, "length of the measurement")
	flag.IntVar(&b.rate, "rate", 1000, "requests a second, of the workers and of the bucket")
	flag.IntVar(&b.traffic, "traffic", 900, "events published a second")
	flag.IntVar(&b.replicas, "replicas", 2, "workers")
	flag.IntVar(&b.customers, "customers", 3000, "cold customers")
	flag.Float64Var(&b.share, "hot", 0.5, "share of the traffic that one customer has")
	flag.DurationVar(&b.latency, "latency", 100*time.Millisecond, "of the simulator")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "hot:", err)
		os.Exit(1)
	}
}

const hot = "cus_hot"

type bench struct {
	seconds, rate, traffic, replicas, customers int
	share                                       float64
	latency                                     time.Duration

	stage *stage.Stage

	mu     sync.Mutex
	stored map[string]time.Time // by identifier
	failed error
}

func (b *bench) run(ctx context.Context) (err error) {
	b.stage, err = stage.Open(ctx, stage.Config{Rate: b.rate, Latency: b.latency.String(), Jitter: "0s"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stage.Close()) }()
	for range b.replicas {
		if _, err := b.stage.StartWorker(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := b.publish(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	stage.Pause(ctx, 5*time.Second) // what waits longer than that counts as waiting still
	books, err := b.stage.Books(ctx)
	if err != nil {
		return err
	}
	b.tell(books, began, took)
	return nil
}

// publish stores the traffic at its pace.
func (b *bench) publish(ctx context.Context) error {
	js, err := b.stage.JetStream()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	began := time.Now()
	for i := range b.traffic * b.seconds {
		due := time.Duration(i) * time.Second / time.Duration(b.traffic)
		if i%20 == 0 {
			stage.Pause(ctx, due-time.Since(began))
		}
		customer := fmt.Sprint("cus_", rand.IntN(b.customers))
		if rand.Float64() < b.share {
			customer = hot
		}
		identifier := fmt.Sprint("hot-", i)
		future, err := stage.Publish(js, usage.Params{
			EventName: "api_calls", Customer: customer, Identifier: identifier, Value: 1, Timestamp: time.Now(),
		})
		if err != nil {
			return err
		}
		all.Go(func() { b.await(identifier, future) })
	}
	all.Wait()
	return b.failed
}

func (b *bench) await(identifier string, future jetstream.PubAckFuture) {
	var err error
	select {
	case <-future.Ok():
	case err = <-future.Err():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stored[identifier] = time.Now()
	b.failed = errors.Join(b.failed, err)
}

func (b *bench) tell(books simulator.Books, began time.Time, took time.Duration) {
	var waits []time.Duration
	hotUntilEnd, cold := 0, 0
	for _, e := range books.Events {
		switch {
		case e.Customer != hot:
			cold++
			waits = append(waits, e.LastAt.Sub(b.stored[e.Identifier]))
		case e.LastAt.Before(began.Add(took)):
			hotUntilEnd++
		}
		delete(b.stored, e.Identifier)
	}
	slices.Sort(waits)
	quantile := func(q float64) time.Duration {
		return waits[min(int(q*float64(len(waits))), len(waits)-1)].Round(time.Millisecond)
	}
	if len(waits) == 0 {
		_, _ = fmt.Fprintln(os.Stdout, "nothing was delivered")
		return
	}
	perSecond := float64(hotUntilEnd) / took.Seconds()
	_, _ = fmt.Fprintf(os.Stdout, "cold: %d delivered, waits p50 %v p99 %v p99.9 %v max %v; hot: %.2f/s = %.1f %% of 1 ÷ %v, %d events wait; refused %d, beside another %d\n",
		cold, quantile(0.5), quantile(0.99), quantile(0.999), waits[len(waits)-1].Round(time.Millisecond),
		perSecond, 100*perSecond*b.latency.Seconds(), b.latency, len(b.stored), books.RateLimited, books.Violations)
}
