package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/outbox"
	"github.com/meterworker/meterworker/internal/ratelimit"
)

// contenders change one key at once.
const contenders = 8

// swapsThatLose: on a cluster a swap that lost has another error code than on a server that
// runs alone, and a replica may answer with an old revision. Members, orders and the
// shared bucket take neither for a failure, and lose no change.
func (w *world) swapsThatLose(partitions int) {
	w.t.Helper()
	for _, p := range w.workers {
		if code := p.terminate(); code != 0 {
			w.t.Errorf("worker %d: exit code %d after SIGTERM", p.number, code)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	streams, err := outbox.Open(ctx, w.client.js, outbox.Settings{Mode: "test", Partitions: partitions, Replicas: clusterSize, AckWait: 3 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	kv, err := streams.Durable(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	codes := w.race(ctx, kv)
	if codes[codeReplicated] == 0 {
		w.t.Errorf("no swap was refused in the way of a cluster: %v", codes)
	}
	w.beatsAtOnce(ctx, streams)
	w.ordersAtOnce(ctx, kv)
	w.leasesAtOnce(ctx, streams)
	w.t.Logf("%d contenders for one key, by error code (0: won): %v", contenders, codes)
}

// codeReplicated is a lost swap on a replicated bucket.
const codeReplicated jetstream.ErrorCode = 10164

// atOnce lets all contenders do something, in rounds: nobody is late by more than one.
func atOnce(do func(contender int)) {
	const rounds = 5
	for range rounds {
		var all sync.WaitGroup
		for i := range contenders {
			all.Go(func() { do(i) })
		}
		all.Wait()
	}
}

// race counts the answers to swaps of the same revision.
func (w *world) race(ctx context.Context, kv jetstream.KeyValue) map[jetstream.ErrorCode]int {
	w.t.Helper()
	var mu sync.Mutex
	codes := map[jetstream.ErrorCode]int{}
	revision, err := kv.Create(ctx, "race", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for range 20 {
		var all sync.WaitGroup
		from := revision
		for i := range contenders {
			all.Go(func() {
				to, err := kv.Update(ctx, "race", fmt.Append(nil, i), from)
				mu.Lock()
				defer mu.Unlock()
				var refused *jetstream.APIError
				switch {
				case err == nil:
					codes[0]++
					revision = to
				case errors.As(err, &refused):
					codes[refused.ErrorCode]++
				default:
					w.t.Error(err)
				}
			})
		}
		all.Wait()
	}
	return codes
}

func (w *world) beatsAtOnce(ctx context.Context, streams *outbox.Streams) {
	w.t.Helper()
	var crew []*outbox.Members
	for i := range contenders {
		m, err := streams.Members(ctx, fmt.Sprintf("contender %d", i))
		if err != nil {
			w.t.Fatal(err)
		}
		crew = append(crew, m)
	}
	atOnce(func(i int) {
		if err := crew[i].Beat(ctx); err != nil {
			w.t.Errorf("beat of contender %d: %v", i, err)
		}
	})
	for i, m := range crew {
		if err := m.Beat(ctx); err != nil || m.Live() != contenders {
			w.t.Errorf("contender %d sees %d of %d: %v", i, m.Live(), contenders, err)
		}
	}
}

func (w *world) ordersAtOnce(ctx context.Context, kv jetstream.KeyValue) {
	w.t.Helper()
	before, err := outbox.ReadOrders(ctx, kv)
	if err != nil {
		w.t.Fatal(err)
	}
	given := 0
	var mu sync.Mutex
	atOnce(func(i int) {
		_, err := outbox.Order(ctx, kv, func(o *outbox.Orders) { o.Resumed++ })
		if err != nil {
			w.t.Errorf("order of contender %d: %v", i, err)
		}
		mu.Lock()
		defer mu.Unlock()
		given++
	})
	until(w.t, "every order to be kept", func() bool {
		after, err := outbox.ReadOrders(ctx, kv)
		return err == nil && after.Resumed == before.Resumed+given
	})
}

func (w *world) leasesAtOnce(ctx context.Context, streams *outbox.Streams) {
	w.t.Helper()
	var lessors []*ratelimit.Shared
	for i := range contenders {
		lessors = append(lessors, ratelimit.NewShared(ratelimit.SharedConfig{Rate: 1000, Open: streams.Control, Trouble: func(err error) {
			if err != nil {
				w.t.Errorf("lessor %d: %v", i, err)
			}
		}}))
	}
	atOnce(func(i int) {
		if _, err := lessors[i].Lease(ctx, 1); err != nil {
			w.t.Errorf("lease of contender %d: %v", i, err)
		}
	})
}
