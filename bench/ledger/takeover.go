package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/usage"
)

// What the workers have too, by default; the limit is that of one partition here.
const (
	window = 36 * 24 * time.Hour
	limit  = 4 << 30
)

func (b *bench) takeOver(ctx context.Context) error {
	began := time.Now()
	if err := b.fill(ctx); err != nil {
		return err
	}
	state, err := b.stored(ctx)
	if err != nil {
		return err
	}
	said, known := int64(0), 0
	for _, p := range b.owned {
		size, n := p.Ledger.Size()
		said, known = said+size, known+n
	}
	_, _ = fmt.Fprintf(os.Stdout, "%d identifiers in %d messages, %.1f bytes each stored, %.1f remembered; filled in %.0f s\n",
		known, state.Msgs, float64(state.Bytes)/float64(max(1, known)), float64(said)/float64(max(1, known)), time.Since(began).Seconds())
	if err := b.release(ctx); err != nil {
		return err
	}
	for i := range b.starts {
		if err := b.start(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// fill records the identifiers through the writers, all partitions beside each other.
func (b *bench) fill(ctx context.Context) error {
	var wait sync.WaitGroup
	failed := make([]error, len(b.owned))
	for i, p := range b.owned {
		wait.Go(func() {
			for n := i; n < b.identifiers; n += partitions * b.packed {
				if failed[i] = p.Record(ctx, b.deliveries(n)...); failed[i] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}

// deliveries are one message's worth of a partition's identifiers, from the n-th on. All
// have the sequence of the only message in the outbox: workers halt where the journal is
// ahead of it.
func (b *bench) deliveries(n int) []journal.Entry {
	var entries []journal.Entry
	for ; len(entries) < b.packed && n < b.identifiers; n += partitions {
		entries = append(entries, journal.Entry{
			Sequence: 1, Key: uint64(n+1) * 0x9e3779b97f4a7c15, Fingerprint: uint32(n), State: journal.Delivered,
		})
	}
	return entries
}

// start starts a worker and waits until it has delivered an event and is ready.
func (b *bench) start(ctx context.Context, n int) error {
	if _, err := stage.Publish(b.js, usage.Params{EventName: "meter", Customer: "cus", Identifier: fmt.Sprint("start-", n), Value: 1, Timestamp: time.Now()}); err != nil {
		return err
	}
	<-b.js.PublishAsyncComplete()
	before, err := b.stage.Totals(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	first := make(chan time.Duration, 1)
	looking, end := context.WithTimeout(ctx, 5*time.Minute)
	defer end()
	go func() {
		for looking.Err() == nil {
			if now, err := b.stage.Totals(looking); err == nil && now.Requests > before.Requests {
				first <- time.Since(began)
				return
			}
			stage.Pause(looking, 10*time.Millisecond)
		}
	}()
	worker, err := b.stage.StartWorker(ctx)
	if err != nil {
		return err
	}
	defer worker.Stop()
	ready := time.Since(began)
	select {
	case took := <-first:
		now, most := memory(worker.Pid)
		_, _ = fmt.Fprintf(os.Stdout, "start %d: first delivery after %.2f s, ready after %.2f s (looked at every 0.1 s); %d MiB resident, at most %d\n",
			n+1, took.Seconds(), ready.Seconds(), now>>20, most>>20)
		return nil
	case <-looking.Done():
		return errors.New("nothing is delivered within 5 minutes")
	}
}

// memory is what the process has resident now, and had at most.
func memory(pid int) (now, most int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(status) {
		field := bytes.Fields(line)
		if len(field) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(string(field[1]), 10, 64)
		switch string(field[0]) {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			most = kib << 10
		}
	}
	return now, most
}
