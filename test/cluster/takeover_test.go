package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const ofOneServer = 24 // partitions

// A worker is killed under load: each of its partitions gets another owner, and an event that
// is published there afterwards is delivered. That this takes 15 s at most, by the
// protocol, is shown in virtual time: package outbox, TestTakeOver.
func TestPartitionsOfAKilledWorker(t *testing.T) {
	t.Parallel()
	began := time.Now()
	w := newWorld(t, size{nodes: 1, workers: 2, partitions: ofOneServer, rate: 200}, "METERWORKER_ACK_WAIT=30s")
	w.startFleet(ofOneServer)
	places := w.places()
	w.traffic.flow(50)
	w.grown(100)
	owned := w.owned(w.workers[0])
	before := w.client.markers()
	killed := time.Now()
	w.workers[0].kill()
	fresh := map[int]string{}
	for _, p := range owned {
		fresh[p], _ = w.traffic.publish(places[p])
	}
	w.shared(ofOneServer)
	t.Logf("killed with %d of %d partitions; the other worker owned all after %.1f s", len(owned), ofOneServer, time.Since(killed).Seconds())
	for _, p := range owned {
		until(t, fmt.Sprintf("a fresh event of partition %d", p), func() bool { _, ok := w.stripe.acceptedAt(fresh[p]); return ok })
	}
	t.Logf("fresh events of all %d partitions delivered after %.1f s, the first after %.1f s", len(owned), w.slowest(fresh, killed).Seconds(), w.quickest(fresh, killed).Seconds())
	w.taken(before, owned)
	w.verdict(began, nil)
}

// Owners stay where nothing changes; who comes back takes its share only, each partition of
// it once, under its former name and under another one. Each taking is an owner marker.
func TestOwnersStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, size{nodes: 1, workers: 3, partitions: ofOneServer, rate: 200})
	w.workers[0].start()
	w.workers[1].start()
	w.shared(ofOneServer)
	w.steady()
	before := w.client.markers()
	w.workers[2].start() // another name: its address
	w.shared(ofOneServer)
	w.steady()
	share := w.owned(w.workers[2])
	w.taken(before, share)
	before = w.client.markers()
	w.workers[2].kill()
	w.workers[2].start() // the same name
	until(t, "the share to be taken again", func() bool { return len(changed(before, w.client.markers())) == len(share) })
	w.steady()
	w.taken(before, share)
	if again := w.owned(w.workers[2]); !slices.Equal(again, share) {
		t.Errorf("it had %v and came back to %v", share, again)
	}
}

// steady waits for four beats of each worker in which nobody claims anything.
func (w *world) steady() {
	w.t.Helper()
	const beats = 4
	var quiet map[string]uint64 // beats when the markers changed last
	markers := map[int]uint64{}
	until(w.t, "owners that stay", func() bool {
		now, seen := w.client.markers(), w.client.beats()
		if !maps.Equal(now, markers) || len(quiet) != len(seen) {
			markers, quiet = now, seen
			return false
		}
		for name, beat := range seen {
			if beat < quiet[name]+beats {
				return false
			}
		}
		return true
	})
}

// beats are those of the live workers.
func (c *client) beats() map[string]uint64 {
	var members map[string]struct {
		Beat uint64 `json:"beat"`
	}
	c.entry("usage_control", "members", &members)
	beats := map[string]uint64{}
	for name, m := range members {
		beats[name] = m.Beat
	}
	return beats
}

// owned are the partitions of a worker, as it says itself.
func (w *world) owned(p *worker) []int {
	w.t.Helper()
	var share []int
	until(w.t, "the worker's partitions", func() bool {
		for name, owns := range w.client.owners() {
			if strings.HasSuffix(name, "/"+p.admin) && len(owns) == int(p.metric("meterworker_partitions_owned")) {
				share = owns
			}
		}
		return len(share) > 0
	})
	return share
}

// taken wants just these partitions to have got one marker each.
func (w *world) taken(before map[int]uint64, partitions []int) {
	w.t.Helper()
	after := w.client.markers()
	if moved := changed(before, after); !slices.Equal(moved, partitions) {
		w.t.Errorf("partitions %v were taken, want %v", moved, partitions)
	}
	for p, n := range after {
		if n > before[p]+1 {
			w.t.Errorf("partition %d was taken %d times", p, n-before[p])
		}
	}
}

// changed are the partitions with more markers than before.
func changed(before, after map[int]uint64) []int {
	var moved []int
	for p, n := range after {
		if n != before[p] {
			moved = append(moved, p)
		}
	}
	slices.Sort(moved)
	return moved
}

// places is a customer for each partition.
func (w *world) places() map[int]string {
	w.t.Helper()
	places := map[int]string{}
	for i := 0; len(places) < ofOneServer && i < 100*ofOneServer; i++ {
		customer := fmt.Sprintf("cus_place_%d", i)
		_, sequence := w.traffic.publish(customer)
		p, err := w.client.partitionOf(sequence)
		if err != nil {
			w.t.Fatal(err)
		}
		if places[p] == "" {
			places[p] = customer
		}
	}
	return places
}

func (w *world) slowest(events map[int]string, since time.Time) time.Duration {
	longest := time.Duration(0)
	for _, id := range events {
		at, _ := w.stripe.acceptedAt(id)
		longest = max(longest, at.Sub(since))
	}
	return longest
}

func (w *world) quickest(events map[int]string, since time.Time) time.Duration {
	shortest := patience
	for _, id := range events {
		at, _ := w.stripe.acceptedAt(id)
		shortest = min(shortest, at.Sub(since))
	}
	return shortest
}
