package ratelimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/natstest"
)

// patience bounds every wait. It is never what a test measures.
const patience = 30 * time.Second

// open connects a replica of its own.
func open(b *natstest.Server) func(context.Context) (jetstream.KeyValue, error) {
	js := b.Connect()
	return func(ctx context.Context) (jetstream.KeyValue, error) {
		kv, err := js.KeyValue(ctx, "usage_control")
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "usage_control", Storage: jetstream.MemoryStorage})
			if errors.Is(err, jetstream.ErrBucketExists) {
				kv, err = js.KeyValue(ctx, "usage_control")
			}
		}
		return kv, err
	}
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !reached(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// slotted is a lease, and how far off its times can be at the most: the way to the
// server is as long as the machine makes it.
type slotted struct {
	Lease

	off time.Duration
}

// noting keeps every lease of all replicas.
type noting struct {
	*Shared

	mu    *sync.Mutex
	slots *[]slotted
}

func (n noting) Lease(ctx context.Context, want int) (Lease, error) {
	lease, err := n.Shared.Lease(ctx, want)
	if err == nil && lease.Permits > 0 {
		n.mu.Lock()
		defer n.mu.Unlock()
		drifted := time.Duration(drift * float64(time.Since(n.clock.sampled)))
		*n.slots = append(*n.slots, slotted{lease, (n.clock.high-n.clock.low)/2 + drifted + time.Millisecond})
	}
	return lease, err
}

// TestReplicasOnAServer: three replicas on a real server take disjoint slots, also
// after the server was restarted without its memory, and none is troubled before. When a
// permit is granted depends on what else the machine does, so slots are held against
// each other, not grants.
func TestReplicasOnAServer(t *testing.T) {
	b := natstest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var slots []slotted
	var troubles []error
	all := &grants{}
	var running sync.WaitGroup
	for range 3 {
		shared := NewShared(SharedConfig{Rate: 1000, Open: open(b), Trouble: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			troubles = append(troubles, err)
		}})
		bucket := NewBucket(Config{Granted: all.note, Lessor: noting{shared, &mu, &slots}})
		running.Go(func() { bucket.Run(ctx) })
		running.Go(workers(ctx, bucket, 100).Wait)
	}
	until(t, "1,500 permits", func() bool { return len(all.times()) >= 1500 })
	mu.Lock()
	if len(troubles) != 0 {
		t.Errorf("troubles on a sound server: %v", troubles)
	}
	mu.Unlock()
	b.Restart()
	before := len(all.times())
	until(t, "1,500 permits after the restart", func() bool { return len(all.times()) >= before+1500 })
	cancel()
	running.Wait()
	checkDisjoint(t, slots)
}

func checkDisjoint(t *testing.T, slots []slotted) {
	t.Helper()
	slices.SortFunc(slots, func(a, b slotted) int { return a.From.Compare(b.From) })
	permits, worst := 0, time.Duration(0)
	for i, s := range slots {
		permits += s.Permits
		worst = max(worst, s.off)
		if i == 0 {
			continue
		}
		before := slots[i-1]
		if overlap := before.slot(before.Permits).Sub(s.From); overlap > before.off+s.off {
			t.Errorf("slot %d begins %v before the end of the one before; the clocks are %v off at most", i, overlap, before.off+s.off)
		}
	}
	t.Logf("%d permits in %d leases, clocks known within %v", permits, len(slots), worst)
}
