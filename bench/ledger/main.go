// Command ledger measures what remembered identifiers cost: on disk, in memory, and at a
// take-over of all partitions.
//
//	go run ./bench/ledger -identifiers 10000000
//	go run ./bench/ledger -disk -rate 1000 -seconds 60
//
// The first fills the journal through the writers of all partitions, -packed identifiers
// a message, and starts workers as processes of their own, one after the other: each
// claims every partition, reads the journal and delivers one event. It prints, for each,
// the time to the first delivery and to readiness, and its memory.
//
// The second has identifiers intended, sent (80 ms) and recorded one by one, spread over
// the partitions at a rate, so that messages are packed as they are in a worker, and
// prints the bytes of journal that are left of each once its intents are purged.
//
// The NATS server is embedded, with every write synced. It judges nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/journal"
)

// partitions is the default of the workers.
const partitions = 24

func main() {
	b := bench{}
	disk := flag.Bool("disk", false, "measure what is stored at a rate, instead of a take-over")
	flag.IntVar(&b.identifiers, "identifiers", 1_000_000, "remembered at the take-over")
	flag.IntVar(&b.packed, "packed", 100, "identifiers in a message of the journal, at the take-over")
	flag.IntVar(&b.starts, "starts", 3, "workers that are started, one after the other")
	flag.IntVar(&b.rate, "rate", 1000, "identifiers a second, with -disk")
	flag.IntVar(&b.seconds, "seconds", 30, "length of the measurement, with -disk")
	flag.Parse()
	if flag.NArg() > 0 || b.identifiers < 0 || b.packed < 1 || b.packed > 5000 || b.rate < 1 {
		fmt.Fprintln(os.Stderr, "ledger: no arguments but flags; -packed is 1 to 5000")
		os.Exit(2)
	}
	measure := b.takeOver
	if *disk {
		measure = b.disk
	}
	if err := b.run(context.Background(), measure); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

type bench struct {
	identifiers, packed, starts, rate, seconds int

	stage *stage.Stage
	js    jetstream.JetStream
	owned []*journal.Partition
}

func (b *bench) run(ctx context.Context, measure func(context.Context) error) (err error) {
	b.stage, err = stage.Open(ctx, stage.Config{Rate: 1000, Latency: "1ms", Jitter: "0ms"})
	if err != nil {
		return err
	}
	defer func() {
		if closed := b.stage.Close(); err == nil {
			err = closed
		}
	}()
	if err := b.stage.Streams(ctx); err != nil {
		return err
	}
	if b.js, err = b.stage.JetStream(); err != nil {
		return err
	}
	if err := b.claim(ctx); err != nil {
		return err
	}
	return measure(ctx)
}

// claim owns every partition, as a worker would.
func (b *bench) claim(ctx context.Context) error {
	store := journal.NewJetStream(b.js, func() {})
	for p := range partitions {
		owned, err := journal.Claim(ctx, store, journal.Config{Worker: "bench", Nonce: "bench0000000", Window: window, Limit: limit}, p)
		if err != nil {
			return err
		}
		b.owned = append(b.owned, owned)
	}
	return nil
}

func (b *bench) release(ctx context.Context) error {
	for _, p := range b.owned {
		if err := p.Close(ctx); err != nil {
			return err
		}
	}
	b.owned = nil // and what they remember
	return nil
}

// stored is the journal's messages, and their bytes as the server counts them.
func (b *bench) stored(ctx context.Context) (jetstream.StreamState, error) {
	stream, err := b.js.Stream(ctx, journal.StreamName)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return stream.CachedInfo().State, nil
}
