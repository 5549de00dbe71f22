package cluster

import (
	"slices"
	"testing"
	"time"
)

// roomOfUsage is what USAGE gets of the 4 GB that each server has for all streams.
const roomOfUsage = 2 << 30

var streams = []string{"USAGE", "USAGE_JOURNAL", "USAGE_DLQ", "USAGE_AUDIT", "KV_usage_control", "KV_usage_control_durable"}

// Two workers on three servers, and everything that happens to a cluster once: each group
// gets another leader, the leader of USAGE is killed, and so is a worker.
func TestCluster(t *testing.T) {
	t.Parallel()
	began := time.Now()
	w := newWorld(t, size{nodes: clusterSize, workers: 2, partitions: 6, rate: 200})
	w.startFleet(6)
	t.Logf("servers and workers started at once: ready after %.1f s", time.Since(began).Seconds())
	if size := w.client.info("USAGE").Config.MaxBytes; size != roomOfUsage {
		t.Errorf("USAGE was made with room for %d MiB, want %d: servers were missing at that moment", size>>20, int64(roomOfUsage)>>20)
	}
	w.traffic.flow(40)
	w.grown(80)
	faults := []fault{
		w.strike("step-downs", "all", func() { w.stepDownAll() }),
		w.strike("server killed", "leader of USAGE", func() {
			leader := w.leaderOf("USAGE")
			leader.kill()
			w.elected("USAGE", leader.name)
			leader.back()
		}),
		w.strike("worker killed", "worker 0", func() {
			w.workers[0].kill()
			w.grown(40)
			w.workers[0].start()
		}),
	}
	w.shared(6)
	w.verdict(began, faults)
	w.swapsThatLose(6)
}

// leaderOf is the server that leads a stream.
func (w *world) leaderOf(stream string) *node {
	w.t.Helper()
	var leader string
	until(w.t, "a leader of "+stream, func() bool { leader = w.client.leader(stream); return leader != "" })
	return w.all[w.named(leader)]
}

// elected waits until another server leads the stream.
func (w *world) elected(stream, former string) {
	w.t.Helper()
	until(w.t, "another leader of "+stream, func() bool {
		leader := w.client.leader(stream)
		return leader != "" && leader != former
	})
}

// stepDownAll makes each stream's and each consumer's leader hand over, and waits until the
// streams have others.
func (w *world) stepDownAll() {
	w.t.Helper()
	former := map[string]string{}
	for _, stream := range streams {
		former[stream] = w.leaderOf(stream).name
		until(w.t, stream+" to step down", func() bool { return w.client.stepDown(stream) })
	}
	for stream, leader := range former {
		w.elected(stream, leader)
	}
	var consumers []string
	until(w.t, "the consumers", func() bool { consumers = w.client.consumers(); return len(consumers) > 0 })
	slices.Sort(consumers)
	for _, consumer := range consumers {
		until(w.t, consumer+" to step down", func() bool { return w.client.stepDown("USAGE." + consumer) })
	}
}
