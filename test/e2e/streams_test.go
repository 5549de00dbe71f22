package e2e

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// letters reads the whole dead-letter stream.
func (w *world) letters() []jetstream.Msg {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	consumer, err := w.js.OrderedConsumer(ctx, "USAGE_DLQ", jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	stream, err := w.js.Stream(ctx, "USAGE_DLQ")
	if err != nil {
		w.t.Fatal(err)
	}
	var all []jetstream.Msg
	for left := stream.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (w *world) letterCount() int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, "USAGE_DLQ")
	if err != nil {
		return 0
	}
	return int(stream.CachedInfo().State.Msgs)
}

// settled reports whether every stored message is acked.
func (w *world) settled() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, "USAGE")
	if err != nil {
		return false
	}
	consumers := stream.ListConsumers(ctx)
	seen := 0
	for info := range consumers.Info() {
		if !strings.HasPrefix(info.Name, "worker-") {
			continue
		}
		seen++
		if info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return seen > 0 && consumers.Err() == nil
}
