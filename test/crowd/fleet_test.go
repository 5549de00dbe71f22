package crowd

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/delivery"
	"github.com/meterworker/meterworker/internal/journal"
	"github.com/meterworker/meterworker/internal/journal/journaltest"
	"github.com/meterworker/meterworker/internal/metrics"
	"github.com/meterworker/meterworker/internal/ratelimit"
	"github.com/meterworker/meterworker/usage"
)

// world is what the workers have in common.
type world struct {
	t       *testing.T
	outbox  *outbox
	stripe  *stripe
	control *control
	journal *journaltest.Store
	served  [partitions]*served
	workers []*worker
	made    int
}

// served is one worker's hold on a partition.
type served struct {
	by   *worker
	stop context.CancelFunc
	done chan struct{}
}

// worker is one process, wired as cmd/meterworker does it.
type worker struct {
	name     string
	delivery *delivery.Worker
	lanes    *ratelimit.Lanes
	shared   *ratelimit.Shared
	client   *journaltest.Client
	end      context.CancelFunc
	running  sync.WaitGroup
}

// Distances of the NATS server, one way.
const (
	nearby  = 500 * time.Microsecond
	distant = 10 * time.Millisecond // of another region
	remote  = 30 * time.Millisecond // of another part of the world
)

func newWorld(t *testing.T, s *stripe, oneWay time.Duration) *world {
	w := &world{
		t: t, outbox: newOutbox(), stripe: s, journal: journaltest.New(),
		control: &control{random: rand.New(rand.NewPCG(3, 4)), oneWay: oneWay},
	}
	w.journal.SetSingle()
	return w
}

func (w *world) newWorker() *worker {
	w.made++
	v := &worker{name: fmt.Sprint("w", w.made)}
	random := rand.New(rand.NewPCG(uint64(w.made), 0))
	var mu sync.Mutex
	draw := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64()
	}
	v.client = w.journal.Client(func(journaltest.Call) journaltest.Fault {
		syncs := time.Duration(draw() * float64(3*time.Millisecond))
		return journaltest.Fault{Before: w.control.oneWay + syncs, After: w.control.oneWay}
	})
	v.shared = ratelimit.NewShared(ratelimit.SharedConfig{
		Rate: perSecond, Trouble: func(err error) { w.t.Errorf("the shared bucket: %v", err) },
		Open: func(context.Context) (jetstream.KeyValue, error) { return keys{control: w.control}, nil },
	})
	bucket := ratelimit.NewBucket(ratelimit.Config{Lessor: v.shared, Granted: func(time.Duration, float64) {}})
	v.lanes = ratelimit.NewLanes(func(int) {})
	gate := delivery.NewGate(func(state, reason string) {
		if state != delivery.StateClosed {
			w.t.Errorf("%s: the breaker is %s: %s", v.name, state, reason)
		}
	}, draw)
	v.delivery = delivery.NewWorker(delivery.Config{SafeWindow: 23 * time.Hour, Epoch: "e1", Ahead: perSecond / 4, Random: draw}, delivery.Parts{
		Sender: w.stripe, Permits: permits{bucket}, DeadLetters: nobody{w.t}, Lanes: v.lanes, Gate: gate,
		Metrics: metrics.New(metrics.Labels{BreakerStates: delivery.States()}), Log: zap.NewNop(),
	})
	var ctx context.Context
	ctx, v.end = context.WithCancel(context.Background())
	v.running.Go(func() { bucket.Run(ctx) })
	return v
}

// scale has that many workers: each partition goes over in order, from an owner that
// finishes what it has in hand to the next one.
func (w *world) scale(n int) {
	for len(w.workers) < n {
		w.workers = append(w.workers, w.newWorker())
	}
	leaving := w.workers[n:]
	w.workers = w.workers[:n]
	var all sync.WaitGroup
	for p := range w.served {
		if owner := w.owner(p); w.served[p] == nil || w.served[p].by != owner {
			all.Go(func() { w.handOver(p, owner) })
		}
	}
	all.Wait()
	for _, v := range leaving {
		v.close()
	}
}

// owner is the worker that a partition belongs to; nil: none is left.
func (w *world) owner(p int) *worker {
	if len(w.workers) == 0 {
		return nil
	}
	return w.workers[p%len(w.workers)]
}

func (v *worker) close() {
	v.lanes.Wait()
	v.end()
	v.running.Wait()
}

func (w *world) handOver(p int, to *worker) {
	if from := w.served[p]; from != nil {
		from.stop()
		<-from.done
	}
	if to == nil {
		return
	}
	stop, cancel := context.WithCancel(context.Background())
	s := &served{by: to, stop: cancel, done: make(chan struct{})}
	w.served[p] = s
	go func() {
		defer close(s.done)
		if err := w.serve(stop, p, to); err != nil {
			w.t.Errorf("%s, partition %d: %v", to.name, p, err)
		}
	}()
}

func (w *world) serve(stop context.Context, p int, v *worker) error {
	owned, err := journal.Claim(stop, v.client, journal.Config{Worker: v.name, Nonce: v.name, Window: 36 * 24 * time.Hour, Limit: 1 << 30}, p)
	if err != nil {
		return err
	}
	v.delivery.Serve(stop, context.Background(), delivery.Partition{
		Number: p, Journal: owned, Outbox: pull{w.outbox, p, stop.Done(), 2 * w.control.oneWay},
		Places: func() int {
			return min(max(int(math.Ceil(4*v.shared.Rate()/partitions)), 4), 512)
		},
	})
	return owned.Close(context.Background())
}

// publish stores an event, dated now.
func (w *world) publish(name, customer, identifier string) {
	e, err := usage.New(usage.Params{EventName: name, Customer: customer, Identifier: identifier, Value: 1, Timestamp: time.Now()})
	if err == nil {
		err = w.outbox.publish(e)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

type permits struct{ *ratelimit.Bucket }

// Take implements delivery.Permits.
func (p permits) Take(ctx context.Context) (delivery.Permit, error) { return p.Bucket.Take(ctx) }

// nobody has dead letters here.
type nobody struct{ t *testing.T }

// Publish implements delivery.DeadLetters.
func (n nobody) Publish(_ context.Context, l deadletter.Letter, _ map[string]string, _ []byte) error {
	n.t.Errorf("message %d is buried: %s %s", l.Sequence, l.Reason, l.Detail)
	return nil
}

// Stored implements delivery.DeadLetters.
func (nobody) Stored(context.Context, deadletter.Letter, time.Time) (bool, error) { return false, nil }
