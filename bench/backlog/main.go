// Command backlog compares a worker that has few messages waiting with one that has very
// many: deliveries a second, processor time, and memory.
//
//	TMPDIR=/dev/shm go run ./bench/backlog -few 5000 -messages 5000000 -rate 1000
//	TMPDIR=/dev/shm go run ./bench/backlog -few 50000 -messages 5000000
//
// Two NATS servers with every write synced hold the one backlog and the other; what is
// delivered is published again, so that neither shrinks. In turns, a worker is started on
// each, is given time to warm up, and is measured for the same time. It prints a line for
// each turn, and the ratio of each pair. It judges nothing.
//
// A worker takes four seconds' worth of its rate in hand, at most 512 messages of each
// partition. So that this is the same for both, the small backlog must be more than that.
//
// Storing millions of messages takes as long as syncing each of them does: minutes where
// the temporary files are in memory, as above, and hours on a slow disk.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/usage"
)

func main() {
	b := bench{}
	few := flag.Int("few", 5_000, "messages of the small backlog")
	many := flag.Int("messages", 1_000_000, "messages of the large backlog")
	flag.IntVar(&b.seconds, "seconds", 20, "length of a measurement")
	flag.IntVar(&b.pairs, "pairs", 3, "turns of each")
	flag.IntVar(&b.rate, "rate", 50_000, "METERWORKER_RATE; the default is more than a worker delivers on two cores")
	flag.IntVar(&b.customers, "customers", 10_000, "customers of the traffic")
	flag.Parse()
	if flag.NArg() > 0 || *few < 1 || *many < 1 || b.seconds < 1 || b.rate < 1 || b.customers < 1 {
		fmt.Fprintln(os.Stderr, "backlog: no arguments but flags, and those above 0")
		os.Exit(2)
	}
	if err := b.run(context.Background(), *few, *many); err != nil {
		fmt.Fprintln(os.Stderr, "backlog:", err)
		os.Exit(1)
	}
}

// warm is how long connections, lanes and permits take to be there.
const warm = 5 * time.Second

type bench struct{ seconds, pairs, rate, customers int }

// scene is one server with its backlog.
type scene struct {
	stage     *stage.Stage
	js        jetstream.JetStream
	backlog   int
	published int
}

func (b *bench) run(ctx context.Context, few, many int) (err error) {
	var scenes []*scene
	defer func() {
		for _, s := range scenes {
			err = errors.Join(err, s.stage.Close())
		}
	}()
	for _, backlog := range []int{few, many} {
		s, err := b.open(ctx, backlog)
		if err != nil {
			return err
		}
		scenes = append(scenes, s)
	}
	for i := range b.pairs {
		var measured [2]figures
		for turn := range 2 { // the one that goes first changes: the machine's load may have a trend
			which := (i + turn) % 2
			if measured[which], err = b.turn(ctx, scenes[which]); err != nil {
				return err
			}
		}
		small, large := measured[0], measured[1]
		_, _ = fmt.Fprintf(os.Stdout, "%d against %d: %.3f of the deliveries a second, %+d MiB, %.3f of the worker's processor time, %.3f of the server's\n",
			many, few, large.perSecond/small.perSecond, (large.memory-small.memory)>>20, large.worker/small.worker, large.server/small.server)
	}
	return nil
}

func (b *bench) open(ctx context.Context, backlog int) (*scene, error) {
	s := &scene{backlog: backlog}
	var err error
	if s.stage, err = stage.Open(ctx, stage.Config{Rate: b.rate, Latency: "1ms", Jitter: "0ms"}); err != nil {
		return nil, err
	}
	if err = s.stage.Streams(ctx); err == nil {
		s.js, err = s.stage.JetStream()
	}
	if err == nil {
		err = b.fill(s, 0)
	}
	if err != nil {
		return nil, errors.Join(err, s.stage.Close())
	}
	return s, nil
}

// fill publishes what is missing of the backlog.
func (b *bench) fill(s *scene, delivered int) error {
	for ; s.published < s.backlog+delivered; s.published++ {
		if _, err := stage.Publish(s.js, usage.Params{
			EventName: fmt.Sprintf("meter_%d", s.published%3), Customer: fmt.Sprintf("cus_%d", s.published%b.customers),
			Identifier: fmt.Sprintf("bench-%d", s.published), Value: 1, Timestamp: time.Now(),
		}); err != nil {
			return err
		}
	}
	<-s.js.PublishAsyncComplete()
	return nil
}

type figures struct {
	perSecond      float64
	memory         int64   // resident, in bytes, at the end
	worker, server float64 // seconds of processor time for 10,000 deliveries; the server's with the publisher's
}

// turn measures one worker on the scene.
func (b *bench) turn(ctx context.Context, s *scene) (f figures, err error) {
	if err := b.follow(ctx, s, 0); err != nil { // what the turn before has delivered
		return f, err
	}
	worker, err := s.stage.StartWorker(ctx)
	if err != nil {
		return f, err
	}
	defer worker.Stop()
	if err := b.follow(ctx, s, warm); err != nil {
		return f, err
	}
	before, err := s.stage.Totals(ctx)
	if err != nil {
		return f, err
	}
	began, worked, served := time.Now(), processorTime(worker.Pid), processorTime(os.Getpid())
	if err := b.follow(ctx, s, time.Duration(b.seconds)*time.Second); err != nil {
		return f, err
	}
	after, err := s.stage.Totals(ctx)
	if err != nil {
		return f, err
	}
	n := float64(after.Requests - before.Requests)
	f.perSecond, f.memory = n/time.Since(began).Seconds(), resident(worker.Pid)
	f.worker, f.server = 1e4*(processorTime(worker.Pid)-worked)/n, 1e4*(processorTime(os.Getpid())-served)/n
	_, _ = fmt.Fprintf(os.Stdout, "backlog of %d: %.0f deliveries/s, %d MiB resident; processor seconds for 10,000: worker %.2f, server and publisher %.2f\n",
		s.backlog, f.perSecond, f.memory>>20, f.worker, f.server)
	return f, nil
}

// follow keeps the backlog full for that long.
func (b *bench) follow(ctx context.Context, s *scene, d time.Duration) error {
	until := time.Now().Add(d)
	for {
		totals, err := s.stage.Totals(ctx)
		if err == nil {
			err = b.fill(s, int(totals.Requests))
		}
		if err != nil || time.Now().After(until) {
			return err
		}
		stage.Pause(ctx, 50*time.Millisecond)
	}
}

// processorTime is user and system time of a process so far, in seconds: what other
// processes take from the machine is not in it.
func processorTime(pid int) float64 {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // 0 where there is none
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(string(fields[11]), 64)
	system, _ := strconv.ParseFloat(string(fields[12]), 64)
	return (user + system) / 100 // ticks a second, on every Linux that Go runs on
}

func resident(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // 0 where there is none
	for line := range bytes.Lines(status) {
		if field := bytes.Fields(line); len(field) > 1 && string(field[0]) == "VmRSS:" {
			kib, _ := strconv.ParseInt(string(field[1]), 10, 64)
			return kib << 10
		}
	}
	return 0
}
